"""How the tests of one session find each other under pytest-xdist, and how a worker speaks to the person at the terminal."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

import psutil
import pytest

_SESSION = pytest.StashKey[str]()
_INPUT, _OUTPUT = "chaoslab_session", "chaoslab_shared"
_PREFIX = "pytest-"


def name_session(config: pytest.Config) -> str:
    """The name of this session of xdist, for its workers: that of its controller's process, and one of its own."""
    if _SESSION not in config.stash:
        config.stash[_SESSION] = f"{os.getpid()}-{token_hex(8)}"
    return config.stash[_SESSION]


def configure(config: pytest.Config, workerinput: dict[str, str]) -> None:
    """Tell a worker, in the controller, which session it belongs to."""
    workerinput[_INPUT] = name_session(config)


def shared_file(config: pytest.Config, about: Path) -> Path | None:
    """Where the workers of one session share what they know of a file; None without xdist.

    In a folder of the session, in the private folder of this user. Folders of sessions whose controller is gone are removed.
    """
    from chaoslab.cleanup import active_runs

    session = getattr(config, "workerinput", {}).get(_INPUT)
    if session is None:
        return None
    folder = active_runs.folder() / f"{_PREFIX}{session}"
    if not folder.exists():
        for stale in folder.parent.glob(f"{_PREFIX}*"):
            pid = stale.name.removeprefix(_PREFIX).partition("-")[0]
            if not (pid.isdigit() and psutil.pid_exists(int(pid))):
                shutil.rmtree(stale, ignore_errors=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    config.workeroutput[_OUTPUT] = True  # type: ignore[attr-defined]
    return folder / sha256(str(about).encode()).hexdigest()


def remove_shared(config: pytest.Config, workeroutput: dict[str, object] | None) -> None:
    """Remove the folder of this session, in the controller, once a worker has ended that shared something, or died (None)."""
    if workeroutput is None or workeroutput.get(_OUTPUT):
        from chaoslab.cleanup import active_runs

        config.stash[_FOLDER] = active_runs.folder() / f"{_PREFIX}{name_session(config)}"


_FOLDER = pytest.StashKey[Path]()


def clean_up(config: pytest.Config) -> None:
    """At the end of the controller, when no worker lives."""
    if _FOLDER in config.stash:
        shutil.rmtree(config.stash[_FOLDER], ignore_errors=True)


def say(config: pytest.Config, text: str) -> None:
    """Show a line at once, whatever is captured: on the terminal, and by a worker of xdist on the standard error of all."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext():
        worker = os.environ.get("PYTEST_XDIST_WORKER") if hasattr(config, "workerinput") else None
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if worker is not None:
            sys.stderr.write(f"[{worker}] chaoslab: {text}\n")
            sys.stderr.flush()
        elif reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(f"chaoslab: {text}")
