"""Steps of a run that wait for a person: what is asked, and the answer, as private files in the run's folder.

    asks/<step>.ask      written by the run while the step waits, and removed by it
    asks/<step>.answer   written once, by whoever answers

Either side may end at any time: the run reads an answer wherever it came from, and an ask without a run means nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

import msgspec

from chaoslab.history.writer import write_errors, write_whole

_ASK, _ANSWER = ".ask", ".answer"
_BYTES_MAX = 64 * 1024
T = TypeVar("T", bound="Ask | Answer")


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a step waits for. `run_id`: of the run that asks. `since`, `until`: ISO 8601, UTC; it has failed after that.

    `registry`: the folder in which that run is registered as alive; another login may have another one.
    """

    step: str
    what: str
    owner: str | None
    run_id: str
    since: str
    until: str
    registry: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a person says of a step: that it is done, or why it `failed`. `by`: who."""

    by: str
    failed: str | None = None


class Confirmations:
    """The asks of one run. Any process of the user may use it."""

    def __init__(self, run: Path) -> None:
        self._folder = run / "asks"

    # --- of the run ---------------------------------------------------------------------------------------------

    def ask(self, ask: Ask) -> None:
        """Begin to wait. Raises EnvironmentFault when that cannot be written."""
        with write_errors(self._folder):
            self._folder.mkdir(mode=0o700, exist_ok=True)
        write_whole(self._folder / f"{ask.step}{_ASK}", msgspec.json.encode(ask))

    def answer_to(self, step: str) -> Answer | None:
        """What a person said; None until then."""
        return self._read(f"{step}{_ANSWER}", Answer)

    def withdraw(self, step: str) -> None:
        """Wait no longer."""
        with contextlib.suppress(OSError):
            (self._folder / f"{step}{_ASK}").unlink()

    # --- of whoever answers -------------------------------------------------------------------------------------

    def waiting(self) -> list[Ask]:
        """The steps that wait and have no answer yet, the first to ask first."""
        if self._folder.is_symlink():
            return []
        found = [self._read(file.name, Ask) for file in self._folder.glob(f"*{_ASK}")]
        asks = [ask for ask in found if ask is not None and self.answer_to(ask.step) is None]
        return sorted(asks, key=lambda ask: (ask.since, ask.step))

    def answer(self, step: str, answer: Answer) -> bool:
        """Answer, once and whole; False where there is an answer already. Raises EnvironmentFault when it cannot be written."""
        file = self._folder / f"{step}{_ANSWER}"
        draft = self._folder / f".{step}.{token_hex(8)}"
        write_whole(draft, msgspec.json.encode(answer))
        try:
            with write_errors(file), contextlib.suppress(FileExistsError):
                file.hardlink_to(draft)
                return True
            return False
        finally:
            draft.unlink(missing_ok=True)

    def _read(self, name: str, kind: type[T]) -> T | None:
        """None for what is not there, not this user's, no plain file, or not (yet) what it should be."""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
                    return msgspec.json.decode(file.read(_BYTES_MAX), type=kind)
        return None
