"""The runtimes: what each offers, which ones exist, and which of them a run uses.

The built-in ones are named below, and nowhere else. Other packages add theirs with an entry point of the group
`chaoslab.runtimes`: its name is the runtime's, its value a subclass of `Runtime` whose stacks implement
`chaoslab.stack.protocol.Stack`.
A runtime is imported when it is used, so that its dependencies, such as Docker's SDK, are not imported for another.
"""

from __future__ import annotations

import contextlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from chaoslab.cleanup.journal import AnyStep, EndProcesses
from chaoslab.errors import ChaoslabError, EnvironmentFault, SpecError

if TYPE_CHECKING:
    from pathlib import Path

    from chaoslab.spec.load import Loaded
    from chaoslab.spec.stackfile.compose import ComposeFile
    from chaoslab.stack.protocol import Stack

GROUP = "chaoslab.runtimes"
AUTO = "auto"  # stands for the first of _AUTO_ORDER that is ready
_OUR_OWN = {
    "embedded": "chaoslab.run.embedded:EmbeddedRuntime",
    "compose": "chaoslab.run.compose:ComposeRuntime",
}
_AUTO_ORDER = ("compose", "embedded")  # other packages' runtimes are taken by name only


class Readiness(NamedTuple):
    """`why`: one line, why a runtime can or cannot be used. `needs`: what it would need to be ready, a line each."""

    ready: bool
    why: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One thing that `chaoslab doctor` looked at. `needed_by`: the runtimes that cannot do without; none for a convenience."""

    name: str
    ok: bool
    found: str
    cure: str | None = None
    needed_by: tuple[str, ...] = ()


class Runtime(ABC):
    """Somewhere a stack can run. Made without arguments, each time that it is asked for.

    `abilities` is a class with the verbs of `stack.protocol.Can…` that the stacks of this runtime have, such as the stack's
    own class: a fault that needs others is refused before anything starts.
    `limits` are sentences: what a run on this runtime cannot show.
    """

    name: ClassVar[str]
    abilities: ClassVar[type]
    limits: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def make(self, compose: ComposeFile, run_id: str, data: Path, logs: Path) -> Stack:
        """A stack that is not up yet. `data` and `logs` are private folders of this run; `data` is removed at its end."""

    def undo_steps(self, run_id: str) -> list[AnyStep]:
        """What undoes all that a stack of this run may do, whenever the harness dies. Journaled before the stack is made.

        Undone from the last to the first.
        """
        from chaoslab.stack.reach import RUN_VARIABLE

        return [EndProcesses(RUN_VARIABLE, run_id)]

    def require(self, compose: ComposeFile) -> None:  # noqa: B027 -- a runtime may need nothing
        """Check what the boot cannot bring about. Changes nothing.

        Raises EnvironmentFault when this machine lacks it, SpecError when the runtime does not take the stack as it is.
        """

    def readiness(self, compose: ComposeFile) -> Readiness:
        """Whether a stack would come up here. Changes nothing and raises nothing."""
        try:
            self.require(compose)
        except ChaoslabError as failed:
            return Readiness(False, str(failed.args[0]).splitlines()[0])
        return Readiness(True, f"{self.name} is ready")

    def looks(self) -> Sequence[Callable[[], Finding]]:
        """What `chaoslab doctor` has to look at for any stack on this runtime, one function each.

        Their docstrings say what they look at.
        """
        return ()

    def looks_for(self, stacks: Sequence[ComposeFile]) -> Sequence[Callable[[], Finding]]:
        """What it has to look at for these stacks."""
        return ()


def label(compose: ComposeFile) -> str:
    """How findings name a stack: its files, beginning with the folder of the first."""
    return " + ".join(f"{file.parent.name}/{file.name}" for file in compose.files)


def names() -> list[str]:
    """Every runtime that there is, our own first.

    Raises EnvironmentFault when another package offers a runtime by a name that is taken.
    """
    return [*_OUR_OWN, *_offered()]


def is_known(name: str) -> bool:
    """Whether a run can be asked for this runtime, or for `auto`. Raises as `names` does."""
    return name in (AUTO, *_OUR_OWN) or name in _offered()


def get(name: str) -> Runtime:
    """A runtime by its name.

    Raises SpecError when there is none of this name, EnvironmentFault when another package's cannot be loaded.
    """
    if (own := _OUR_OWN.get(name)) is not None:
        module, _, attribute = own.partition(":")
        found: Runtime = getattr(importlib.import_module(module), attribute)()
        return found
    entry = _offered().get(name)
    if entry is None:
        raise SpecError(f"there is no runtime {name!r}", cure=f"use one of {', '.join(names())}")
    try:
        kind: Any = entry.load()
        if not (isinstance(kind, type) and issubclass(kind, Runtime)):
            raise TypeError(f"{entry.value} is not a subclass of chaoslab.run.runtimes.Runtime")
        if kind.name != entry.name:
            raise ValueError(f"it calls itself {kind.name!r}")
        return kind()
    except Exception as broken:
        reason = f"{type(broken).__name__}: {broken}"
        raise EnvironmentFault(
            f"the runtime {name!r} cannot be loaded: {_in_words(entry)}: {reason}",
            cure=f"repair or uninstall {_package(entry)}",
        ) from broken


def limits_of(name: str) -> list[str]:
    """What a run on this runtime cannot show, in sentences; none when there is no such runtime, or it cannot be loaded."""
    with contextlib.suppress(ChaoslabError):
        return [*get(name).limits]
    return []


def choose_runtime(wanted: str, loaded: Loaded) -> tuple[Runtime, str]:
    """The runtime for a run, and why, in words. `auto` is Compose where that is ready for the stack, else embedded.

    Raises EnvironmentFault when a runtime that was asked for, or with `auto` each, cannot be used here, or when the load cannot
    be generated; SpecError when one that was asked for does not take the stack, or cannot do a fault of the timeline.
    """
    if loaded.experiment.load is not None:
        from chaoslab.load.process import require_locust

        require_locust()
    if wanted != AUTO:
        runtime = get(wanted)
        runtime.require(loaded.compose)
        require_possible(loaded, runtime)
        return runtime, "asked for"
    passed_over: dict[str, Readiness] = {}
    for name in _AUTO_ORDER:
        runtime = get(name)
        found = runtime.readiness(loaded.compose)
        if found.ready:
            require_possible(loaded, runtime)
            return runtime, "; ".join(other.why for other in passed_over.values()) or found.why
        passed_over[name] = found
    lines = [f"no runtime is ready for {loaded.compose.files[0].name}, the stack of {loaded.experiment.name}:"]
    for name, found in passed_over.items():
        lines += [f"  {name}: {found.why}", *(f"    {need}" for need in found.needs)]
    raise EnvironmentFault("\n".join(lines), cure=f"chaoslab doctor {loaded.experiment.name} shows how to get one ready")


def runtime_to_plan(wanted: str, loaded: Loaded) -> tuple[Runtime, str]:
    """As `choose_runtime`, for a plan: where no runtime is ready, the one that `auto` prefers, and why it is not."""
    try:
        return choose_runtime(wanted, loaded)
    except EnvironmentFault:
        runtime = get(_AUTO_ORDER[0] if wanted == AUTO else wanted)
        require_possible(loaded, runtime)
        return runtime, f"not ready here; see: chaoslab doctor {loaded.experiment.name}"


def require_possible(loaded: Loaded, runtime: Runtime) -> None:
    """Raises SpecError when the timeline has a fault that this runtime cannot do."""
    from chaoslab.faults.abilities import refuse_impossible

    refuse_impossible(loaded.experiment.faults, loaded.compose.topology(), runtime.abilities, runtime.name)


def impossible_on(loaded: Loaded) -> dict[str, str]:
    """By runtime, why it cannot do this experiment, on one line; a runtime that cannot be loaded is left out."""
    impossible: dict[str, str] = {}
    for name in names():
        try:
            require_possible(loaded, get(name))
        except SpecError as refused:
            impossible[name] = "; ".join(str(refused.args[0]).splitlines())
        except EnvironmentFault:
            continue
    return impossible


@cache
def _offered() -> dict[str, EntryPoint]:
    """The runtimes of other packages by name. Looking for them takes a tenth of a second."""
    offered: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        taken = "chaoslab's own" if entry.name in (AUTO, *_OUR_OWN) else None
        if entry.name in offered:
            taken = f"that of {_in_words(offered[entry.name])}"
        if taken is not None:
            raise EnvironmentFault(
                f"two runtimes are called {entry.name!r}: that of {_in_words(entry)}, and {taken}",
                cure=f"uninstall {_package(entry)}, or have its runtime renamed",
            )
        offered[entry.name] = entry
    return offered


def _in_words(entry: EntryPoint) -> str:
    return f"the entry point {entry.name} = {entry.value} of {_package(entry)}"


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown package"
