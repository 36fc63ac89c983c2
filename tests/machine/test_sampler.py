"""From two samples of a machine to what used it in between, and from a second of the control to whether it was late."""

from __future__ import annotations

import os

import pytest

from chaoslab.clock import NS_PER_S
from chaoslab.machine import procfs
from chaoslab.machine.control_probe import LongestWait
from chaoslab.machine.plan import MachinePlan
from chaoslab.machine.process_owners import ProcessOwners
from chaoslab.machine.procfs import Process, Totals
from chaoslab.machine.rows import MachineRows
from chaoslab.machine.sampler import Sample, Sampler, between
from chaoslab.probe.grid import Grid
from chaoslab.probe.scheduler import SlotResult

PLAN = MachinePlan(history="", run_id="r1", harness=os.getpid(), sites=["east"], outside=["entry"], late_s=0.25)


def process(pid, own_s, *, parent=1, children_s=0.0, start=0, name="x"):
    return Process(pid, name, "S", parent, start, own_s, children_s, 1, kernel=False)


def look(at_s, processes, owners, *, asleep_s=0.0, **more):
    at_ns = round(at_s * NS_PER_S)
    by_pid = {one.pid: one for one in processes}
    return Sample(at_ns, at_ns + round(asleep_s * NS_PER_S), processes=by_pid, owners=owners, **more)


def test_processors_by_owner():
    """What no process had is the kernel's; a rate is by the second, however long the look took to come."""
    owners = {10: "east", 11: "load", 12: "others"}
    before = look(0, [process(10, 1), process(11, 1), process(12, 1)], owners, totals=Totals(busy_s=10, stolen_s=1))
    after = look(2, [process(10, 2), process(11, 1.5), process(12, 1)], owners, totals=Totals(busy_s=12, stolen_s=1.4))
    assert between(before, after)["busy"] == {"east": 0.5, "load": 0.25, "others": 0.0, "kernel": 0.25, "stolen": 0.2}


def test_children_that_came_and_went_are_their_parents():
    """A health check lives for less than a second; a child that was seen before is not counted twice."""
    owners = {10: "east", 20: "east"}
    before = look(0, [process(10, 1), process(20, 5, parent=10)], owners)
    after = look(1, [process(10, 1, children_s=5.5)], {10: "east"}, totals=Totals(busy_s=1))
    assert between(before, after)["busy"]["east"] == 0.5


def test_grandchildren_that_ended_with_their_parent_are_not_counted_again():
    """A shell that waits for a build gets all of the build's time at once, most of which was seen while it was spent."""
    tree = [process(10, 0), process(20, 1, parent=10), process(30, 4, parent=20)]
    before = look(0, tree, dict.fromkeys((10, 20, 30), "others"))
    after = look(1, [process(10, 0, children_s=5.25)], {10: "others"}, totals=Totals(busy_s=2))
    assert between(before, after)["busy"]["others"] == 0.25


def test_no_more_is_told_than_the_machine_was_busy_with():
    """What a parent waited for may be older than we could see."""
    before = look(0, [process(10, 0), process(11, 0)], {10: "others", 11: "east"})
    after = look(1, [process(10, 0, children_s=99), process(11, 0.5)], {10: "others", 11: "east"}, totals=Totals(busy_s=1.5))
    assert between(before, after)["busy"] == {"others": 1.0, "east": 0.5, "kernel": 0.0, "stolen": 0.0}


def test_a_pid_that_comes_again_is_somebody_else():
    """Its time counts from nothing."""
    before = look(0, [process(10, 100)], {10: "others"})
    after = look(1, [process(10, 0.25, start=7)], {10: "others"})
    assert between(before, after)["busy"]["others"] == 0.25


def test_the_largest_outside_the_run_are_named_by_processor_and_by_disk():
    """Three at most, of others only."""
    owners = {10: "east", 21: "others", 22: "others", 23: "others", 24: "others"}
    names = {10: "postgres", 21: "make", 22: "dd", 23: "idle", 24: "cc1"}
    before = look(0, [process(pid, 0, name=names[pid]) for pid in owners], owners, written_mb={22: 0.0})
    used = {10: 1.0, 21: 0.4, 22: 0.05, 23: 0.0, 24: 0.3}
    after = look(1, [process(pid, used[pid], name=names[pid]) for pid in owners], owners, written_mb={22: 38.0})
    assert between(before, after)["top"] == ["dd (22) 0.05, 38.0 MB/s", "make (21) 0.40", "cc1 (24) 0.30"]


def test_writes_that_we_may_not_look_at_are_of_others():
    """An ordinary user sees its own; the machine's total has the rest."""
    before = look(0, [process(10, 0)], {10: "east"}, written_mb={10: 1.0}, totals=Totals(written_mb=50.0))
    after = look(1, [process(10, 0)], {10: "east"}, written_mb={10: 3.0}, totals=Totals(written_mb=60.0))
    assert between(before, after)["writes_mb"] == {"east": 2.0, "others": 8.0}


def test_a_sleep_of_the_machine_is_seen():
    """One clock goes on while it sleeps, the other does not."""
    before, after = look(0, [process(1, 0)], {1: "others"}), look(1, [process(1, 0)], {1: "others"}, asleep_s=300)
    assert between(before, after)["slept_s"] == 300
    assert "slept_s" not in between(before, look(1, [process(1, 0)], {1: "others"}, asleep_s=0.01))


def test_without_proc_only_clocks_are_read():
    """What is missing is left out, not invented."""
    assert between(Sample(0, 0), Sample(NS_PER_S, NS_PER_S)) == {}


@pytest.mark.skipif(not procfs.available(), reason="reads /proc")
def test_this_machine_can_be_looked_at():
    """Every figure that the kernel gives: the test itself is the harness."""
    sampler = Sampler(PLAN)
    sum(n * n for n in range(400_000))
    row = sampler.next()
    assert row["busy"]["harness"] > 0
    assert {"others", "kernel", "stolen"} <= row["busy"].keys()
    assert 0 < row["memory"]["used"] < 1


def test_a_name_with_brackets_and_blanks_is_read():
    """As a process may call itself."""
    fields = "S 7 8 9 0 -1 64 0 0 0 0 100 50 30 20 20 0 3 0 12345 0"
    found = procfs.parse_stat(f"42 (a) b (c)) {fields}")
    assert found is not None
    assert (found.pid, found.name, found.parent, found.start, found.threads) == (42, "a) b (c)", 7, 12345, 3)
    assert (found.own_s, found.children_s) == (150 / procfs.TICKS_PER_S, 50 / procfs.TICKS_PER_S)
    assert procfs.parse_stat("") is None


@pytest.mark.parametrize(
    ("marks", "owner"),
    [
        ("CHAOSLAB_RUN=r1\0CHAOSLAB_SITE=east\0CHAOSLAB_REPLICA=r1/app", "east"),
        ("CHAOSLAB_RUN=r1\0CHAOSLAB_SITE=outside\0CHAOSLAB_REPLICA=r1/entry", "outside"),
        ("CHAOSLAB_RUN=r1\0CHAOSLAB_SITE=outside\0CHAOSLAB_REPLICA=r1/relay", "harness"),
        ("CHAOSLAB_RUN=r1\0CHAOSLAB_LOAD_ROWS=/x", "load"),
        ("CHAOSLAB_RUN=r1", "harness"),
        ("CHAOSLAB_RUN=r2\0CHAOSLAB_SITE=east", "others"),
        ("PATH=/bin", "others"),
    ],
)
def test_owners_by_mark(monkeypatch, marks, owner):
    """A child that rewrote its environment belongs to what its parent belongs to."""
    shown = {"/proc/500/environ": f"PATH=/bin\0{marks}\0"}
    monkeypatch.setattr(procfs, "text", lambda path: shown.get(path, ""))
    processes = {one.pid: one for one in (process(1, 0, parent=0), process(500, 0), process(501, 0, parent=500))}
    assert ProcessOwners(PLAN).of(processes, 100.0) == {1: "others", 500: owner, 501: owner}


def test_owners_by_container(monkeypatch, tmp_path):
    """By the cgroup, whatever the engine calls it; a container of another project is of others."""
    ours, theirs = "a" * 64, "b" * 64
    shown = {
        "/proc/500/cgroup": f"0::/system.slice/docker-{ours}.scope\n",
        "/proc/600/cgroup": f"12:cpu:/docker/{theirs}\n",
    }
    monkeypatch.setattr(procfs, "text", lambda path: shown.get(path, ""))
    members = tmp_path / "members.json"
    plan = MachinePlan(history="", run_id="r1", harness=7, sites=["east"], outside=[], late_s=1.0, members=str(members))
    owners, processes = ProcessOwners(plan), {500: process(500, 0), 600: process(600, 0), 1: process(1, 0, parent=0)}
    assert owners.of(processes, 0.0)[500] == "others"
    members.write_text(f'{{"{ours}": "east"}}')
    assert owners.of(processes, 1.0) == {500: "east", 600: "others", 1: "others"}


def test_owners_by_pid_and_start(monkeypatch, tmp_path):
    """A first process that wrote its title over its marks is known; another that got its PID is not. Nor are cgroups asked."""
    shown = {"/proc/500/environ": "title\0", "/proc/600/cgroup": f"0::/docker/{'a' * 64}\n"}
    monkeypatch.setattr(procfs, "text", lambda path: shown.get(path, ""))
    members = tmp_path / "members.json"
    members.write_text('{"500@7": "east"}')
    plan = MachinePlan(history="", run_id="r1", harness=600, sites=["east"], outside=[], late_s=1.0, members=str(members))
    beside = {600: process(600, 0), 501: process(501, 0, parent=500)}
    assert ProcessOwners(plan).of({500: process(500, 0, parent=600, start=7), **beside}, 0.0) == {
        500: "east",
        501: "east",
        600: "harness",
    }, "known bad: its time counted as the harness's"
    assert ProcessOwners(plan).of({500: process(500, 0, parent=600, start=8), **beside}, 0.0)[500] == "harness"


def test_between_fork_and_exec_nothing_is_remembered(monkeypatch):
    """A young process may still show what its parent is marked with."""
    shown = {"/proc/500/environ": "CHAOSLAB_RUN=r1\0"}
    monkeypatch.setattr(procfs, "text", lambda path: shown.get(path, ""))
    owners, processes = ProcessOwners(PLAN), {500: process(500, 0, start=100 * procfs.TICKS_PER_S)}
    assert owners.of(processes, 101.0) == {500: "harness"}
    shown["/proc/500/environ"] = "CHAOSLAB_RUN=r1\0CHAOSLAB_SITE=east\0"
    assert owners.of(processes, 104.0) == {500: "east"}
    shown.clear()
    assert owners.of(processes, 105.0) == {500: "east"}


# --- the control's second


def slot_result(slot, due_s, end_s, error=None):
    due_ns, end_ns = round(due_s * NS_PER_S), round(end_s * NS_PER_S)
    return SlotResult(slot, due_ns, due_ns, end_ns, error is None, "ok", None, error, False)


def test_the_longest_wait_of_a_second_counts_slots_that_are_still_open():
    """An fsync that takes 2.5 s makes three seconds late, not the last alone."""
    wait = LongestWait(Grid(0, 10.0))
    wait.on_result(slot_result(0, 0.0, 0.004))
    wait.on_result(slot_result(1, 0.1, 0.112))
    assert wait.take(round(0.15 * NS_PER_S)) == (12.0, None)
    assert wait.take(round(1.15 * NS_PER_S)) == (950.0, None)
    assert wait.take(round(2.15 * NS_PER_S)) == (1950.0, None)
    for slot in range(2, 31):
        wait.on_result(slot_result(slot, slot / 10, 3.05))
    assert wait.take(round(3.05 * NS_PER_S)) == (2850.0, None)


def test_a_control_that_refuses_is_not_late():
    """It is gone, which is another thing, and has its own reason."""
    wait = LongestWait(Grid(0, 10.0))
    for slot in range(11):
        wait.on_result(slot_result(slot, slot / 10, slot / 10 + 0.001, error="refused"))
    assert wait.take(NS_PER_S) == (None, "refused")


class Fixed:
    """A sampler and a control that say what they were given."""

    def __init__(self, waits, refused=(), **seen):
        self._waits, self._refused, self._seen = waits, list(refused), seen

    def next(self):
        return self._seen

    def start(self):
        pass

    def stop(self):
        pass

    def longest_waits(self, now_ns):
        return self._waits, self._refused


def row(now_s, waits, refused=(), **seen):
    fixed = Fixed(waits, refused, **seen)
    rows = MachineRows(fixed, 0.25, 0)
    rows.use_control(fixed)
    return rows.next_row(round(now_s * NS_PER_S))


def test_a_second_is_starved_when_the_control_is_late():
    """Later than the limit; which of the two is late stands in the reason, with its wait."""
    assert not row(1.0, {"read": 249.0, "fsync": 250.0}).starved
    late = row(1.0, {"read": 2.0, "fsync": 2100.0})
    assert (late.starved, late.late, late.why) == (True, ["fsync"], "the control's fsync was 2.10 s late (limit 0.25 s)")


def test_a_row_that_comes_late_means_that_everything_stood_still():
    """A second is a second, give or take; two are not."""
    assert not row(1.9, {}).starved
    still = row(7.0, {})
    assert (still.late, still.why) == (["tick"], "the whole machine stalled for 6.0 s")


def test_a_sleep_starves_a_second():
    """Though nothing was late by the clock that stood still with everything."""
    assert row(1.0, {"read": 1.0}, slept_s=300.0).why == "the machine was suspended for 300.0 s"


def test_a_control_that_is_gone_starves_nothing_and_is_told():
    """Else killing the control would excuse every outage."""
    gone = row(1.0, {"read": None, "fsync": None}, ["the control's read: refused"])
    assert (gone.starved, gone.why) == (False, "the control's read: refused")
