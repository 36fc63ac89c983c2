"""Asks people, on the terminal of an attended run, to confirm manual steps. Answers go where `chaoslab confirm` puts them."""

from __future__ import annotations

import contextlib
import getpass
import os
import select
import stat
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path

from chaoslab.background import in_thread
from chaoslab.errors import EnvironmentFault
from chaoslab.history.confirmations import Answer, Ask, Confirmations
from chaoslab.history.folder import RunFolder
from chaoslab.report.view import View

_LOOK_EVERY_S = 0.2
_LINE_MAX = 4096


def answering_as() -> str:
    """By which name this user's answers go."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for this user
        return f"user {os.geteuid()}"


@contextlib.contextmanager
def asking_people(folder: RunFolder, project: Path, view: View) -> Iterator[None]:
    """While in the block, show each step that waits, and take answers that are typed."""
    over = threading.Event()
    asking = _Asking(Confirmations(folder.path), os.path.relpath(folder.path, project), view)
    work = in_thread(lambda: asking.go_on_until(over), "the questions to people")
    try:
        yield
    finally:
        over.set()
        wait([work], timeout=1.0)


def let_go_of_terminal() -> None:
    """The terminal was closed: what is read or written from now on goes nowhere, so that nothing fails for it."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode):  # a terminal that is closed no longer says that it is one
                os.dup2(nowhere, number)
    os.close(nowhere)


class _Asking:
    """What was shown so far. `run`: how people name the run."""

    def __init__(self, confirmations: Confirmations, run: str, view: View) -> None:
        self._confirmations, self._run, self._view = confirmations, run, view
        self._shown: set[str] = set()

    def go_on_until(self, over: threading.Event) -> None:
        while not over.is_set():
            waiting = self._confirmations.waiting()
            for ask in waiting:
                if ask.step not in self._shown:
                    self._shown.add(ask.step)
                    whose = f"{ask.owner}: " if ask.owner else ""
                    how = f"type {ask.step}, or: {ask.step} failed: WHY; " if _may_read() else ""
                    self._view.message(f"{ask.step} waits until {ask.until} for a person. {whose}{ask.what}")
                    self._view.message(f"  when it is done, {how}or from any terminal: chaoslab confirm {self._run} {ask.step}")
            if not waiting or not _may_read():
                over.wait(_LOOK_EVERY_S)
                continue
            typed = b""
            with contextlib.suppress(OSError, ValueError):
                if select.select([0], [], [], _LOOK_EVERY_S)[0]:
                    typed = os.read(0, _LINE_MAX)
            if typed:
                self._take(typed.decode(sys.stdin.encoding or "utf-8", "replace"), self._confirmations.waiting())

    def _take(self, line: str, waiting: list[Ask]) -> None:
        """`approve`, or `approve failed: why`."""
        step, _, rest = line.strip().partition(" ")
        if not step:
            return
        if step not in [ask.step for ask in waiting]:
            self._view.message(f"{step!r} is not waiting; waiting: {', '.join(ask.step for ask in waiting) or 'no step'}")
            return
        word, _, why = rest.strip().partition(":")
        if word not in ("", "failed"):
            self._view.message(f"not understood: {rest.strip()!r}; type {step}, or: {step} failed: WHY")
            return
        failed = (why.strip() or "no reason given") if word else None
        try:
            self._confirmations.answer(step, Answer(by=answering_as(), failed=failed))
        except EnvironmentFault as broken:
            self._view.message(str(broken))


def _may_read() -> bool:
    """Whether the terminal is ours to read: a job in the background would be stopped by it."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
