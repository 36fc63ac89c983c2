"""The history of one trial as it is written: rows, phases, and why the trial ended early."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import Literal

from chaoslab.clock import Clock
from chaoslab.errors import ChaoslabError, EnvironmentFault, Interrupted
from chaoslab.history.folder import RunFolder
from chaoslab.history.rows import AnyRow, Note, Phase, PhaseRow, Row
from chaoslab.history.tail import HistoryTail
from chaoslab.history.writer import HistoryWriter, write_whole
from chaoslab.redact import Secrets

NoteLevel = Literal["info", "warning", "error", "interrupted", "blind"]


class EndsEarly(Exception):
    """The trial need not continue; the reason is in its history."""


class Recorder:
    """Writes one trial's rows, and follows its history, in which other processes write too. Any thread may write and note.

    `ending`: from now on a row that cannot be written raises no error, because faults still have to be undone. `broken`: the
    harness, or the links that it acts through, failed. `unrecorded`: why rows are missing, in words.
    """

    def __init__(self, folder: RunFolder, secrets: Secrets, clock: Clock) -> None:
        """Opens the history. Raises EnvironmentFault."""
        self.ending = False
        self.broken = False
        self.unrecorded: str | None = None
        self._logs = folder.logs
        self._clock = clock
        self._explained: Exception | None = None
        self._history = HistoryWriter(folder.history, secrets)
        self._tail = HistoryTail(folder.history)

    def write(self, row: Row) -> None:
        """Append a row. After one that could not be written no more follow, so the stored rows are complete up to a point.

        Raises EnvironmentFault, unless the trial is ending.
        """
        try:
            if self.unrecorded is not None:
                raise EnvironmentFault(self.unrecorded)
            self._history.append(row)
        except ChaoslabError as failed:
            self.unrecorded = str(failed)
            if not self.ending:
                raise

    def note(self, level: NoteLevel, text: str) -> None:
        """Append a note. Never raises: a history that cannot be written is reported at the end."""
        with contextlib.suppress(EnvironmentFault):
            self.write(Note(t_ns=self._clock.now_ns(), level=level, text=text))

    @contextlib.contextmanager
    def phase(self, phase: Phase, planned_s: float | None = None, *, at_most: bool = False) -> Iterator[None]:
        """A phase, with rows for its begin and its end. `at_most`: it may end before `planned_s`.

        The reason for an early end is written before its end.
        """
        detail = {} if planned_s is None else {"planned_s": planned_s} | ({"at_most": True} if at_most else {})
        self.write(PhaseRow(t_ns=self._clock.now_ns(), phase=phase, event="begin", detail=detail))
        try:
            yield
        except Exception as ended:
            self.explain(ended)
            raise
        finally:
            self.write(PhaseRow(t_ns=self._clock.now_ns(), phase=phase, event="end"))

    def explain(self, ended: Exception) -> None:
        """Append one note on what ended the trial early. Later failures are noted as warnings: they are not the cause."""
        if ended is self._explained or isinstance(ended, EndsEarly):
            return
        self._explained = ended
        if isinstance(ended, Interrupted):
            self.note("interrupted", str(ended))
            return
        follows, self.broken = self.broken, True
        if isinstance(ended, ChaoslabError):
            self.note("warning" if follows else "error", str(ended))
            return
        story = "".join(traceback.format_exception(ended))
        write_whole(self._logs / "harness.log", story.encode(errors="replace"))
        self.note("error", f"the harness broke: {type(ended).__name__}: {ended} (see logs/harness.log)")

    def new_rows(self) -> list[AnyRow]:
        """The rows that were written since the last call, by this process and others."""
        return self._tail.poll()

    def close(self) -> None:
        """Sync the history to the disk and close it. Never raises."""
        with contextlib.suppress(ChaoslabError):
            self._history.close()
        self._tail.close()
