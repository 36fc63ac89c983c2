"""When a trial that is expected to fail may end: its named objectives have failed for good, as `judge/early_end` defines."""

from __future__ import annotations

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import AnyRow, Decided, LedgerRead, PhaseRow
from chaoslab.judge.early_end import settled_ns
from chaoslab.judge.run_record import Sorter
from chaoslab.judge.verdict import failed_for_good
from chaoslab.spec.model import Experiment
from chaoslab.spec.stackfile.model import StackSpec

_LOOK_EVERY_NS = NS_PER_S


class EarlyEnd:
    """Keeps the rows of the trial, and evaluates them with the judge's function once a second, from the first fault on.

    `lasts_s`: how long the observation takes at most, from the begin of the faults.
    """

    def __init__(self, experiment: Experiment, stack: StackSpec, lasts_s: float) -> None:
        self._experiment, self._stack = experiment, stack
        expect = experiment.expect
        self._named = expect.objectives if expect is not None and expect.verdict == "fail" else []
        self._lasts_ns = round(lasts_s * NS_PER_S)
        self._sorter = Sorter()
        self._new: list[AnyRow] = []
        self._latest_ns: int | None = None
        self._looked_ns = 0

    def add(self, row: AnyRow) -> None:
        """Take a row, of any kind."""
        if self._named and not isinstance(row, LedgerRead):
            self._new.append(row)
        if isinstance(row, PhaseRow) and (row.phase, row.event) == ("faults", "begin"):
            self._latest_ns = row.t_ns + self._lasts_ns

    def decided(self, now_ns: int) -> Decided | None:
        """The row to write once all named objectives have failed for good; None before that, or if none is named."""
        if not self._named or self._latest_ns is None or now_ns < self._looked_ns + _LOOK_EVERY_NS:
            return None
        self._looked_ns = now_ns
        self._sorter.take(self._new)
        self._new.clear()
        decided = Decided(
            t_ns=now_ns,
            objectives=list(self._named),
            settled_ns=settled_ns(self._stack, now_ns),
            latest_ns=self._latest_ns,
        )
        record = self._sorter.record()
        failed = failed_for_good(self._experiment, self._stack, record, decided, self._named)
        return decided if failed.keys() >= {*self._named} else None
