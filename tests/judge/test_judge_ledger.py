"""The categories of the ledger: a known-bad history for each of them, and what each does to the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from judge_runs import Run, experiment, judged, ledger_read, ns, objective, outage, stack_spec
from msgspec.structs import replace

from chaoslab.history.result import LedgerResult, Result
from chaoslab.history.rows import AnyRow, LedgerRead
from chaoslab.judge.verdict import judge

Items = list[tuple[str, str]]
RUN = Run(bad=outage(0.1, 3.0))
SEQ = 10_000  # of the slot that is due at the fault


def with_final(change: Callable[[str, Items], Items], run: Run = RUN, more: Sequence[AnyRow] = ()) -> list[AnyRow]:
    """The rows of a run whose sites end up holding something else: `change` gets a site and its honest items."""

    def changed(row: AnyRow) -> AnyRow:
        if isinstance(row, LedgerRead) and row.final:
            return replace(row, items=change(row.site or "", row.items))
        return row

    return [changed(row) for row in (*run.rows(), *more)]


def judged_rows(rows: list[AnyRow], objectives: dict[str, object] | None = None, **ledger: object) -> Result:
    return judge(experiment(objectives), stack_spec(**ledger), rows)


def ledger(result: Result) -> LedgerResult:
    return result.ledger["talk"]


def without(*ids: str) -> Callable[[str, Items], Items]:
    return lambda site, items: [item for item in items if item[0] not in ids]


def only_in(target: str, change: Callable[[Items], Items]) -> Callable[[str, Items], Items]:
    return lambda site, items: change(items) if site == target else items


def w(seconds: float) -> str:
    """The id of the write due then."""
    return f"w-{SEQ + round(seconds * 50)}"


def outcome_of(id_: str, outcome: str) -> Run:
    """The run in which one write had another outcome."""
    return RUN.but(edit=lambda slot: replace(slot, outcome=outcome, good=False) if slot.id == id_ else slot)


def shown(id_: str, *, at: float = 4.0, after: int = -1) -> LedgerRead:
    """A read through the entry that shows this write and all the honest ones that it covers."""
    honest = [(slot.id or "", slot.hash or "") for slot in RUN.slots() if slot.outcome == "acked" and slot.end_ns < ns(at)]
    seqs = [(int(one.rpartition("-")[2]), one, hash_) for one, hash_ in [*honest, (id_, "h" + id_.rpartition("-")[2])]]
    return ledger_read([(one, hash_) for seq, one, hash_ in seqs if seq > after], at=at, after_seq=after)


def test_an_honest_ledger_is_intact():
    """Everything acknowledged is in every site, once, unchanged."""
    result = judged(RUN)
    found = ledger(result)
    assert (found.acked, found.indeterminate, found.rejected) == (31 * 50 - 145, 145, 0)
    assert (objective(result, "talk.ledger").verdict, objective(result, "talk.rpo").verdict) == ("pass", "pass")
    assert found.examples == {}


def test_acked_and_nowhere_in_the_end_is_lost():
    """Two acknowledged writes are gone: counted, dated and shown."""
    result = judged_rows(with_final(without(w(-1.0), w(-0.5))))
    assert (ledger(result).lost, ledger(result).lost_after_fault) == (2, 0)
    assert ledger(result).rpo_s == pytest.approx(1.0 - 0.004)
    assert ledger(result).examples["lost"] == [w(-1.0), w(-0.5)]
    assert objective(result, "talk.rpo").verdict == "fail"
    assert result.verdict == "fail"


@pytest.mark.parametrize(("rpo", "verdict"), [("0", "fail"), ("< 500ms", "fail"), ("< 2s", "pass")])
def test_an_rpo_above_zero_allows_losses_of_that_age(rpo, verdict):
    """A second's worth of writes is within two seconds, not within half a one."""
    result = judged_rows(with_final(without(w(-1.0))), {"rpo": rpo})
    assert objective(result, "talk.rpo").verdict == verdict
    assert objective(result, "talk.ledger").verdict == "pass"


def test_no_rpo_excuses_a_loss_of_what_was_acknowledged_after_the_fault():
    """Lost from under the fault: shown apart, and a fail whatever the RPO."""
    result = judged_rows(with_final(without(w(10.0))), {"rpo": "< 1h"})
    assert (ledger(result).lost, ledger(result).lost_after_fault, ledger(result).rpo_s) == (1, 1, 0.0)
    assert objective(result, "talk.rpo").verdict == "fail"


def test_any_loss_fails_where_no_rpo_speaks_of_it():
    """Without an RPO nothing allows a loss."""
    result = judged_rows(with_final(without(w(-1.0))), {"rto": "< 10s"})
    assert objective(result, "talk.ledger").verdict == "fail"


def test_an_indeterminate_write_may_be_there_or_not():
    """Nobody was promised anything: there is `recovered`, absent is nothing at all."""
    there = judged_rows(with_final(lambda site, items: [*items, (w(1.0), f"h{SEQ + 50}")]))
    assert (ledger(there).recovered, ledger(judged(RUN)).recovered, ledger(judged(RUN)).lost) == (1, 0, 0)
    assert objective(there, "talk.ledger").verdict == "pass"


def test_an_indeterminate_write_that_a_read_had_shown_must_stay():
    """Somebody has seen it; then it is gone: lost, and dated by the read."""
    result = judged_rows([*RUN.rows(), shown(w(1.0))])
    assert (ledger(result).lost, ledger(result).lost_after_fault) == (1, 1)
    assert ledger(result).examples["lost"] == [w(1.0)]


def test_a_rejected_write_that_is_there_was_resurrected():
    """Proof that nothing was executed, and it was."""
    id_ = w(4.0)
    run = outcome_of(id_, "rejected")
    honest = judge(experiment(), stack_spec(), run.rows())
    assert (ledger(honest).rejected, ledger(honest).resurrected) == (1, 0)
    result = judged_rows(with_final(lambda site, items: [*items, (id_, f"h{SEQ + 200}")], run))
    assert ledger(result).resurrected == 1
    assert (objective(result, "talk.ledger").verdict, objective(result, "talk.rpo").verdict) == ("fail", "pass")


def test_what_was_never_attempted_is_unexpected():
    """An id that nobody sent."""
    result = judged_rows(with_final(lambda site, items: [*items, ("w-99999", "h")]))
    assert ledger(result).unexpected == 1
    assert "unexpected" in objective(result, "talk.ledger").why
    assert result.verdict == "fail"


def test_more_copies_than_attempts_are_a_duplicate():
    """Sent once, stored twice; sent twice, stored twice is no more than what was asked for."""
    twice = with_final(lambda site, items: [*items, items[0]])
    assert ledger(judged_rows(twice)).duplicated == 1
    assert objective(judged_rows(twice), "talk.ledger").verdict == "fail"
    again = next(slot for slot in RUN.slots() if slot.journey == "talk.send")
    assert ledger(judged_rows([*twice, again])).duplicated == 0


def test_another_hash_is_corrupt():
    """Stored, but not what was sent; also when the copy beside it is sound."""
    changed = judged_rows(with_final(lambda site, items: [(items[0][0], "other"), *items[1:]]))
    assert (ledger(changed).corrupt, ledger(changed).lost) == (1, 0)
    assert objective(changed, "talk.ledger").verdict == "fail"
    beside = judged_rows(with_final(lambda site, items: [*items, (items[0][0], "other")]))
    assert (ledger(beside).corrupt, ledger(beside).duplicated) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [lambda items: items[1:], lambda items: [(items[0][0], "other"), *items[1:]], lambda items: [*items, items[0]]],
    ids=["missing", "other content", "twice"],
)
def test_sites_that_differ_are_divergent(change):
    """One site holds what the other does not: nothing lost, but not alike."""
    result = judged_rows(with_final(only_in("anyang", change)))
    assert (ledger(result).divergent, ledger(result).lost) == (1, 0)
    assert objective(result, "talk.ledger").verdict == "fail"


@pytest.mark.parametrize(("linearizable", "verdict"), [(False, "pass"), (True, "fail")])
def test_a_read_that_missed_an_acknowledged_write_is_stale(linearizable, verdict):
    """Acknowledged before the read began, missing there, present in the end: a warning, or a fail where promised."""
    read = shown(w(1.0), at=4.0)
    missed = replace(read, items=[item for item in read.items if item[0] not in (w(3.5), w(1.0))])
    result = judged_rows([*RUN.rows(), missed], linearizable=linearizable)
    assert ledger(result).stale == 1
    assert objective(result, "talk.ledger").verdict == verdict
    assert any("stale" in text for text in result.warnings) is not linearizable


def test_a_read_is_not_stale_for_what_it_does_not_cover():
    """Below `after_seq`, acknowledged after it began, or failed: no staleness."""
    begun_before = ledger_read([], at=-3.999)
    windowed = shown(w(3.9), at=4.0, after=SEQ + 190)
    failed = ledger_read([], at=10.0, ok=False)
    local = ledger_read([], at=10.0, site="anyang", final=False)
    assert ledger(judged_rows([*RUN.rows(), begun_before, windowed, failed, local])).stale == 0


def test_without_a_final_read_the_ledger_is_unverified():
    """Nothing was read back: inconclusive, never a pass."""
    result = judged_rows([row for row in RUN.rows() if not isinstance(row, LedgerRead)])
    assert (ledger(result).unverified, ledger(result).lost) == (31 * 50 - 145, 0)
    assert objective(result, "talk.rpo").verdict == "inconclusive"
    assert objective(result, "talk.ledger").verdict == "inconclusive"


def test_a_site_that_never_answered_is_inconclusive():
    """The final read of one site failed: what it holds is not known."""
    unread = {"ok": False, "items": []}
    failed = [replace(row, **unread) if isinstance(row, LedgerRead) and row.site == "anyang" else row for row in RUN.rows()]
    result = judged_rows(failed)
    assert objective(result, "talk.ledger").verdict == "inconclusive"
    assert "anyang" in objective(result, "talk.rpo").why
    assert ledger(result).divergent == 0


def test_the_last_final_read_counts():
    """A site that settled later than its first read is judged by its last; a later one covers only what it covers."""
    early = ledger_read([], at=28.0, site="anyang")
    assert judged_rows([*RUN.rows(), early]).verdict == "pass"
    tail = [item for item in judged_items() if int(item[0].rpartition("-")[2]) > SEQ + 1000]
    assert judged_rows([*RUN.rows(), ledger_read(tail, at=29.0, site="anyang", after_seq=SEQ + 1000)]).verdict == "pass"
    gone = ledger_read(tail[1:], at=29.0, site="anyang", after_seq=SEQ + 1000)
    assert ledger(judged_rows([*RUN.rows(), gone])).divergent == 1


def test_sites_are_compared_where_both_were_read():
    """One site's only final read covers the last writes alone: it says nothing of the others."""
    tail = [item for item in judged_items() if int(item[0].rpartition("-")[2]) > SEQ + 1000]
    rows = [row for row in RUN.rows() if not (isinstance(row, LedgerRead) and row.site == "anyang")]
    partial = ledger_read(tail, site="anyang", after_seq=SEQ + 1000)
    assert ledger(judged_rows([*rows, partial])).divergent == 0
    assert ledger(judged_rows([*rows, replace(partial, items=tail[1:])])).divergent == 1


def judged_items() -> Items:
    return next(row.items for row in RUN.rows() if isinstance(row, LedgerRead))


def test_an_rpo_without_a_ledger_is_inconclusive():
    """Promised, and nobody writes anything that could be lost."""
    stack = stack_spec()
    journeys = {"talk.read": stack.journeys["talk.read"]}
    result = judge(experiment({"rpo": 0}), stack.model_copy(update={"journeys": journeys}), RUN.rows())
    assert objective(result, "talk.rpo").verdict == "inconclusive"


def test_examples_are_the_first_ten():
    """Enough to look into, not a flood."""
    gone = [w(-1 + n / 50) for n in range(12)]
    assert ledger(judged_rows(with_final(without(*gone)))).examples["lost"] == gone[:10]
