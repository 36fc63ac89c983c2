"""Several runs on one stack that is booted once: each has a folder and a verdict, and none begins on a stack that is not clean.

with SharedStack(Options(project, runtime.name)) as stack:
    for users in ("10", "20", "40"):
        outcome = stack.run(load_experiment(file, {"load.users": users}))
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from chaoslab.background import in_thread
from chaoslab.cleanup import reaper
from chaoslab.clock import NS_PER_S, SYSTEM
from chaoslab.engine.steady_proof import why_not_steady
from chaoslab.engine.trial import Trial
from chaoslab.errors import EnvironmentFault, NotReady, SpecError
from chaoslab.faults.abilities import cut_replicas, relayed_services
from chaoslab.history.folder import RunFolder
from chaoslab.history.redact_logs import redact_logs
from chaoslab.report.view import JsonView, View
from chaoslab.run.people import asking_people
from chaoslab.run.session import (
    MadeStack,
    Options,
    RunOutcome,
    checked_runtime,
    listen,
    new_folder,
    note_left,
    plan_of,
    signals_to,
    stack_in_the_end_undone,
)
from chaoslab.spec.load import Loaded
from chaoslab.spec.objectives import watches_starts
from chaoslab.spec.secrets import secrets_of
from chaoslab.stack.protocol import Stack

STACKS = "stacks"  # below the root of all runs: a folder for each stack, with its undo journal and the logs of its replicas


class Readied(NamedTuple):
    """How a stack was made ready: whether it was booted for that, and how long all of it took."""

    booted: bool
    took_s: float


class SharedStack:
    """At most one stack at a time, booted when it is first needed. A context manager: at its end the stack is taken down.

    Between two runs it verifies that the stack is clean: nothing is left of faults, all links are untouched, all replicas are
    healthy. A stack that is not clean, or that a run cannot use, is taken down and rebooted; `on_message` gets a line for each
    event. The writes of each run have names of their own, so its ledger holds no others. Other state that the stack keeps from
    earlier runs is noticed only if a condition of the steady state checks it.
    """

    def __init__(self, options: Options, on_message: Callable[[str], None] = lambda _: None) -> None:
        """Raises SpecError with `keep`: nothing would take the stack down."""
        if options.keep:
            raise SpecError("a stack that is shared by several runs cannot be kept")
        self._options = options
        self._say = on_message
        self._for: Loaded | None = None  # whose stack it is, as it was last used
        self._made: MadeStack | None = None
        self._relayed: frozenset[str] = frozenset()
        self._watched = False  # failed connections are known from the boot on, or not at all
        self._cut: frozenset[str] = frozenset()
        self._home = Path()
        self._until_undone = contextlib.ExitStack()
        self._proofs = 0
        self._left: list[str] = []  # by earlier stacks, in words, and not returned yet

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for left in self.close():
            self._say(f"left behind: {left}")

    @property
    def stack(self) -> Stack | None:
        """The stack that is up; None when there is none."""
        return None if self._made is None else self._made.session.stack

    def run(self, loaded: Loaded, view: View | None = None, *, last: bool = False) -> RunOutcome:
        """Run an experiment on the stack; booted first if need be. `last`: the stack is taken down at the end, in the run.

        Without it, the result says that the stack was kept. Raises as `run_once`; whatever is raised, the stack is down then.
        """
        view = view or JsonView()
        try:
            options, secrets = self._options, secrets_of(loaded, os.environ)
            made = self._usable_stack(loaded)
            folder = new_folder(loaded, options, secrets)
            made.logs.append(folder.logs)
            reaper.redact_too(made.watcher, folder.logs, secrets)
            facts = {"stack": os.path.relpath(self._home, options.project), "trial": made.session.trials + 1}
            plan = plan_of(loaded, options, folder, secrets, made.run_id, last=last, more_facts=facts)
            received: list[int] = []
            with contextlib.ExitStack() as until_over:
                if options.signals:
                    stop = made.session.stop
                    until_over.enter_context(signals_to(stop, view, received, outlives_terminal=options.attended))
                if options.attended:
                    until_over.enter_context(asking_people(folder, options.project, view))
                finished = listen(Trial(made.session, plan).events(), view, secrets)
                if made.session.is_down:
                    left = self.close()
                    if left:
                        note_left(folder, secrets, left)
                else:
                    redact_logs(folder.logs, secrets)
                if finished.unrecorded is not None:
                    raise EnvironmentFault(finished.unrecorded)
                from chaoslab.run.finalize import finalize_run

                return RunOutcome.of(folder, finalize_run(folder).publish(folder), received)
        except BaseException:  # an interrupt, too: the faults of a run that was left half-way are undone by the reaper
            self._left = self.close()
            raise

    def ready(self, loaded: Loaded) -> Readied:
        """Have the stack of an experiment up, and proven clean and in its steady state, without load.

        One that is not is rebooted, once. Raises as `run`; NotReady when it is not steady even then.
        """
        began_ns = SYSTEM.now_ns()
        try:
            booted, why = self._prove(loaded)
            if why is not None and not booted:
                self._abandon(f"it is not in its steady state: {why}")
                booted, why = self._prove(loaded)
            if why is not None:
                raise NotReady(f"the stack of {loaded.experiment.name} is not in its steady state: {why}")
        except BaseException:
            self._left = self.close()
            raise
        return Readied(booted, (SYSTEM.now_ns() - began_ns) / NS_PER_S)

    def close(self) -> list[str]:
        """Take the stack down, if one is up; what could not be ended or undone is returned in words, once.

        With what earlier stacks left behind that were rebooted, or that an error ended.
        """
        left, self._left = self._left, []
        if self._made is not None:
            made, self._made = self._made, None
            left += made.session.down()
            self._until_undone.close()
            left += made.left
        return list(dict.fromkeys(left))

    def _prove(self, loaded: Loaded) -> tuple[bool, str | None]:
        """Whether it was booted, and why it is not steady."""
        made = self._usable_stack(loaded)
        booted = self._is_new
        if booted:
            made.session.make_ready(self._say)
        self._proofs += 1
        writer = f"proof-{self._proofs}"
        work = in_thread(lambda: why_not_steady(made.session.stack, loaded, writer, SYSTEM), "the proof of the steady state")
        return booted, work.result()

    def _usable_stack(self, loaded: Loaded) -> MadeStack:
        """The stack that is up, if this experiment can use it; else a new one, not booted yet."""
        runtime = checked_runtime(loaded, self._options)
        if self._for is None or self._for.compose != loaded.compose:
            self._relayed = self._cut = frozenset()
        relayed = relayed_services(loaded.experiment.faults)
        cut = cut_replicas(loaded.experiment.faults, loaded.compose.topology())
        if self._made is not None:
            why = None
            if self._for is not None and self._for.compose != loaded.compose:
                why = f"{loaded.experiment.name} uses another stack"
            elif more := relayed - self._relayed:
                why = f"{loaded.experiment.name} has to block {', '.join(sorted(more))} within a site"
            elif watches_starts(loaded.experiment, loaded.compose.spec) and not self._watched:
                why = f"{loaded.experiment.name} has to see failed connections between replicas"
            elif more := cut - self._cut:
                why = f"{loaded.experiment.name} has to cut the power of the volumes of {', '.join(sorted(more))}"
            elif not self._is_new:
                why = self._made.session.why_unusable()
            if why is not None:
                self._abandon(why)
        self._for = loaded
        self._relayed |= relayed
        self._cut |= cut
        if self._made is None:
            options, secrets = self._options, secrets_of(loaded, os.environ)
            home = RunFolder.create((options.project / options.root).resolve(), STACKS)
            making = stack_in_the_end_undone(loaded, runtime, home, secrets, options, self._relayed, self._cut)
            self._made = self._until_undone.enter_context(making)
            self._watched = watches_starts(loaded.experiment, loaded.compose.spec)
            self._home, self._proofs = home.path, 0
        return self._made

    @property
    def _is_new(self) -> bool:
        return self._made is not None and self._made.session.trials == 0 and not self._proofs

    def _abandon(self, why: str) -> None:
        self._say(f"the stack is rebooted: {why}")
        self._left = self.close()
        for left in self._left:
            self._say(f"left behind: {left}")
