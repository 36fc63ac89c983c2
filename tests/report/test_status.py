"""How things stand, worked out from rows."""

import pytest
from synthetic_runs import failing

from chaoslab.clock import FakeClock
from chaoslab.history.rows import Fault, Load, Machine, PhaseRow, Probe, Step
from chaoslab.report.status import StatusTracker, StepNow

S = 1_000_000_000


def slot(at_s: float, *, good: bool, journey: str = "talk.read", latency_ms: float = 10.0) -> Probe:
    end_ns = round(at_s * S)
    due_ns = end_ns - round(latency_ms * 1e6)
    return Probe(
        t_ns=end_ns,
        journey=journey,
        service=journey.partition(".")[0],
        op="read",
        due_ns=due_ns,
        sent_ns=due_ns,
        end_ns=end_ns,
        good=good,
        outcome="ok" if good else "bad",
    )


def tracker_at(seconds: float) -> tuple[StatusTracker, FakeClock]:
    clock = FakeClock(round(seconds * S))
    return StatusTracker(clock), clock


@pytest.mark.parametrize(
    ("bad", "state"), [(0, "up"), (2, "up"), (3, "degraded"), (25, "degraded"), (26, "down"), (50, "down")]
)
def test_a_service_is_as_the_share_of_its_good_slots(bad: int, state: str) -> None:
    """From 95 % good it is up, below half it is down, between it is degraded."""
    tracker, _ = tracker_at(10)
    for number in range(50):
        tracker.row(slot(9.01 + number * 0.0199, good=number >= bad))
    now = tracker.status().services["talk"]
    assert (now.state, now.slots) == (state, 50)
    assert now.good_share == pytest.approx(1 - bad / 50)


def test_a_service_is_as_its_worst_journey() -> None:
    """Reads that work do not hide writes that fail."""
    tracker, _ = tracker_at(10)
    for number in range(50):
        tracker.row(slot(9.5, good=True))
        tracker.row(slot(9.5, good=number > 48, journey="talk.send"))
    assert tracker.status().services["talk"].state == "down"


def test_silence_is_down_not_up() -> None:
    """Slots that hang send no rows for a while; a service that has answered before and says nothing is down."""
    tracker, clock = tracker_at(10)
    tracker.row(slot(9.9, good=True))
    assert tracker.status().services["talk"].state == "up"
    clock.sleep(1.5)
    now = tracker.status().services["talk"]
    assert (now.state, now.slots, now.good_share) == ("down", 0, None)
    clock.sleep(2)
    assert tracker.status().services["talk"].since_s == pytest.approx(2)


def test_nothing_is_said_of_services_while_nothing_is_probed() -> None:
    """After the prober ended its silence is no outage."""
    tracker, clock = tracker_at(10)
    tracker.row(slot(9.9, good=True))
    tracker.row(PhaseRow(t_ns=10 * S, phase="drain", event="begin"))
    clock.sleep(5)
    assert tracker.status().services == {}


def test_latency_is_of_good_slots_from_the_due_time() -> None:
    """p95 leaves out what was bad: its latency is the prober's own time-out."""
    tracker, _ = tracker_at(10)
    for number in range(100):
        tracker.row(slot(9.5, good=True, latency_ms=float(number + 1)))
    tracker.row(slot(9.5, good=False, latency_ms=2000))
    assert tracker.status().services["talk"].p95_ms == pytest.approx(96)


def test_time_left_comes_from_the_phase() -> None:
    """A phase that says how long it takes has time left, never less than none; others have not."""
    tracker, clock = tracker_at(0)
    assert tracker.status().phase is None
    tracker.row(PhaseRow(t_ns=0, phase="boot", event="begin"))
    assert tracker.status().left_s is None
    clock.sleep(10)
    tracker.row(PhaseRow(t_ns=10 * S, phase="steady", event="begin", detail={"planned_s": 8.0}))
    clock.sleep(3)
    status = tracker.status()
    assert (status.phase, status.elapsed_s, status.left_s, status.phase_length_s) == ("steady", 13.0, 5.0, 8.0)
    clock.sleep(30)
    assert tracker.status().left_s == 0.0
    tracker.row(PhaseRow(t_ns=43 * S, phase="faults", event="begin", detail={"planned_s": 72.0, "at_most": True}))
    assert (tracker.status().left_s, tracker.status().at_most, status.at_most) == (72.0, True, False)


def test_faults_and_load() -> None:
    """Each fault by its last event; a load that went quiet is zero, not what it was."""
    tracker, clock = tracker_at(10)
    tracker.row(Fault(t_ns=8 * S, id="f", name="site.power-loss", target="pangyo", event="inject"))
    tracker.row(Fault(t_ns=9 * S, id="f", name="site.power-loss", target="pangyo", event="effective"))
    tracker.row(Load(t_ns=10 * S, requests=150, failures=3, users=40))
    status = tracker.status()
    assert (status.faults["f"].state, status.faults["f"].since_s) == ("effective", 1.0)
    assert (status.rps, status.failures_per_s, status.users) == (150, 3, 40)
    clock.sleep(4)
    assert tracker.status().rps == 0


def test_a_whole_run_stays_cheap_to_follow() -> None:
    """Memory is bounded by the window: after a run of 35k slots only the last second's are kept."""
    run = failing()
    clock = FakeClock(run.rows[0].t_ns)
    tracker = StatusTracker(clock)
    for row in run.rows:
        clock.sleep((row.t_ns - clock.now_ns()) / S)
        tracker.row(row)
        tracker.status() if isinstance(row, Load) else None
    kept = sum(len(journey.recent) for journey in tracker._journeys.values())
    assert kept < 8 * 50 * 3


def test_after_a_phase_that_was_cut_short_no_time_is_left_of_it() -> None:
    """Known bad: after Ctrl-C the screen went on counting the fault down, and people asked again."""
    tracker, _ = tracker_at(10)
    assert not tracker.status().begun
    tracker.row(PhaseRow(t_ns=1 * S, phase="faults", event="begin", detail={"planned_s": 50}))
    assert tracker.status().left_s == 41
    tracker.row(PhaseRow(t_ns=9 * S, phase="faults", event="end"))
    now = tracker.status()
    assert (now.phase, now.begun, now.left_s) == (None, True, None)


def test_a_machine_that_is_starved_is_told_while_it_is() -> None:
    """What was late and who had the machine; a second later, with a row that was in time, nothing."""
    tracker, clock = tracker_at(10)
    had = {"busy": {"others": 0.9}, "top": ["dd (4711) 0.90"]}
    tracker.row(Machine(t_ns=10 * S, begin_ns=9 * S, starved=True, late=["fsync"], why="fsync 2.1 s late", **had))
    assert tracker.status().starved == "fsync 2.1 s late; by: others (dd (4711) 0.90): 0.90 CPUs"
    tracker.row(Machine(t_ns=11 * S, begin_ns=10 * S, busy={"others": 0.9}))
    clock.sleep(1)
    assert tracker.status().starved is None


def test_a_machine_that_nobody_watches_any_more_is_not_starved_for_ever() -> None:
    """The last row grows old when the watch has ended."""
    tracker, clock = tracker_at(10)
    tracker.row(Machine(t_ns=10 * S, begin_ns=9 * S, starved=True, why="late"))
    clock.sleep(3)
    assert tracker.status().starved is None


def test_a_step_is_shown_while_it_is_under_way() -> None:
    """From its begin until it is over or has failed."""
    tracker, _ = tracker_at(10)
    for id_ in ("a", "b", "c"):
        tracker.row(Step(t_ns=8 * S, id=id_, name="run", event="begin", detail={"target": "promote.sh"}))
    tracker.row(Step(t_ns=9 * S, id="a", name="run", event="end"))
    tracker.row(Step(t_ns=9 * S, id="b", name="run", event="failed", detail={"why": "exit status 1"}))
    tracker.row(Step(t_ns=9 * S, id="c", name="run", event="returned"))
    assert tracker.status().steps == {"c": StepNow("run", "promote.sh", 2.0)}
