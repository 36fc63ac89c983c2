"""The runtime on containers, as runs, `doctor` and the report know it. Docker's SDK is imported once the runtime is used."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Protocol

from chaoslab.cleanup.journal import AnyStep, RunCommand
from chaoslab.errors import ChaoslabError, EnvironmentFault
from chaoslab.process import run
from chaoslab.run import host
from chaoslab.run.runtimes import Finding, Readiness, Runtime, label
from chaoslab.spec.stackfile.compose import ComposeFile
from chaoslab.stack.protocol import CanBlock, CanCutDisks, CanDestroyDisks, CanStop, CanThrottle, Stack

_NAME = "compose"
_SWEEP_TIMEOUT_S = 60.0
_TEST_NET = "192.0.2.1"  # RFC 5737: an address that is never in use


class ComposeAbilities(CanStop, CanThrottle, CanBlock, CanDestroyDisks, CanCutDisks, Protocol):
    """What `ComposeStack` can do, known without importing it."""

    @classmethod
    def why_no_cut(cls) -> str | None:
        if not host.is_installed("docker"):
            return None
        from chaoslab.stack.compose import own_disks

        return own_disks.why_no_cut()


class ComposeRuntime(Runtime):
    """See `chaoslab.stack.compose.stack`."""

    name = _NAME
    abilities = ComposeAbilities
    limits = (
        "Latency and refused connections come from Toxiproxy, which works on streams, not packets; silent cuts come from "
        "real packet filter rules.",
    )

    def make(self, compose: ComposeFile, run_id: str, data: Path, logs: Path) -> Stack:
        from chaoslab.stack.compose.stack import ComposeStack

        return ComposeStack(compose, run_id, data, logs)

    def undo_steps(self, run_id: str) -> list[AnyStep]:
        """Undone from the last to the first: a process that could still start containers ends before they are removed."""
        from chaoslab.stack.compose import sweep

        return [RunCommand(sweep.command(run_id), tempfile.gettempdir(), _SWEEP_TIMEOUT_S), *super().undo_steps(run_id)]

    def require(self, compose: ComposeFile) -> None:
        from chaoslab.stack.compose import ready

        ready.require(compose.files, compose.topology().replicas)

    def readiness(self, compose: ComposeFile) -> Readiness:
        """Of the images, too: they have to be there, or to be had."""
        from chaoslab.stack.compose import ready

        found = ready.readiness(compose.files, compose.topology().replicas)
        return Readiness(found.ready, found.why)

    def looks(self) -> Sequence[Callable[[], Finding]]:
        return (docker_sdk, docker_client, docker_engine, compose_plugin, images, packet_rules)

    def looks_for(self, stacks: Sequence[ComposeFile]) -> Sequence[Callable[[], Finding]]:
        return (partial(stacks_in_containers, stacks),) if stacks else ()


def stacks_in_containers(stacks: Sequence[ComposeFile]) -> Finding:
    """Whether Compose takes the files of the stacks, and their images are there or can be had."""
    name = "stacks in containers"
    if not host.is_installed("docker"):
        return Finding(name, False, "not checked without Docker's SDK", host.INSTALL, (_NAME,))
    from chaoslab.stack.compose import ready
    from chaoslab.stack.compose.engine import connect

    try:
        connect()
    except EnvironmentFault:
        return Finding(name, False, "not checked without an engine", "see docker engine", ())
    found = {label(compose): ready.readiness(compose.files, compose.topology().replicas) for compose in stacks}
    wrong = {name: one for name, one in found.items() if not one.ready}
    reasons = [f"{name}: {one.why}" for name, one in wrong.items()] or sorted({one.why for one in found.values()})
    cure = next((one.cure for one in wrong.values()), None) or "fix the file"
    return Finding(name, not wrong, "\n".join(reasons), cure if wrong else None, (_NAME,))


def docker_sdk() -> Finding:
    """Docker's SDK for Python."""
    there = host.is_installed("docker")
    return Finding("docker SDK", there, "installed" if there else "not installed", host.INSTALL, (_NAME,))


def docker_client() -> Finding:
    """The `docker` command."""
    path = host.program("docker")
    return Finding("docker command", path is not None, str(path or "none"), "apt-get install docker.io", (_NAME,))


def _docker_finding(name: str, needed_by: tuple[str, ...]) -> Callable[[Callable[[], str]], Callable[[], Finding]]:
    """Make a finding of a question to Docker: what it returns was found; its error carries the cure."""

    def looking(question: Callable[[], str]) -> Callable[[], Finding]:
        @wraps(question)
        def look() -> Finding:
            if not host.is_installed("docker"):
                return Finding(name, False, "not checked without Docker's SDK", host.INSTALL, (_NAME,))
            try:
                return Finding(name, True, question(), None, needed_by)
            except ChaoslabError as broken:
                return Finding(name, False, str(broken.args[0]).strip(), broken.cure, needed_by)

        return look

    return looking


@_docker_finding("docker engine", (_NAME,))
def docker_engine() -> str:
    """A Docker engine that answers: the one that the user's own `docker` command talks to."""
    from chaoslab.stack.compose.engine import connect

    engine = connect()
    return f"{engine.version} at {engine.url}"


@_docker_finding("compose v2", (_NAME,))
def compose_plugin() -> str:
    """Compose v2."""
    from chaoslab.stack.compose.engine import require_compose

    return require_compose()


@_docker_finding("images", ())
def images() -> str:
    """The images of the links. They are made or pulled before a run, which takes a network."""
    from chaoslab.stack.compose import images as known
    from chaoslab.stack.compose.engine import connect

    engine = connect()
    missing = [tag for tag in (known.TOXIPROXY, known.WAN) if not known.has(engine, tag)]
    if missing:
        raise EnvironmentFault(f"{', '.join(missing)}: not there yet", cure="make images (a run also tries this)")
    return "there"


@_docker_finding("packet rules", ())
def packet_rules() -> str:
    """NET_ADMIN: whether a container, which ends at once, may set a packet rule in its own network namespace."""
    from chaoslab.files import last_lines
    from chaoslab.stack.compose import images as known
    from chaoslab.stack.compose.engine import connect

    if not known.has(connect(), known.WAN):
        raise EnvironmentFault("not checked, because its image is missing", cure="run make images, then chaoslab doctor again")
    rule = ["--entrypoint", "iptables", known.WAN, "-A", "OUTPUT", "-d", _TEST_NET, "-j", "DROP"]
    answer = run(["docker", "run", "--rm", "--network", "none", "--cap-add", "NET_ADMIN", *rule], timeout_s=30)
    if answer.returncode:
        cure = "allow containers NET_ADMIN, and load the kernel's iptables modules"
        raise EnvironmentFault(last_lines(answer.stderr, 2), cure=cure)
    return "containers can set them"
