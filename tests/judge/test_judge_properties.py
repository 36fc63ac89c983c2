"""What holds for any history: intervals hold the truth, the ledger counts exactly, order and bad news never help."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from judge_runs import PERIOD_S, FaultScript, Run, experiment, judged, ledger_read, ns, objective, outage, stack_spec, verdicts
from msgspec.structs import replace

from chaoslab.errors import WORST_FIRST, worst_verdict
from chaoslab.history.result import Interval, LedgerResult
from chaoslab.history.rows import AnyRow, LedgerRead, Probe
from chaoslab.judge.outcome import worst
from chaoslab.judge.verdict import judge

SOME = settings(max_examples=40, deadline=None)
SPEC = experiment({"rto": "< 4s", "failback": "< 3s", "availability": "> 50%", "rpo": 0}, probe={"rate": 50})
SHORT = Run(
    faults=[FaultScript(heal=8.0, healed=8.2)], faults_end_s=8.0, end_s=10.0, bad=outage(0.1, 3.0)
)  # fmt: skip
WORSE = {name: rank for rank, name in enumerate(reversed(WORST_FIRST))}


@st.composite
def truths(draw):
    """When the service went and came back, and how it answers: seconds, and the least and most that an answer takes."""
    begin = draw(st.floats(0.0, 2.0))
    length = draw(st.floats(0.6, 4.0))  # a wait within the latency objective is no outage
    how = draw(st.sampled_from(["refused", "hung", "late"]))
    latency = draw(st.floats(0.001, 0.3))
    least = draw(st.sampled_from([0.2 * latency, latency]))
    return begin, begin + length, how, least, latency


def as_seen(down: float, up: float, how: str, least: float, most: float):
    """What a prober sees of a service that is down from `down` to `up`: slots that meet the outage go wrong, or wait."""
    dice = random.Random(17)  # noqa: S311

    def see(slot: Probe) -> Probe:
        due = slot.due_ns / 1e9 - 100
        took = dice.uniform(least, most)
        good, end = True, due + took
        if due + took > down and due < up:  # it met the outage
            end = {"refused": due + 0.001, "hung": due + 2.0, "late": max(up, due) + took}[how]
            good = how == "late" and end - due <= 0.5
        outcome = ("acked" if good else "indeterminate") if slot.op == "write" else ("ok" if good else "bad")
        return replace(slot, end_ns=ns(end), good=good, outcome=outcome)

    return see


def rto_seen(truth: tuple[float, float, str, float, float], *, effective: float = 0.0) -> Interval:
    fault = FaultScript(effective=effective, heal=8.0, healed=8.2)
    found = judged(SHORT.but(bad={}, faults=[fault], edit=as_seen(*truth)), SPEC).services["talk"].rto_s
    assert found is not None
    return found


@SOME
@given(truths())
def test_the_interval_holds_the_truth_and_is_no_wider_than_two_slots(truth):
    """Whatever the outage's begin, length and kind: due(last bad) ≤ back ≤ end(first good), two slots apart at most.

    Beyond the slots the width holds what the contract puts there, an answer's latency (for slots that wait the outage
    out, the latency objective). Answers that overtake each other make a small brown-out of the edge: wider, still true.
    """
    _, up, how, least, most = truth
    found = rto_seen(truth)
    assert found.high is not None
    assert found.low - 1e-6 <= up <= found.high + 1e-6  # to the microsecond: the truth is drawn in floats
    if least == most:
        assert found.high - found.low <= 2 * PERIOD_S + most + (0.5 if how == "late" else 0.0)


@SOME
@given(truths(), st.floats(0.0, 1.0))
def test_a_slow_effect_widens_the_interval_by_itself_alone(truth, took):
    """f1 − f0 more, on the low side."""
    at_once, slow = rto_seen(truth), rto_seen(truth, effective=took)
    assert slow.high == at_once.high
    assert abs(slow.low - max(0.0, at_once.low - took)) < 1e-6


COUNTS = st.integers(0, 4)


@SOME
@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.randoms(use_true_random=False))
def test_the_ledger_counts_exactly_what_went_wrong(lost, duplicated, corrupt, divergent, resurrected, unexpected, dice):
    """k of each, picked anywhere in an otherwise honest ledger."""
    honest = [slot for slot in SHORT.slots() if slot.outcome == "acked"]
    picked = dice.sample(honest, lost + duplicated + corrupt + divergent + resurrected)
    take = iter(picked)
    gone, twice, changed, one_sided, undone = (
        [next(take) for _ in range(k)] for k in (lost, duplicated, corrupt, divergent, resurrected)
    )
    undone_ids = {slot.id for slot in undone}
    run = SHORT.but(edit=lambda slot: replace(slot, outcome="rejected") if slot.id in undone_ids else slot)

    def held(site: str) -> list[tuple[str, str]]:
        missing = {slot.id for slot in gone} | ({slot.id for slot in one_sided} if site == "anyang" else set())
        other = {slot.id for slot in changed}
        items = [(slot.id or "", "other" if slot.id in other else slot.hash or "") for slot in honest if slot.id not in missing]
        items += [(slot.id or "", slot.hash or "") for slot in twice] + [(f"x-{n}", "h") for n in range(unexpected)]
        return dice.sample(items, len(items))

    rows = [row for row in run.rows() if not isinstance(row, LedgerRead)]
    reads = [ledger_read(held(site), site=site) for site in ("pangyo", "anyang")]
    found = judge(SPEC, stack_spec(), [*rows, *reads]).ledger["talk"]
    assert counts(found) == (lost, duplicated, corrupt, divergent, resurrected, unexpected)
    assert (found.stale, found.unverified, found.recovered, found.rejected) == (0, 0, 0, resurrected)
    assert found.acked == len(honest) - resurrected


def counts(found: LedgerResult) -> tuple[int, ...]:
    return found.lost, found.duplicated, found.corrupt, found.divergent, found.resurrected, found.unexpected


WRITES = [slot for slot in SHORT.slots() if slot.outcome == "acked" and slot.due_ns < ns(9.0)]
FATES = st.sampled_from(
    ["lost", "twice", "other", "one-sided", "rejected", "undone", "recovered", "vanished", "shown", "stale"]
)
UNTOLD = sum(slot.outcome == "indeterminate" for slot in SHORT.slots())  # during the outage itself
LOOK_S = 9.5  # one look through the entry, after all of these


@SOME
@given(st.lists(st.tuples(st.sampled_from(WRITES), FATES), max_size=30, unique_by=lambda pair: pair[0].id))
def test_any_mixture_of_fates_is_counted_exactly(fates):
    """Each write has a fate of its own, and none is counted as another's; losses are dated by the fault."""
    fate = {slot.id: what for slot, what in fates}
    outcomes = dict.fromkeys(("rejected", "undone"), "rejected") | dict.fromkeys(
        ("recovered", "vanished", "shown"), "indeterminate"
    )
    run = SHORT.but(edit=lambda slot: replace(slot, outcome=outcomes.get(fate.get(slot.id, ""), slot.outcome)))
    honest = [(slot.id or "", slot.hash or "") for slot in SHORT.slots() if slot.outcome == "acked"]

    def held(*gone: str) -> list[tuple[str, str]]:
        kept = [(id_, "other" if fate.get(id_) == "other" else digest) for id_, digest in honest if fate.get(id_) not in gone]
        return kept + [(id_, digest) for id_, digest in kept if fate.get(id_) == "twice"]

    nowhere = ("lost", "rejected", "vanished", "shown")
    reads = [
        ledger_read(held(*nowhere), site="pangyo"),
        ledger_read(held(*nowhere, "one-sided"), site="anyang"),
        ledger_read(held("lost", "rejected", "vanished", "stale"), at=LOOK_S),
    ]
    rows = [row for row in run.rows() if not isinstance(row, LedgerRead)]
    found = judge(SPEC, stack_spec(), [*rows, *reads]).ledger["talk"]
    number = Counter(fate.values())
    before = [slot for slot, what in fates if what == "lost" and slot.end_ns <= ns(0.05)]
    lost_later = number["lost"] - len(before) + number["shown"]
    lost = number["lost"] + number["shown"]
    assert counts(found) == (lost, number["twice"], number["other"], number["one-sided"], number["undone"], 0)
    assert (found.recovered, found.stale, found.unverified) == (number["recovered"], number["stale"], 0)
    assert found.rejected == number["rejected"] + number["undone"]
    assert found.indeterminate == UNTOLD + number["recovered"] + number["vanished"] + number["shown"]
    assert (found.lost_after_fault, found.rpo_s) == (
        lost_later,
        max([0.0, *((ns(0.0) - slot.end_ns) / 1e9 for slot in before)]),
    )


def eventful() -> list[AnyRow]:
    """A history with something of everything."""
    faults = [FaultScript("fire", 0.0, 0.05, 8.0, 8.2), FaultScript("more", 2.0, 2.05, 8.1, 8.3)]
    run = SHORT.but(faults=faults, bad={"talk.send": [(0.1, 1.0), (2.1, 4.0), (8.1, 8.9)], "talk.read": [(0.5, 0.52)]})
    rows = run.rows()
    stale = ledger_read([], at=-2.0)
    twice = [replace(row, items=[*row.items, row.items[5]]) if isinstance(row, LedgerRead) else row for row in rows]
    return [*twice, stale]


EVENTFUL = eventful()
IN_ORDER = judge(SPEC, stack_spec(), EVENTFUL)


@SOME
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(dice):
    """Several processes append to one file."""
    assert judge(SPEC, stack_spec(), dice.sample(EVENTFUL, len(EVENTFUL))) == IN_ORDER


def test_the_eventful_history_is_eventful():
    """Else the test above would shuffle nothing of interest."""
    found = IN_ORDER.ledger["talk"]
    assert (found.duplicated, found.stale > 0, IN_ORDER.services["talk"].flaps, len(IN_ORDER.faults)) == (1, True, 1, 2)
    assert {one.verdict for one in IN_ORDER.objectives} >= {"pass", "fail"}


BAD_NEWS = st.tuples(st.sampled_from(["talk.send", "talk.read"]), st.floats(0.02, 9.9))


@SOME
@given(st.floats(0.3, 7.9), st.floats(0.0, 0.5), st.lists(BAD_NEWS, max_size=6))
def test_another_bad_slot_never_improves_a_verdict(back, share, worse):
    """Turn good slots bad, one after the other: no objective gets better.

    Two things may, as documented: a service that did not notice is questioned until it does, and more bad slots in a
    brown-out leave less room for chance. Neither ever turns a fail into anything else.
    """
    spans = {"talk.send": [(0.1, back)], "talk.read": [(0.1, 0.1 + share)]}
    before = judged(SHORT.but(bad=spans), SPEC)
    for journey, at in worse:
        spans = spans | {journey: [*spans[journey], (at, at + PERIOD_S)]}
        after = judged(SHORT.but(bad=spans), SPEC)
        for id_, verdict in verdicts(before).items():
            if verdict in ("fail", "pass"):
                assert WORSE[verdicts(after)[id_]] >= WORSE[verdict], id_
        assert after.services["talk"].availability <= before.services["talk"].availability
        before = after


@SOME
@given(st.floats(0.3, 3.0), st.floats(0.0, 6.0))
def test_a_longer_outage_is_never_a_shorter_rto(back, more):
    """For a black-out the interval moves with its end."""
    short = judged(SHORT.but(bad=outage(0.1, back)), SPEC).services["talk"].rto_s
    longer = judged(SHORT.but(bad=outage(0.1, back + more)), SPEC).services["talk"].rto_s
    assert short is not None
    assert longer is not None
    assert longer.low >= short.low
    assert longer.high is None or short.high is None or longer.high >= short.high


@SOME
@given(st.lists(st.tuples(st.floats(0.3, 0.8), st.floats(1.0, 1.5)), min_size=1, max_size=3), st.floats(0.001, 0.015))
def test_the_interval_of_a_flapping_service_holds_its_last_return(turns, latency):
    """Away and back, up to three times: from the fault to the last return, two slots wide, and each relapse counted."""
    away, at = [], 0.0
    for down, up in turns:
        away.append((at, at + down))
        at += down + up

    def flaps(slot: Probe) -> Probe:
        due = slot.due_ns / 1e9 - 100
        good = not any(begin <= due < end for begin, end in away)
        return replace(slot, good=good, end_ns=slot.due_ns + round(latency * 1e9))

    fault = FaultScript(effective=0.0, heal=8.0, healed=8.2)
    talk = judged(SHORT.but(bad={}, edit=flaps, faults=[fault]), SPEC).services["talk"]
    assert talk.rto_s is not None
    assert talk.rto_s.high is not None
    assert talk.rto_s.low - 1e-6 <= away[-1][1] <= talk.rto_s.high + 1e-6
    assert talk.rto_s.high - talk.rto_s.low <= 2 * PERIOD_S + 1e-9
    assert talk.flaps == len(turns) - 1


@SOME
@given(st.sampled_from(["hung", "refused"]), st.integers(2, 6), st.integers(0, 1000))
def test_a_brown_out_interval_holds_the_truth(how, one_in, seed):
    """One slot in so many is served while the service is half gone; it is whole again at 4 s."""
    dice = random.Random(seed)  # noqa: S311

    def half_gone(slot: Probe) -> Probe:
        due = slot.due_ns / 1e9 - 100
        if not 0.0 <= due < 4.0 or dice.randrange(one_in) == 0:
            return slot
        return replace(slot, good=False, end_ns=slot.due_ns + (2_000_000_000 if how == "hung" else 1_000_000))

    result = judged(SHORT.but(bad={}, edit=half_gone, faults=[FaultScript(effective=0.0, heal=8.0, healed=8.2)]), SPEC)
    found = result.services["talk"].rto_s
    assert found is not None
    assert found.high is not None
    assert found.low <= 4.0 <= found.high
    assert objective(result, "talk.rto").verdict != "error"


VERDICTS = st.lists(st.sampled_from(WORST_FIRST), max_size=6)


@given(VERDICTS, VERDICTS, st.randoms(use_true_random=False))
def test_verdicts_merge_in_any_order_and_grouping(some, others, dice):
    """The worst of all is the worst of the parts, whatever the order; saying one twice changes nothing; pass is neutral."""
    whole = worst_verdict([*some, *others])
    assert whole == worst_verdict([worst_verdict(some), worst_verdict(others)])
    assert whole == worst_verdict(dice.sample([*some, *others], len(some) + len(others)))
    assert whole == worst_verdict([*some, *others, whole, "pass"])
    assert whole == "pass" or whole in some + others
    assert WORSE[whole] == max([0, *(WORSE[one] for one in some + others)])


@given(st.lists(st.tuples(st.sampled_from(["fail", "error", "inconclusive", "pass"]), st.text("ab", max_size=1)), max_size=6))
def test_outcomes_of_checks_merge_as_verdicts_do(outcomes):
    """One order for both; only reasons of the worst are given, each once."""
    verdict, reasons = worst(outcomes)
    assert verdict == worst_verdict([one for one, _ in outcomes])
    assert set(filter(None, reasons.split("; "))) == {why for one, why in outcomes if one == verdict and why}
