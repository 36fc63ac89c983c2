"""What has failed for good: judge/README.md, End of a run that has failed."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judge_runs import FaultScript, Run, experiment, ns, outage, stack_spec, verdicts
from msgspec.structs import replace
from timelines import MS, ORIGIN, WHOLE_S, S, Scene, at, experiment_of, rows_of, scenes, stack_of

from chaoslab.history.rows import Answer, AnyRow, Ask, Decided, Machine, Probe, Start, Step
from chaoslab.judge.early_end import SETTLED_S, settled_ns
from chaoslab.judge.run_record import Record
from chaoslab.judge.verdict import failed_for_good, judge
from chaoslab.spec.model import Experiment
from chaoslab.spec.stackfile.model import StackSpec

WITHIN_S = 0.5  # of the journeys in judge_runs


def failed_at(rows: list[AnyRow], spec: Experiment, stack: StackSpec, now_ns: int, latest_ns: int) -> set[str]:
    """What had failed for good by then, of rows that were written by then: of a slot when its answer came."""
    so_far = [row for row in rows if row.t_ns <= now_ns]
    decided = Decided(t_ns=now_ns, objectives=[], settled_ns=settled_ns(stack, now_ns), latest_ns=latest_ns)
    return {*failed_for_good(spec, stack, Record.of(so_far), decided)}


@st.composite
def ended(draw: st.DrawFn) -> tuple[Scene, int]:
    """A timeline and when it might be ended: mostly soon after a bad slot is settled, as a limit may just be exceeded then."""
    scene = draw(scenes())
    slots = [(journey, slot.due) for journey in scene.facts.journeys for slot in journey.slots if not slot.good]
    begin_ns, end_ns = ORIGIN, at(WHOLE_S[scene.rate])
    if not slots or draw(st.integers(0, 3)) == 0:
        return scene, draw(st.integers(begin_ns, end_ns))
    journey, due_ns = draw(st.sampled_from(slots))
    return scene, min(end_ns, max(begin_ns, due_ns + journey.within + draw(st.sampled_from([0, 50, 3050, 3400])) * MS))


SOME = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@SOME
@given(ended())
def test_what_failed_for_good_fails_in_the_whole_run(case: tuple[Scene, int]) -> None:
    """Wherever the run would have been ended. Only what makes a run untold may take it back: then it is inconclusive."""
    scene, now_ns = case
    rows, spec, stack = rows_of(scene), experiment_of(scene), stack_of(scene)
    spoilt = scene.starved_rows or scene.facts.cut or any(None in (one.effective, one.healed) for one in scene.facts.faults)
    allowed = {"fail", "inconclusive"} if spoilt else {"fail"}
    failed = failed_at(rows, spec, stack, now_ns, at(WHOLE_S[scene.rate]) + 10 * S)
    whole = verdicts(judge(spec, stack, rows)) if failed else {}
    for id_ in failed:
        assert whole[id_] in allowed, id_


@SOME
@given(ended())
def test_the_judge_confirms_what_ended_the_run(case: tuple[Scene, int]) -> None:
    """From the rows of the run that was ended, its heals counted in; and of a service it judges nothing that had not failed."""
    scene, now_ns = case
    rows, spec, stack = rows_of(scene), experiment_of(scene), stack_of(scene)
    latest_ns = now_ns + 10 * S
    failed = failed_at(rows, spec, stack, now_ns, latest_ns)
    decided = Decided(t_ns=now_ns, objectives=sorted(failed), settled_ns=settled_ns(stack, now_ns), latest_ns=latest_ns)
    result = judge(spec, stack, [*(row for row in rows if row.t_ns <= now_ns + 2 * S), decided])
    of_services = [one for one in result.objectives if one.id.endswith((".rto", ".failback", ".restored"))]
    assert {one.id for one in of_services if one.verdict == "fail"} == failed
    assert all(one.verdict == "fail" or one.why.startswith("not judged") for one in of_services)
    assert result.verdict != "pass"


SPEC = experiment({"rto": "< 4s", "failback": "< 3s"})
DARK = Run(bad=outage(0.1, 27.0), faults=[FaultScript(heal=20.0, healed=20.5)])


def failed_in(run: Run, now_s: float, spec: Experiment = SPEC, stack: StackSpec | None = None) -> set[str]:
    return failed_at(run.rows(), spec, stack or stack_spec(), ns(now_s), ns(60.0))


def test_an_rto_has_failed_once_its_slots_are_settled() -> None:
    """Not with the first slot beyond it, which may yet turn out to have been starved."""
    settled_s = 4.05 + SETTLED_S + WITHIN_S
    assert failed_in(DARK, settled_s - 0.1) == set()
    assert failed_in(DARK, settled_s + 0.1) == {"talk.rto"}


def test_a_starved_machine_excuses_it() -> None:
    """Seconds in which the machine itself stood still do not count, so the outage has to last for longer."""
    busy = [Machine(t_ns=ns(at_s + 1), begin_ns=ns(at_s), starved=True, why="late", busy={"others": 2.0}) for at_s in (1, 2)]
    quiet = [Machine(t_ns=ns(at_s + 1), begin_ns=ns(at_s)) for at_s in range(-4, 1)]
    run = DARK.but(more=[*quiet, *busy])
    assert failed_in(run, 8.5) == set()
    assert failed_in(run, 12.5) == {"talk.rto"}


def test_nothing_has_failed_while_the_harness_stalls() -> None:
    """Slots that are sent late may be the harness's own outage."""

    def late(slot: Probe) -> Probe:
        return replace(slot, sent_ns=slot.due_ns + 30_000_000) if slot.seq is None or slot.seq % 20 else slot

    assert failed_in(DARK.but(edit=late), 15.0) == set()


def test_nothing_has_failed_while_the_harness_stalls_in_failback() -> None:
    """Known bad: the run counted the slots of the faults alone, and ended; the judge, which counts them all, told nothing."""

    def late(slot: Probe) -> Probe:
        return replace(slot, sent_ns=slot.due_ns + 30_000_000) if slot.due_ns > ns(22.2) else slot

    assert failed_in(DARK, 26.0) == {"talk.rto"}
    assert failed_in(DARK.but(edit=late), 26.0) == set()


def test_what_may_come_about_in_failback_has_not_failed() -> None:
    """A condition that does not hold yet."""
    run = Run(faults=[FaultScript(heal=5.0, healed=5.5)], holds={"failback": False}, faults_end_s=5.0)
    assert "failback.leader-in-pangyo" in {
        one.id for one in judge(SPEC, stack_spec(), run.rows()).objectives if one.verdict == "fail"
    }
    assert failed_in(run, 26.5) == set()


def circle(since_s: float) -> list[AnyRow]:
    """Two services that wait for each other from an instant on."""
    pair = ("auth", "talk"), ("talk", "auth")
    starts = [Start(t_ns=ns(since_s), replica=f"{one}-1", service=one, fault="fire", event="returning") for one, _ in pair]
    asks = [
        Ask(
            t_ns=ns(since_s + at_s), client=f"{one}-1", client_service=one, target=f"{other}-1", target_service=other,
            port=80, how="refused", times=1,
        )
        for at_s in range(1, 20)
        for one, other in pair
    ]  # fmt: skip
    return [*starts, *asks]


def test_a_circle_has_failed_once_a_later_heal_has_seen_it() -> None:
    """Before that, it may yet be broken by itself: it was not looked at."""
    faults = [FaultScript("one", 0.0, 0.05, 5.0, 5.5), FaultScript("two", 0.0, 0.05, 20.0, 20.5)]
    run = Run(faults=faults, more=circle(5.0))
    assert "start-order" not in failed_in(run, 19.5)
    assert "start-order" in failed_in(run, 20.5)


def seconds_of_the_machine(*starved: int) -> list[AnyRow]:
    """A row for each second, which is written at its end. Other programs took the machine in these."""
    return [
        Machine(
            t_ns=ns(at_s + 1), begin_ns=ns(at_s), starved=at_s in starved, why="late",
            late=["read"] if at_s in starved else [], busy={"others": 2.0 if at_s in starved else 0.1},
        )
        for at_s in range(-4, 27)
    ]  # fmt: skip


def two_writers(from_s: float, to_s: float) -> list[AnyRow]:
    """Two replicas that both take writes for a while; one of them before, the other one afterwards."""
    spans = {"pg-pangyo": (-4.0, to_s), "pg-anyang": (from_s, 26.0)}
    rows: list[AnyRow] = []
    for replica, (begin_s, end_s) in spans.items():
        for number in range(-20, 130):
            asked_ns, answered_ns = ns(number / 5), ns(number / 5 + 0.01)
            times = {"asked_ns": asked_ns, "answered_ns": answered_ns, "last_asked_ns": asked_ns, "t_ns": answered_ns}
            value = begin_s <= number / 5 < end_s
            rows.append(Answer(about="writes", replica=replica, service="pg", value=value, **times))
    return rows


def test_two_writers_have_failed_once_it_is_known_that_the_machine_was_not_starved() -> None:
    """Known bad: with the first answers of both, before the row of that very second came, which excuses them."""
    writers = {name: {"get": f"http://{name}:1/primary", "expect": "leads"} for name in ("pg-pangyo", "pg-anyang")}
    stack = StackSpec.model_validate(stack_spec().model_dump(mode="json", by_alias=True) | {"writers": writers})
    both = two_writers(5.1, 5.9)
    starved = DARK.but(bad={}, more=[*seconds_of_the_machine(5), *both])
    assert verdicts(judge(SPEC, stack, starved.rows()))["one-writer.pg"] == "inconclusive"
    for tenths in range(50, 110):
        assert failed_in(starved, tenths / 10, stack=stack) == set(), tenths
    calm = DARK.but(bad={}, more=[*seconds_of_the_machine(), *both])
    settled_s = 5.41 + SETTLED_S + WITHIN_S  # both have said so, and one of them was asked again
    assert failed_in(calm, settled_s - 0.1, stack=stack) == set()
    assert failed_in(calm, settled_s + 0.5, stack=stack) == {"one-writer.pg"}


def test_a_step_that_was_late_has_failed_once_it_is_known_that_the_machine_was_not_starved() -> None:
    """One that failed for another reason has failed at once."""
    step = {"id": "mend", "after": "fire", "run": ["true"], "budget": "4s"}
    fire = {"id": "fire", "at": "0s", "fault": "site.power-loss", "site": "pangyo", "heal_after": "20s"}
    spec = experiment({"rto": "< 4s"}, timeline=[fire, step])

    def run(starved: list[int], **detail: object) -> Run:
        begun = Step(t_ns=ns(1.0), id="mend", name="run", event="begin")
        failed = Step(t_ns=ns(5.2), id="mend", name="run", event="failed", detail={"why": "it failed", **detail})
        return DARK.but(bad=outage(0.1, 2.0), more=[*seconds_of_the_machine(*starved), begun, failed])

    late = {"late": True, "limit_s": 4.0}
    excused = run([5], **late)
    assert verdicts(judge(spec, stack_spec(), excused.rows()))["step.mend"] == "inconclusive"
    for tenths in range(50, 110):
        assert failed_in(excused, tenths / 10, spec) == set(), tenths
    assert failed_in(run([], **late), 5.2 + SETTLED_S + WITHIN_S + 0.1, spec) == {"step.mend"}
    assert failed_in(run([5]), 5.3, spec) == {"step.mend"}
