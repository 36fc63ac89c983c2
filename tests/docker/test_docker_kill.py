"""Many processes die at once, and whose process a PID is. Needs no engine."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from chaoslab import process
from chaoslab.clock import Deadline
from chaoslab.kill import kill
from chaoslab.stack.compose.kill import is_here, kill_all, kill_by_api

FAMILY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(1, flush=True)
time.sleep(60)
"""


@pytest.fixture
def families():
    """Three processes with a child each."""
    started = [subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE) for _ in range(3)]
    for one in started:
        one.stdout.readline()
    yield [one.pid for one in started]
    for one in started:
        for child in psutil.Process(one.pid).children() if one.poll() is None else []:
            child.kill()
        one.kill()
        one.wait()
        one.stdout.close()


def test_all_die_and_each_death_is_seen(families):
    """As many instants as processes, and nothing of them runs afterwards."""
    everyone = [*families, *(child.pid for pid in families for child in psutil.Process(pid).children())]
    began = time.monotonic_ns()
    killed = kill(everyone, Deadline.after(5.0))
    assert set(killed.deaths_ns) == set(everyone)
    assert len(everyone) == 6
    assert all(began <= death <= time.monotonic_ns() for death in killed.deaths_ns.values())
    assert killed.survivors == frozenset()
    alive = [pid for pid in everyone if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    assert alive == []


def test_whoever_kills_is_as_urgent_as_before(families):
    """Known bad: a harness that stays in real time after a kill keeps all others from the processor."""
    before = os.sched_getscheduler(0), os.nice(0)
    kill(families, Deadline.after(5.0))
    assert (os.sched_getscheduler(0), os.nice(0)) == before


def test_families_are_these_and_all_that_come_from_them(families):
    """The first ones first; no others, and none twice."""
    children = [child.pid for pid in families for child in psutil.Process(pid).children()]
    found = process.families(families)
    assert found[:3] == families
    assert sorted(found) == sorted([*families, *children])


def test_killing_the_dead_is_no_error():
    """A process that went by itself is left out."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    killed = kill([gone.pid], Deadline.after(5.0))
    assert (killed.deaths_ns, killed.survivors, killed.skew_ms) == ({}, frozenset(), 0.0)


def test_the_frozen_are_thawed_once_they_are_signalled(families):
    """Beside the watching, so that they can die at all; what goes wrong with it is reported."""
    called = []
    killed = kill(families, Deadline.after(5.0), then=lambda: called.append(1))
    assert set(killed.deaths_ns) == set(families)
    assert called == [1]
    with pytest.raises(ZeroDivisionError):
        kill([], Deadline.after(5.0), then=lambda: 1 / 0)


def test_a_pid_of_another_machine_is_not_signalled():
    """Known bad: an engine in a virtual machine names PIDs that mean something else here; this one is ours."""
    asked = []
    assert not is_here("f" * 64, os.getpid())
    report = kill_all({"f" * 64: os.getpid()}, asked.append)
    assert asked == ["f" * 64]
    assert report.means == "engine's API"


def test_the_api_is_called_for_all_at_the_same_time():
    """Eight calls that take 100 ms each do not take 800."""
    began = time.monotonic()
    kill_by_api([str(n) for n in range(8)], lambda _: time.sleep(0.1))
    assert time.monotonic() - began < 0.5


def test_nobody_to_kill_is_told():
    """No skew is made up."""
    assert kill_all({}, lambda _: None).targets == 0
