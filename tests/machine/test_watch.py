"""The control of the embedded runtime, and the process that asks it and looks at the machine, on the mini stack."""

from __future__ import annotations

import http.client
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mini_stack import mini_stack

from chaoslab.clock import NS_PER_S, SYSTEM, Deadline, wait_until
from chaoslab.history.rows import Machine, read_history
from chaoslab.machine.plan import MachinePlan
from chaoslab.machine.process import MachineWatch
from chaoslab.process import marked
from chaoslab.spec.stackfile.topology import Address
from chaoslab.stack.embedded.stack import EmbeddedStack
from chaoslab.stack.reach import REPLICA_VARIABLE, RUN_VARIABLE

LATE_S = 0.25


@pytest.fixture(scope="module")
def stack() -> Iterator[EmbeddedStack]:
    with mini_stack() as up:
        yield up


@pytest.fixture(scope="module")
def control(stack: EmbeddedStack) -> Address:
    return stack.host_control(Deadline.after(10)).address


@pytest.fixture
def history(stack: EmbeddedStack, control: Address, tmp_path: Path) -> Iterator[Path]:
    """Of a watch that has asked the control."""
    path = tmp_path / "history.jsonl"
    run_id = stack._run_id
    plan = MachinePlan(
        history=str(path), run_id=run_id, harness=os.getpid(), sites=["east", "west"], outside=["entry", "store"], late_s=LATE_S
    )
    watch = MachineWatch(tmp_path, {RUN_VARIABLE: run_id})
    watch.start(plan)
    watch.ask(f"http://{control}")
    until(path, lambda row: row.control_ms.get("fsync") is not None)
    assert watch.poll() is None
    yield path
    watch.stop()


def rows(history: Path) -> list[Machine]:
    return [row for row in read_history(history) if isinstance(row, Machine)] if history.exists() else []


def until(history: Path, wanted: Callable[[Machine], bool], *, before: int | None = None) -> Machine:
    """The first row that is wanted; those that are there already, or that many, do not count."""
    before = len(rows(history)) if before is None else before

    def look() -> tuple[bool, list[Machine]]:
        found = [row for row in rows(history)[before:] if wanted(row)]
        return bool(found), found

    return wait_until("a row of the machine", look, Deadline.after(15))[0]


def control_process(stack: EmbeddedStack) -> int:
    (found,) = marked(REPLICA_VARIABLE, f"{stack._run_id}/control")
    return found.pid


def test_the_control_answers_a_read_and_a_write_that_is_on_the_disk(stack, control):
    """Its file lies with the volumes of the replicas, and never grows large."""
    connection = http.client.HTTPConnection(*control, timeout=5)
    for method, path in (("GET", "/read"), ("POST", "/fsync")):
        connection.request(method, path)
        assert connection.getresponse().read() == b"ok"
    connection.close()
    assert 0 < (stack._data / "control").stat().st_size <= 1 << 20


def test_a_second_says_who_had_the_machine(history):
    """Every owner that was there, and a control that was in time."""
    row = until(history, lambda row: {"read", "fsync"} <= row.control_ms.keys())
    assert {"east", "west", "outside", "harness", "others", "kernel", "stolen"} <= row.busy.keys()
    assert {"east", "west", "outside", "harness"} <= row.waiting.keys()
    assert row.psi.keys() == {"cpu", "io", "memory"}
    assert 0.5 < (row.t_ns - row.begin_ns) / NS_PER_S < 1.9


def test_a_control_that_keeps_its_caller_waiting_starves_the_second(stack, history):
    """Frozen alone, as by a machine that gives it no processor: seen before it answers again."""
    pid = control_process(stack)
    os.kill(pid, signal.SIGSTOP)
    try:
        row = until(history, lambda row: row.starved)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert row.control_ms["read"] > LATE_S * 1000
    assert "read" in row.late
    assert until(history, lambda row: not row.starved).control_ms["read"] is not None


def test_replicas_that_are_frozen_starve_nothing(stack, history):
    """Whatever becomes of the stack, the control is beside it."""
    stack.pause(["app-east", "app-west", "store", "entry"])
    try:
        row = until(history, lambda row: sum(row.busy.get(name, 0.0) for name in ("east", "west", "outside")) == 0.0)
    finally:
        stack.resume(["app-east", "app-west", "store", "entry"])
    assert "tick" not in row.late


def test_a_watch_that_stood_still_says_so(stack, history):
    """One row for all the time, longer than a second."""
    (watch,) = [one for one in marked(RUN_VARIABLE, stack._run_id) if "chaoslab.machine" in one.cmdline()]
    before = len(rows(history))
    watch.suspend()
    SYSTEM.sleep(2.3)
    watch.resume()
    row = until(history, lambda row: "tick" in row.late, before=before)
    assert row.why.startswith("the whole machine stalled for")
    assert (row.t_ns - row.begin_ns) / NS_PER_S > 2


def test_a_plan_that_is_none_ends_the_watch_with_words(tmp_path):
    """It must not look like a quiet machine."""
    watch = MachineWatch(tmp_path)
    watch.start(MachinePlan(history="/no/such/folder/history", run_id="x", harness=1, sites=[], outside=[], late_s=1.0))
    ended = wait_until("the end of the watch", lambda: (watch.poll() is not None, watch.poll()), Deadline.after(10))
    assert "status 5" in ended
    assert "/no/such/folder" in ended
    watch.stop()
