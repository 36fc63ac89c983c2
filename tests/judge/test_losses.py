"""How losses are dated, and when a ledger could have shown any, against a naive reading of judge/README.md, RPO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_runs import FaultScript, Run, experiment, judged, ledger_read, ns, objective, outage, stack_spec
from msgspec.structs import replace

from chaoslab.history.result import Result
from chaoslab.history.rows import AnyRow, Fault, LedgerRead, Probe
from chaoslab.judge.ledger import Ledger, ledger_of, merged
from chaoslab.judge.losses import Span
from chaoslab.judge.objectives import alike_in_time
from chaoslab.judge.run_record import Injection, Record
from chaoslab.judge.verdict import judge
from chaoslab.judge.writes import Writes

RUN = Run(bad=outage(0.1, 3.0))
DEGRADE = FaultScript("slow", -5.0, -4.95, 15.0, 15.1, name="link.degrade")


def ledger_from(
    slots: list[Probe], reads: list[LedgerRead], injections: list[Injection], clocks: Sequence[Span] = ()
) -> Ledger:
    """From rows alone."""
    record = Record.of([*slots, *reads])
    probed = record.probes.get("talk.send")
    return ledger_of(probed.writes if probed else Writes(record.ids), record.reads.get("talk.send", []), injections, clocks)


def w(seconds: float) -> str:
    """The id of the write due then."""
    return f"w-{10_000 + round(seconds * 50)}"


def with_final(run: Run, *gone: str, **changes: Any) -> list[AnyRow]:
    """The rows of a run in which these writes are in no site in the end; `changes` to the final reads."""
    return [
        replace(row, items=[item for item in row.items if item[0] not in gone], **changes)
        if isinstance(row, LedgerRead) and row.final
        else row
        for row in run.rows()
    ]


def losing(run: Run, *gone: str, rpo: str = "< 5s") -> Result:
    return judge(experiment({"rpo": rpo}), stack_spec(), with_final(run, *gone))


def dated(result: Result) -> tuple[int, int, float]:
    found = result.ledger["talk"]
    return found.lost, found.lost_after_fault, round(found.rpo_s, 3)


# --- dating -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harmless", ["link.degrade", "service.throttle"])
def test_a_harmless_fault_that_is_on_dates_nothing(harmless):
    """A slow link is on when the power goes: what was acknowledged half a second before is half a second old."""
    run = RUN.but(faults=[FaultScript("slow", -5.0, -4.95, 15.0, 15.1, name=harmless), FaultScript()])
    result = losing(run, w(-0.5))
    assert dated(result) == (1, 0, 0.496)
    assert objective(result, "talk.rpo").verdict == "pass"


def test_a_loss_under_harmless_faults_alone_is_nobodys():
    """Nothing that could destroy data was injected: no RPO excuses it."""
    result = losing(RUN.but(faults=[DEGRADE]), w(-0.5), rpo="< 1h")
    assert dated(result) == (1, 1, 0.0)
    assert objective(result, "talk.rpo").verdict == "fail"


@pytest.mark.parametrize(("at", "age"), [(0.02, 0.0), (0.03, 0.0), (-0.02, 0.016)])
def test_what_was_acknowledged_between_call_and_effect_is_still_the_faults_victim(at, age):
    """The fault is an interval: until its effect was seen, a loss is lost and its age is nothing, never less than nothing."""
    result = losing(RUN, w(at), rpo="< 1s")
    assert dated(result) == (1, 0, age)
    assert objective(result, "talk.rpo").verdict == "pass"
    assert objective(losing(RUN, w(at), rpo="0"), "talk.rpo").verdict == "fail"


TWICE = [FaultScript("fire", 0.0, 0.05, 5.0, 5.1), FaultScript("again", 9.0, 9.05, 20.0, 20.1)]


@pytest.mark.parametrize(("at", "age"), [(8.0, 0.996), (4.0, 4.996), (0.06, 8.936)])
def test_a_loss_between_two_effects_is_dated_by_the_next_fault(at, age):
    """Whether the first was still on or not: the next could destroy it."""
    run = RUN.but(faults=TWICE, bad=outage(1.0, 3.0))
    assert dated(losing(run, w(at))) == (1, 0, age)
    assert objective(losing(run, w(at)), "talk.rpo").verdict == ("pass" if age < 5 else "fail")


@pytest.mark.parametrize("partition", ["site.isolate", "link.cut", "link.flap"])
@pytest.mark.parametrize(("at", "after"), [(4.0, 1), (5.08, 1), (6.0, 0)])
def test_a_loss_from_under_a_healed_partition_is_not_excused_by_the_next_fault(partition, at, after):
    """The sites were joined again, and the write was not kept: two writers."""
    first = FaultScript("cut", 0.0, 0.05, 5.0, 5.1, name=partition)
    result = losing(RUN.but(faults=[first, TWICE[1]]), w(at), rpo="< 1h")
    assert dated(result) == (1, after, 0.0 if after else pytest.approx(9 - at - 0.004))
    assert objective(result, "talk.rpo").verdict == ("fail" if after else "pass")


def test_a_partition_that_is_still_on_excuses_as_any_fault():
    """The side that took the write died before it could pass it on."""
    cut = FaultScript("cut", 0.0, 0.05, 12.0, 12.1, name="link.cut")
    assert dated(losing(RUN.but(faults=[cut, TWICE[1]]), w(4.0))) == (1, 0, 4.996)


def test_a_cycle_of_a_flap_is_a_partition_of_its_own():
    """Cut 0–1 s and 2–3 s: what was acknowledged in the first cut is not excused by the second, in the pause it is."""
    flap = FaultScript("f", 0.0, 0.05, 4.0, 4.1, name="link.flap")
    cycles = [
        row
        for number, begin in ((1, 0.0), (2, 2.0))
        for row in FaultScript(f"f#{number}", begin, None, begin + 1, None, name="link.flap").rows()
        if isinstance(row, Fault) and row.event in ("inject", "heal")
    ]
    run = Run(faults=[flap], more=cycles)
    assert dated(losing(run, w(0.5))) == (1, 1, 0.0)
    assert dated(losing(run, w(1.5))) == (1, 0, 0.496)


def test_a_loss_after_the_last_effect_is_excused_by_nothing():
    """Acknowledged under the fault: shown apart, and a fail whatever the RPO."""
    result = losing(RUN, w(10.0), rpo="< 1h")
    assert dated(result) == (1, 1, 0.0)
    assert objective(result, "talk.rpo").verdict == "fail"


# --- against a second implementation ----------------------------------------------------------------------------

NAMES = ["site.power-loss", "site.isolate", "link.cut", "link.flap", "link.degrade", "service.throttle", "exec"]
INSTANT = st.integers(0, 60)  # a third of a second each


@st.composite
def faults(draw) -> list[FaultScript]:
    scripts = []
    for number in range(draw(st.integers(0, 4))):
        inject = draw(INSTANT)
        effective = draw(st.none() | st.integers(inject, inject + 6))
        heal = draw(st.none() | st.integers(inject, 70))
        healed = None if heal is None else draw(st.none() | st.integers(heal, heal + 6))
        times = [None if one is None else one / 3 for one in (effective, heal, healed)]
        scripts.append(FaultScript(f"f{number}", inject / 3, *times, name=draw(st.sampled_from(NAMES))))
    return scripts


def naive_age_s(rows: list[AnyRow], acked_ns: int) -> float | None:
    """Section 3, sentence by sentence, from the rows of the faults alone."""
    events: dict[str, dict[str, int]] = {}
    names: dict[str, str] = {}
    for row in rows:
        if isinstance(row, Fault):
            events.setdefault(row.id, {})[row.event] = row.t_ns
            names[row.id] = row.name
    best: tuple[int, str] | None = None
    for id_, at in events.items():
        can_destroy = names[id_] not in ("link.degrade", "service.throttle")
        effect_ns = at.get("effective", at["inject"])
        if can_destroy and not effect_ns < acked_ns and (best is None or (at["inject"], id_) < best):
            best = (at["inject"], id_)
    if best is None:
        return None  # after the last such effect
    for id_, at in events.items():
        if names[id_] in ("site.isolate", "link.cut", "link.flap") and "heal" in at:
            over_ns = at.get("healed", at["heal"])
            under = at.get("effective", at["inject"]) < acked_ns < over_ns
            if under and not over_ns > best[0]:
                return None
    return max(0.0, (best[0] - acked_ns) / 1e9)


def slot(seq: int, acked_ns: int) -> Probe:
    return Probe(
        t_ns=acked_ns, journey="talk.send", service="talk", op="write", due_ns=acked_ns - 1, sent_ns=acked_ns - 1,
        end_ns=acked_ns, good=True, outcome="acked", id=f"w-{seq}", writer="w", seq=seq, hash="h",
    )  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(faults(), st.lists(st.integers(-6, 80), min_size=1, max_size=8, unique=True))
def test_losses_are_dated_as_a_naive_reading_of_the_contract_dates_them(scripts, thirds):
    """Any faults, in any overlap; any acknowledged writes, all of them lost."""
    rows = [row for script in scripts for row in script.rows()]
    slots = [slot(seq, ns(third / 3)) for seq, third in enumerate(sorted(thirds))]
    reads = [ledger_read([], site="pangyo", at=40.0)]
    found = ledger_from(slots, reads, Record.of(rows).injections)
    ages = {one.id: naive_age_s(rows, one.end_ns) for one in slots}
    assert found.lost == ages.keys()
    assert found.lost_after_fault == {id_ for id_, age in ages.items() if age is None}
    assert found.rpo_s == max((age for age in ages.values() if age is not None), default=0.0)


# --- an empty ledger --------------------------------------------------------------------------------------------


def mute(begin: float, end: float) -> Run:
    """No write is acknowledged between these; the read is as ever."""
    return RUN.but(bad={"talk.send": [(begin, end), (0.1, 3.0)], "talk.read": [(0.1, 3.0)]})


def test_an_empty_ledger_proves_nothing():
    """No write acknowledged in the last two seconds before the fault: a loss could not have shown."""
    assert objective(judged(mute(-2.1, 0.0)), "talk.rpo").verdict == "inconclusive"
    assert "before fire" in objective(judged(mute(-2.1, 0.0)), "talk.rpo").why
    assert objective(judged(mute(-2.1, 0.0), experiment({"rto": "< 10s"})), "talk.ledger").verdict == "inconclusive"
    assert objective(judged(mute(-1.9, 0.0)), "talk.rpo").verdict == "pass"


def test_the_harmless_fault_before_it_is_not_asked():
    """A slow link that nobody wrote before, and a fire with writes before it: the fire's could have been lost."""
    slow = FaultScript("slow", -3.9, -3.8, 15.0, 15.1, name="link.degrade")
    assert objective(judged(RUN.but(faults=[slow, FaultScript()])), "talk.rpo").verdict == "pass"


def test_harmless_faults_alone_are_asked():
    """Nothing can destroy data; but a service that acknowledges nothing keeps every promise."""
    assert objective(judged(RUN.but(faults=[DEGRADE])), "talk.rpo").verdict == "inconclusive"
    assert objective(judged(RUN.but(faults=[replace_at(DEGRADE, 0.0)])), "talk.rpo").verdict == "pass"


def replace_at(script: FaultScript, inject: float) -> FaultScript:
    return FaultScript(script.id, inject, inject + 0.05, script.heal, script.healed, name=script.name)


def silent_faults(*scripts: FaultScript, acks: list[float], clocks: list[tuple[float, float]]) -> tuple[bool, set[str]]:
    slots = [slot(seq, ns(at)) for seq, at in enumerate(acks)]
    injections = Record.of([row for script in scripts for row in script.rows()]).injections
    found = ledger_from(slots, [], injections, [(ns(begin), ns(end)) for begin, end in clocks])
    return found.acked_before_fault, found.silent_faults


@pytest.mark.parametrize(
    ("acks", "clocks", "silent"),
    [
        ([-1.0, 8.0], [], (True, set())),
        ([-1.0], [], (True, {"again"})),
        ([-1.0], [(0.0, 9.5)], (True, set())),
        ([-1.0], [(0.0, 8.9)], (True, {"again"})),
        ([-1.0], [(9.0, 12.0)], (True, {"again"})),
        ([8.0], [], (True, {"fire"})),
        ([], [(-1.0, 9.5)], (False, set())),
        ([-2.01], [(0.0, 9.5)], (False, {"fire"})),
    ],
    ids=[
        "both had writes", "the second had none", "an outage goes on", "it was over", "its own clock", "the first had none",
        "outages before both", "too long ago",
    ],
)  # fmt: skip
def test_each_fault_that_can_destroy_data_is_asked_unless_a_clock_runs(acks, clocks, silent):
    """Writes cannot be acknowledged in an outage; but some fault of the run must have had them."""
    assert silent_faults(*TWICE, acks=acks, clocks=clocks) == silent


def test_a_run_whose_faults_all_came_into_outages_is_inconclusive():
    """No fault at all could have cost a write."""
    ledger = ledger_from([slot(1, ns(-9))], [], Record.of(FaultScript().rows()).injections, [(ns(-5), ns(5))])
    assert (ledger.acked_before_fault, ledger.silent_faults) == (False, set())
    assert merged([ledger, Ledger(acked_before_fault=True)]).acked_before_fault is False


# --- reads that are not final -----------------------------------------------------------------------------------

CHANGING = {"settled": False, "differed_ns": ns(58.0)}


def one_sided(rows: list[AnyRow], *gone: str) -> list[AnyRow]:
    """One site lacks these."""
    return [
        replace(row, items=[item for item in row.items if item[0] not in gone])
        if isinstance(row, LedgerRead) and row.site == "anyang"
        else row
        for row in rows
    ]


def test_a_site_that_still_catches_up_is_inconclusive():
    """One site lacks two writes, and changed in the last round."""
    result = judge(experiment(), stack_spec(), one_sided(with_final(RUN, **CHANGING), w(5.0), w(6.0)))
    assert result.ledger["talk"].divergent == 2
    assert objective(result, "talk.ledger").verdict == "inconclusive"
    assert "still changing" in objective(result, "talk.ledger").why
    settled = judge(experiment(), stack_spec(), one_sided(with_final(RUN), w(5.0), w(6.0)))
    assert objective(settled, "talk.ledger").verdict == "fail"


@pytest.mark.parametrize("objectives", [{"rpo": 0}, {"rto": "< 10s"}], ids=["rpo", "no rpo"])
@pytest.mark.parametrize("at", [-1.0, 10.0], ids=["dated", "after the fault"])
def test_what_is_missing_while_sites_change_may_still_come(objectives, at):
    """Nothing is lost for good before two rounds agreed."""
    rows = with_final(RUN, w(at), **CHANGING)
    result = judge(experiment(objectives), stack_spec(), rows)
    assert {one.verdict for one in result.objectives if one.id in ("talk.rpo", "talk.ledger")} == {"inconclusive"}
    assert result.verdict == "inconclusive"


def test_an_unsettled_read_is_no_pass_either():
    """Nothing is missing as last seen; but that was not the end of it."""
    result = judge(experiment(), stack_spec(), with_final(RUN, **CHANGING))
    assert objective(result, "talk.rpo").verdict == objective(result, "talk.ledger").verdict == "inconclusive"


Change = Callable[[list[tuple[str, str]]], list[tuple[str, str]]]


@pytest.mark.parametrize(
    "change",
    [
        lambda items: [*items, items[0]],
        lambda items: [(items[0][0], "other"), *items[1:]],
        lambda items: [*items, ("w-99999", "h")],
        lambda items: [*items, (w(7.0), "h10350")],
    ],
    ids=["duplicated", "corrupt", "unexpected", "resurrected"],
)
def test_what_waiting_cannot_mend_stays_a_fail(change: Change):
    """Doubled, changed, made up or undone: no later round makes that right."""
    run = RUN.but(edit=lambda one: replace(one, outcome="rejected", good=False) if one.id == w(7.0) else one)
    rows = [
        replace(row, items=change(row.items)) if isinstance(row, LedgerRead) and row.final else row
        for row in with_final(run, **CHANGING)
    ]
    assert objective(judge(experiment(), stack_spec(), rows), "talk.ledger").verdict == "fail"


def test_a_loss_is_none_where_a_site_could_not_be_read():
    """What that site holds is not known: the write may be there."""
    rows = [
        replace(row, ok=False, items=[], settled=False) if isinstance(row, LedgerRead) and row.site == "anyang" else row
        for row in with_final(RUN, w(-1.0))
    ]
    result = judge(experiment(), stack_spec(), rows)
    assert objective(result, "talk.rpo").verdict == "inconclusive"
    assert "anyang" in objective(result, "talk.rpo").why


# --- when the sites were alike ----------------------------------------------------------------------------------


def read_at(site: str, at: float, *ids: str, **more: Any) -> LedgerRead:
    return ledger_read([(id_, "h") for id_ in ids], site=site, at=at, **more)


def seen(*reads: LedgerRead) -> tuple[int | None, int | None]:
    found = ledger_from([slot(1, ns(1)), slot(2, ns(1.5))], list(reads), [])
    return found.differed_ns, found.alike_ns


def test_a_ledger_knows_when_its_sites_were_alike():
    """From the final reads: when they were last seen to differ, and when they were read alike for good."""
    both = [read_at("pangyo", 30.0, "w-1"), read_at("anyang", 30.1, "w-1")]
    assert seen(*both) == (None, ns(30.11))
    assert seen(*(replace(read, differed_ns=ns(29.0)) for read in both)) == (ns(29.0), ns(30.11))
    assert seen(*(replace(read, settled=False) for read in both)) == (None, None)
    assert seen(both[0], read_at("anyang", 30.1)) == (ns(30.1), None)
    assert seen(both[0], replace(both[1], ok=False)) == (None, None)
    assert seen() == (None, None)


@pytest.mark.parametrize(
    ("differed", "alike", "verdict"),
    [
        (None, 9.0, "pass"), (None, 31.0, "pass"), (9.0, 9.5, "pass"), (10.5, 11.0, "fail"), (10.5, None, "fail"),
        (9.9, 10.1, "inconclusive"), (9.0, None, "inconclusive"), (None, None, "inconclusive"),
    ],
)  # fmt: skip
def test_sites_that_are_not_alike_in_time_miss_the_failback_objective(differed, alike, verdict):
    """Its time is over at 10 s. Sites that were alike at the first look may have been so all the time."""
    ledger = Ledger(differed_ns=None if differed is None else ns(differed), alike_ns=None if alike is None else ns(alike))
    assert alike_in_time(ledger, ns(10.0))[0] == verdict


def test_a_service_is_alike_when_all_its_journeys_are():
    """The latest of them; none when one is not."""
    one, other = Ledger(differed_ns=5, alike_ns=9), Ledger(alike_ns=12)
    assert (merged([one, other]).differed_ns, merged([one, other]).alike_ns) == (5, 12)
    assert merged([one, other, Ledger()]).alike_ns is None
