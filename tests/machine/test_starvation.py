"""What used the machine while the control was late, and its edges: judge/README.md, Starved machine."""

from __future__ import annotations

import pytest
from machine_rows import second, seconds

from chaoslab.clock import NS_PER_S
from chaoslab.judge.starvation import busy_machine, in_words, starved_spans, summary

STEADY = (0, 10 * NS_PER_S)
QUIET = seconds(0, 10)
AFTER = seconds(20, 30)
DD = "dd (4711) 0.05, 38.0 MB/s"


def spans(*middle, booting=(), late_slots=(), quiet=QUIET):
    rows = [*quiet, *(row for some in middle for row in some)]
    boots = [(site, begin * NS_PER_S, end * NS_PER_S) for site, begin, end in booting]
    slots = [(round(due * NS_PER_S), round(sent * NS_PER_S)) for due, sent in late_slots]
    return starved_spans(rows, steady=STEADY, booting=boots, sites=["east", "west"], late_slots=slots)


def only(*middle, **more):
    (found,) = spans(*middle, **more)
    return found


def at_s(span):
    return span.begin_ns / NS_PER_S, span.end_ns / NS_PER_S


def test_a_quiet_machine_has_no_starved_span():
    """Nor has one that is 100 % busy while its control is in time."""
    assert spans(seconds(10, 20), AFTER) == []
    assert spans(seconds(10, 20, busy={"others": 1.9}), AFTER) == []


def test_everything_that_stands_still_is_excused():
    """Everything of the run frozen for 6 s: the sampler's row is 7 s long, and the prober's slots are as late."""
    still = second(17, lasts_s=7, late=("tick",), why="the whole machine stalled for 6.0 s")
    found = only(seconds(10, 10), [still], AFTER, late_slots=[(11.0 + n / 10, 17.0) for n in range(60)])
    assert (at_s(found), found.by, found.excused) == ((9, 18), "the machine stalled", True)
    assert "6.0 s" in found.why


def test_what_a_standstill_left_to_answer_belongs_to_it():
    """The control's slots of the standstill are answered right after it, when the replicas catch up, too."""
    still = second(17, lasts_s=7, late=("tick", "read"), control_ms={"read": 6000.0})
    catching_up = second(18, late=("read",), control_ms={"read": 6010.0}, busy={"west": 1.7})
    found = only([still, catching_up], seconds(18, 30), late_slots=[(12.0, 17.0)])
    assert (at_s(found), found.excused) == ((9, 19), True)


def test_a_standstill_does_not_excuse_what_comes_later():
    """Only the second after it is its own."""
    still = second(12, lasts_s=2.5, late=("tick",))
    storm = seconds(12, 20, late=("read",), control_ms={"read": 900.0}, busy={"west": 1.7})
    found = spans([still], storm)
    assert [span.excused for span in found] == [True, False]
    assert at_s(found[1]) == (13, 21)


def test_a_sampler_that_alone_stood_still_is_said():
    """The prober kept time meanwhile: not everything stood still, but nobody watched."""
    assert only([second(17, lasts_s=7, late=("tick",))]).by == "the sampler stalled"


def test_replicas_that_alone_are_frozen_starve_nobody():
    """The control is in no site and answers as ever."""
    assert spans(seconds(10, 16, busy={"east": 0.0, "west": 0.0}), AFTER) == []


def test_a_machine_that_slept_is_excused():
    """The monotonic clock does not go on while it sleeps, so no tick and no slot is late."""
    found = only([second(11, late=("sleep",), slept_s=300.0, why="the machine was suspended for 300.0 s")], AFTER)
    assert (found.by, found.excused, at_s(found)) == ("the machine was suspended", True, (9, 12))


def test_writers_with_fsync_are_excused_and_named():
    """Only the control's fsync is late: asked is who wrote, not who had the processors."""
    rows = seconds(
        10, 20, late=("fsync",), control_ms={"fsync": 2100.0}, writes_mb={"others": 90.0}, busy={"west": 0.9}, top=[DD]
    )
    found = only(rows, AFTER)
    assert found.excused
    assert found.by == "others (dd)"
    assert "fsync took up to 2.10 s" in found.why
    assert f"the largest of others: {DD}" in found.why


def test_a_retry_storm_of_the_survivors_is_not_excused():
    """They take the processors themselves, beyond what they took in the steady state."""
    rows = seconds(10, 20, late=("read",), control_ms={"read": 400.0}, busy={"east": 0.0, "west": 1.6, "others": 0.1})
    found = only(rows, AFTER)
    assert not found.excused
    assert found.by == "the surviving replicas (west)"


def test_survivors_that_write_too_much_are_not_excused():
    """The same on the disks."""
    rows = seconds(10, 20, late=("fsync",), control_ms={"fsync": 900.0}, writes_mb={"west": 60.0, "others": 2.0})
    assert not only(rows).excused


def test_what_the_lost_site_took_is_no_credit_of_the_survivors():
    """West takes 0.3 more; that east takes 0.3 less must not hide it."""
    rows = seconds(10, 20, late=("read",), control_ms={"read": 400.0}, busy={"east": 0.0, "west": 0.6})
    assert not only(rows).excused


@pytest.mark.parametrize(
    ("busy", "by"),
    [
        ({"others": 1.5, "west": 0.6}, "others"),
        ({"stolen": 1.2}, "stolen"),
        ({"load": 1.4}, "load"),
        ({"harness": 1.4}, "harness"),
    ],
)
def test_whoever_else_has_the_processors_excuses(busy, by):
    """Others and the hypervisor by all that they take; load and harness by what they take beyond the steady state."""
    found = only(seconds(10, 20, late=("read",), control_ms={"read": 400.0}, busy=busy))
    assert (found.excused, found.by) == (True, by)


def test_load_and_harness_as_ever_excuse_nothing():
    """They took 0.4 and 0.5 in the steady state, too."""
    quiet = seconds(0, 10, busy={"load": 0.4, "harness": 0.5})
    rows = seconds(10, 20, late=("read",), control_ms={"read": 400.0}, busy={"load": 0.4, "harness": 0.5, "west": 0.7})
    assert not only(rows, quiet=quiet).excused


def test_a_site_that_boots_excuses_and_is_no_survivor():
    """East starts and takes everything; west's own part is small."""
    rows = seconds(10, 20, late=("read",), control_ms={"read": 400.0}, busy={"east": 1.5, "west": 0.5})
    assert only(rows, booting=[("east", 10, 20)]).by == "east, while it was booting"
    assert not only(rows).excused


def test_a_disk_that_is_late_for_nobody_is_excused():
    """A hiccup below us: nobody wrote more than before, so nobody of the stack made it."""
    found = only([second(15, late=("fsync",), control_ms={"fsync": 3000.0}, writes_mb={"others": 0.0, "west": 0.1})])
    assert (found.excused, found.by) == (True, "an unknown cause")


def test_without_figures_nobody_is_accused():
    """Where there is no /proc the control is all there is."""
    rows = [second(n, late=("read",), control_ms={"read": 400.0}) for n in (11, 12)]
    bare = [type(row)(t_ns=row.t_ns, begin_ns=row.begin_ns, starved=True, late=["read"]) for row in rows]
    assert only(bare, quiet=[]).excused


def test_slots_that_went_out_late_starve_a_second_though_the_control_was_in_time():
    """The harness itself was kept from sending; who had the processors decides as ever."""
    found = only(seconds(10, 20, busy={"others": 1.8}, top=["make (1) 1.80"]), late_slots=[(14.2, 14.3)])
    assert at_s(found) == pytest.approx((13.2, 15.3))
    assert (found.excused, found.by) == (True, "others (make)")
    assert "1 slots were sent up to 0.10 s late" in found.why


def test_seconds_near_each_other_are_one_span_and_others_are_not():
    """One second to either side may be starved, too; spans that then meet are one, attributed as a whole."""
    late = {"late": ("read",), "control_ms": {"read": 400.0}, "busy": {"others": 1.9}}
    found = spans([second(12, **late), second(14, **late)], seconds(14, 18), [second(19, **late)])
    assert [at_s(span) for span in found] == [(10, 15), (17, 20)]


def test_spans_of_the_same_taker_are_told_together():
    """Figures and pids differ from span to span; who it was does not."""
    tops = (["make (1) 0.90", "cc1 (2) 0.30"], ["cc1 (3) 0.80", "make (1) 0.20"])
    late = {"late": ("read",), "control_ms": {"read": 400.0}, "busy": {"others": 1.9}}
    found = spans(*([second(at, top=top, **late)] for at, top in zip((12, 22), tops, strict=True)))
    assert summary(found) == {"starved_s": 6.0, "by": ["others (cc1, make)"]}


def test_histories_without_rows_have_no_spans():
    """Nothing is known of runs from before there were such rows, whatever their slots say."""
    assert starved_spans([], steady=STEADY, booting=[], sites=["east"], late_slots=[(1, 10**9)]) == []


def test_the_summary_counts_overlaps_once_and_names_the_longest_first():
    """A standstill and an episode beside it may share their margins."""
    late = {"late": ("read",), "control_ms": {"read": 400.0}, "busy": {"stolen": 1.9}}
    found = spans([second(13, lasts_s=3, late=("tick",))], seconds(13, 14), seconds(14, 20, **late), late_slots=[(11, 13)])
    assert summary(found)["starved_s"] == pytest.approx(21 - 9)
    assert summary(found)["by"] == ["stolen", "the machine stalled"]
    assert summary([]) == {"starved_s": 0.0, "by": []}


def test_a_steady_state_has_no_starved_second():
    """The last starved second and who had it are told, until `hold` seconds without one have passed."""
    rows = [
        *seconds(0, 5),
        second(6, late=("fsync",), why="fsync 2.10 s", writes_mb={"others": 90.0}, top=[DD]),
        *seconds(6, 9),
    ]
    trouble = busy_machine(rows, 4 * NS_PER_S, 9 * NS_PER_S)
    assert trouble == f"the machine is busy: fsync 2.10 s; by: others ({DD}): 90.00 MB/s"
    assert busy_machine(rows, 6 * NS_PER_S, 9 * NS_PER_S) is None
    assert busy_machine([], 0, NS_PER_S) is None


def test_a_standstill_has_nobody_behind_it():
    """Who had the processors meanwhile was nobody; naming the largest of nothing would accuse it."""
    assert in_words(second(7, lasts_s=6, late=("tick",), why="the whole machine stalled for 5.0 s")).endswith("5.0 s")
