"""`chaoslab doctor`: what this machine can do, and the cure for what it can't. Looks only; changes nothing."""

from __future__ import annotations

import json
import os
import platform
import resource
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Literal

import click
import psutil

from chaoslab.errors import ChaoslabError, ExitCode
from chaoslab.host import program, server_version
from chaoslab.process import run

Runtime = Literal["embedded", "compose"]
RUNTIMES: tuple[Runtime, ...] = ("embedded", "compose")
BOTH = RUNTIMES
_MEMORY_GB = 1.5
_DISK_GB = 2.0
_FILES = 4096
_PORTS = 64  # a two-site stack with its relays takes about that many
_SETUP = "make setup, or pip install 'chaoslab[{}]'"
_SETUP_ITSELF = "make setup, or pip install chaoslab: it is one of its own requirements"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `needed_by`: the runtimes that cannot do without; none for a convenience."""

    name: str
    ok: bool
    found: str
    cure: str | None = None
    needed_by: tuple[Runtime, ...] = ()


def examine() -> list[Finding]:
    """Look at everything. A check that breaks is a finding of its own, never the end of the others."""
    return [_guarded(look) for look in LOOKS]


def available(findings: Sequence[Finding]) -> dict[Runtime, list[str]]:
    """For each runtime, what it lacks; nothing means that it is there."""
    return {
        runtime: [finding.name for finding in findings if not finding.ok and runtime in finding.needed_by]
        for runtime in RUNTIMES
    }


def _guarded(look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except (OSError, ChaoslabError) as broken:
        name = (look.__doc__ or look.__name__).rstrip(".")
        return Finding(name, False, f"could not be told: {broken}", getattr(broken, "cure", None), BOTH)


# --- any runtime ------------------------------------------------------------------------------------------------


def python() -> Finding:
    """Python."""
    fine = sys.version_info >= (3, 11)
    return Finding("python", fine, f"{platform.python_version()} at {sys.executable}", "use Python 3.11 or newer", BOTH)


def locust() -> Finding:
    """Locust."""
    return _package("locust", "locust", "load", BOTH)


def matplotlib() -> Finding:
    """Matplotlib."""
    return _package("matplotlib", "matplotlib", "report", ())


def memory() -> Finding:
    """Memory."""
    free_gb = psutil.virtual_memory().available / 1e9
    found = f"{free_gb:.1f} GB available"
    return Finding("memory", free_gb >= _MEMORY_GB, found, f"free {_MEMORY_GB} GB, or the machine itself stalls", BOTH)


def disk() -> Finding:
    """Disk."""
    folder = tempfile.gettempdir()
    free_gb = psutil.disk_usage(folder).free / 1e9
    cure = f"free {_DISK_GB:.0f} GB there, or set TMPDIR to a folder with more room"
    return Finding("disk", free_gb >= _DISK_GB, f"{free_gb:.1f} GB free in {folder}", cure, BOTH)


def open_files() -> Finding:
    """Open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fine = hard == resource.RLIM_INFINITY or hard >= _FILES
    return Finding("open files", fine, f"{_limit(soft)}, up to {_limit(hard)}", f"ulimit -Hn {_FILES} or more", BOTH)


def ports() -> Finding:
    """Free ports on 127.0.0.1."""
    with ExitStack() as held:
        try:
            for _ in range(_PORTS):
                held.enter_context(socket.socket()).bind(("127.0.0.1", 0))
        except OSError as full:
            return Finding("ports", False, f"fewer than {_PORTS} on 127.0.0.1: {full}", "end what holds them: ss -tan", BOTH)
    return Finding("ports", True, f"{_PORTS} or more on 127.0.0.1", None, BOTH)


# --- the embedded runtime ---------------------------------------------------------------------------------------


def etcd() -> Finding:
    """etcd."""
    return _server("etcd", "--version")


def caddy() -> Finding:
    """Caddy."""
    return _server("caddy", "version")


def patroni() -> Finding:
    """Patroni."""
    return _package("patroni", "patroni", "two-site", ("embedded",))


def postgres() -> Finding:
    """PostgreSQL."""
    return _server("postgres", "--version")


def postgres_user() -> Finding:
    """An unprivileged user for PostgreSQL, which refuses to run as root."""
    name = "a user for PostgreSQL"
    if os.geteuid() != 0:
        return Finding(name, True, f"this one, {os.geteuid()}", None, ("embedded",))
    cure = "run as an ordinary user, or allow user namespaces: sysctl user.max_user_namespaces=10000"
    if program("unshare") is None:
        return Finding(name, False, "root, and no `unshare`", "run as an ordinary user", ("embedded",))
    server = program("postgres")
    probe = [str(server), "--version"] if server else ["id", "-u"]
    answer = run(["unshare", "--user", "--map-user=1000", "--map-group=1000", "--", *probe], timeout_s=10)
    found = "root, mapped in a user namespace" if answer.returncode == 0 else f"root, and {answer.stderr.strip()}"
    return Finding(name, answer.returncode == 0, found, cure, ("embedded",))


# --- the Compose runtime ----------------------------------------------------------------------------------------


def docker_sdk() -> Finding:
    """Docker's SDK for Python."""
    there = find_spec("docker") is not None
    return Finding("docker SDK", there, "installed" if there else "not installed", _SETUP_ITSELF, ("compose",))


def docker_client() -> Finding:
    """The `docker` command."""
    path = program("docker")
    return Finding("docker command", path is not None, str(path or "none"), "apt-get install docker.io", ("compose",))


def docker_engine() -> Finding:
    """A Docker engine that answers."""
    return _asked("docker engine", "engine_version")


def compose() -> Finding:
    """Compose v2."""
    return _asked("compose v2", "compose_version")


def images() -> Finding:
    """The images, which are made or pulled when they are needed."""
    return _asked("images", "runtime_images")


def packet_rules() -> Finding:
    """NET_ADMIN: whether a container may set packet rules in its own network namespace."""
    return _asked("packet rules", "packet_rules")


# --- helpers of the checks --------------------------------------------------------------------------------------


def _package(name: str, module: str, extra: str, needed_by: tuple[Runtime, ...]) -> Finding:
    """Whether a package is there; it is not imported, since some of them change the interpreter."""
    there = find_spec(module) is not None
    return Finding(name, there, "installed" if there else "not installed", _SETUP.format(extra), needed_by)


def _server(name: str, flag: str) -> Finding:
    path, answer = program(name), server_version(name, flag)
    found = f"{answer} at {path}" if answer else f"{path} does not run" if path else "not here"
    return Finding(name, answer is not None, found, _SETUP.format("two-site"), ("embedded",))


def _asked(name: str, question: str) -> Finding:
    """What one question of `doctor_docker` brought; its error carries the cure. Imported late, since it takes a while."""
    if find_spec("docker") is None:
        return Finding(name, False, "not asked without Docker's SDK", _SETUP_ITSELF, ("compose",))
    needed: tuple[Runtime, ...] = () if name in ("images", "packet rules") else ("compose",)
    try:
        answer: str = getattr(import_module("chaoslab.doctor_docker"), question)()
        return Finding(name, True, answer, None, needed)
    except ChaoslabError as broken:
        return Finding(name, False, str(broken.args[0]).strip(), broken.cure, needed)


def _limit(number: int) -> str:
    return "unlimited" if number == resource.RLIM_INFINITY else str(number)


LOOKS: tuple[Callable[[], Finding], ...] = (
    *(python, locust, matplotlib, memory, disk, open_files, ports),
    *(etcd, caddy, patroni, postgres, postgres_user),
    *(docker_sdk, docker_client, docker_engine, compose, images, packet_rules),
)


# --- the command ------------------------------------------------------------------------------------------------


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One object, for machines.")
def doctor_command(as_json: bool) -> int:
    """Say what this machine can do, and the cure for what it can't.

    Exit code 0 when at least one runtime is there, else 5.
    """
    findings = examine()
    lacks = available(findings)
    if as_json:
        click.echo(json.dumps({"findings": [asdict(finding) for finding in findings], "lacks": lacks}, indent=2))
    else:
        click.echo("\n".join([*map(_line, findings), "", *(_sentence(runtime, lacks[runtime]) for runtime in RUNTIMES)]))
    return ExitCode.PASS if not all(lacks.values()) else ExitCode.ERROR


def _line(finding: Finding) -> str:
    mark = "ok " if finding.ok else "-- " if not finding.needed_by else "NO "
    cure = "" if finding.ok or finding.cure is None else f"\n{'':27}cure: {finding.cure}"
    return f"{mark} {finding.name:22} {finding.found.replace(chr(10), ' ')}{cure}"


def _sentence(runtime: Runtime, lacks: Sequence[str]) -> str:
    return f"--runtime {runtime}: " + (f"not here, for want of {', '.join(lacks)}" if lacks else "ready")
