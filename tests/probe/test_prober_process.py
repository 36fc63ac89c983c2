"""The prober as the engine runs it: a process that writes rows, and shows when it stood still itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from probe_ends import read_target, write_target

from chaoslab.clock import NS_PER_S
from chaoslab.faults.site import SitePowerLoss
from chaoslab.judge.outages import outages
from chaoslab.judge.slots import Slots
from chaoslab.probe.payload import hash_of, payload_of
from chaoslab.probe.plan import EntryTarget, HttpCall, LedgerTarget, decode_plan, encode_plan, plan_for, target_of
from chaoslab.spec.model import Experiment, ProbeSpec
from chaoslab.spec.stackfile.journey import Journey
from chaoslab.spec.stackfile.model import StackSpec

JOURNEY = Journey(
    service="pay",
    request={"method": "POST", "path": "/pay/entries", "json": {"id": "{id}"}, "headers": {"Authorization": "Bearer demo"}},
    good={"status": 201, "within": "250ms"},
    not_applied=[409],
    timeout="1s",
    ledger={"path": "/pay/entries?writer={writer}&after={after}", "items": "entries", "local": "/local"},
)


def test_a_plan_holds_what_the_stack_declares():
    """All journeys, or those that the experiment names, with nothing lost on the way to the prober."""
    stack = StackSpec(sites=["a"], entry="e:1", journeys={"pay.transfer": JOURNEY, "pay.other": JOURNEY})
    experiment = Experiment(
        name="x",
        hypothesis="It holds.",
        title="X",
        stack=[Path("compose.yaml")],
        timeline=[SitePowerLoss(id="fire", fault="site.power-loss", site="a")],
        probe=ProbeSpec(rate=20, journeys=["pay.transfer"]),
    )
    plan = decode_plan(encode_plan(plan_for(stack, experiment, lambda *_: "e:1", Path("h"), "w")))
    [target] = plan.targets
    assert target == target_of("pay.transfer", JOURNEY, EntryTarget(url="http://e:1"))
    assert (plan.rate, target.op, target.how.statuses, target.within_s, target.timeout_s) == (20, "write", (201,), 0.25, 1.0)
    headers = {"Authorization": "Bearer demo"}
    entry, site = (HttpCall(path=path, headers=headers) for path in (JOURNEY.ledger.path, "/local"))
    assert target.ledger == LedgerTarget(entry=entry, site=site, items="entries")
    patient = experiment.model_copy(update={"probe": ProbeSpec(rate=20, timeout="10s")})
    plan = plan_for(stack, patient, lambda *_: "e:1", Path("h"), "w")
    assert [target.timeout_s for target in plan.targets] == [10.0, 10.0]


def test_rows_are_on_the_grid_whole_and_complete(serve, probe):
    """Every slot from the first to the last has one row; writes carry id, sequence and hash; half reuse a connection."""
    running = probe(serve().url, read_target(), write_target())
    running.started()
    time.sleep(1.5)
    assert running.stop() == 0
    for name, op in (("shop.read", "read"), ("shop.write", "write")):
        slots = sorted((slot for slot in running.slots if slot.journey == name), key=lambda slot: slot.due_ns)
        assert len(slots) >= 70
        assert {round((b.due_ns - a.due_ns) / 1000) for a, b in pairwise(slots)} == {20_000}
        assert all(slot.good and slot.op == op and slot.due_ns <= slot.sent_ns <= slot.end_ns for slot in slots)
        assert 0.3 < sum(slot.pooled for slot in slots) / len(slots) < 0.51
    writes = sorted(slot.seq for slot in running.slots if slot.op == "write")
    assert writes == list(range(len(writes)))
    assert all(s.id == f"w.shop.write-{s.seq}" and s.hash == hash_of(payload_of(s.id)) for s in running.slots if s.id)


def test_it_looks_at_the_ledger_while_it_writes(serve, probe):
    """Reads through the entry, of the last seconds' writes, with hashes as the service computed them."""
    running = probe(serve().url, write_target(), ledger_every_s=0.2, ledger_window_s=0.5)
    running.started()
    time.sleep(1.5)
    running.stop()
    last = running.reads[-1]
    assert len(running.reads) >= 5
    assert (last.site, last.final, last.ok) == (None, False, True)
    assert last.after_seq > 20
    assert 15 <= len(last.items) <= 35
    written = {slot.id: slot.hash for slot in running.slots}
    assert all(written[id_] == digest for id_, digest in last.items)


def test_slots_open_at_the_end_are_waited_for_and_bad(serve, probe):
    """Stopped in the middle of a silence, it still has a row for everything it sent: indeterminate, not missing."""
    server = serve(lead_s=1, windows=[{"kind": "silent", "at_s": 0, "for_s": 30}])
    running = probe(server.url, write_target(timeout_s=1.0))
    running.started()
    time.sleep(1.6)
    began = time.monotonic()
    assert running.stop() == 0
    assert 0.5 < time.monotonic() - began < 2.5
    slots = sorted(running.slots, key=lambda slot: slot.due_ns)
    assert [slot.seq for slot in slots] == list(range(len(slots)))
    assert {slot.outcome for slot in slots[-20:]} == {"indeterminate"}
    assert {slot.error for slot in slots[-20:]} == {"timeout: no answer"}


def test_refused_writes_are_rejected(serve, probe):
    """Nothing listened: proof that nothing was executed."""
    server = serve(lead_s=1, windows=[{"kind": "refused", "at_s": 0, "for_s": 30}])
    running = probe(server.url, write_target())
    running.started()
    time.sleep(1.5)
    running.stop()
    assert {(slot.outcome, slot.error) for slot in running.slots[-15:]} == {("rejected", "refused")}


def test_a_prober_that_stood_still_shows_it(serve, probe):
    """Known bad: ^Z of the prober for half a second. The service was well, and the rows show that the prober was late: skew."""
    running = probe(serve().url, read_target())
    running.started()
    time.sleep(0.3)
    os.kill(running.child.pid, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(running.child.pid, signal.SIGCONT)
    time.sleep(0.3)
    running.stop()
    slots = sorted(running.slots, key=lambda slot: slot.due_ns)
    skewed = [slot for slot in slots if slot.sent_ns - slot.due_ns > 20_000_000]
    assert len(skewed) >= 20
    assert len(slots) == round((slots[-1].due_ns - slots[0].due_ns) / 20_000_000) + 1


def test_a_frozen_server_is_an_outage(serve, probe):
    """^Z of the service for two seconds: the interval holds the truth."""
    server = serve()
    running = probe(server.url, read_target(timeout_s=1.0))
    running.started()
    time.sleep(0.4)
    begin_ns, end_ns = server.freeze(2.0)
    time.sleep(0.4)
    running.stop()
    slots = Slots(period_ns=NS_PER_S // 50)
    slots.add_rows(running.slots)
    slots.sort()
    [outage] = outages(slots)
    truth_s = (end_ns - begin_ns) / 1e9
    assert outage.low_s <= truth_s <= outage.high_s
    assert outage.high_s - truth_s < 0.5


def test_it_ends_when_its_parent_is_gone(serve, probe):
    """The pipe that the parent held is at its end; no signal is needed."""
    running = probe(serve().url, read_target())
    running.started()
    running.child.stdin.close()
    assert running.child.wait(5) == 0
    running.child.stdin = None


def test_without_a_pipe_it_does_not_watch_for_a_parent(serve, probe):
    """Started by hand, with the plan in a file, it just runs."""
    running = probe(serve().url, read_target(), piped=False)
    running.started()
    with pytest.raises(subprocess.TimeoutExpired):
        running.child.wait(0.3)
    assert running.stop() == 0


def test_other_writers_of_the_file_are_left_alone(serve, probe):
    """Two probers on one history: every line is whole."""
    server = serve()
    first = probe(server.url, read_target(name="a"))
    second = probe(server.url, read_target(name="b"))
    first.started()
    time.sleep(1.0)
    first.stop()
    second.stop()
    assert {slot.journey for slot in first.slots} == {"a", "b"}


def test_a_wrong_plan_ends_with_2():
    ended = run_prober('{"base_url": 1}\n')
    assert ended.returncode == 2
    assert "base_url" in ended.stderr


def test_a_prober_without_a_plan_ends_with_its_parent():
    """A stack that does not come up is no error of the prober's."""
    ended = run_prober("")
    assert (ended.returncode, ended.stderr) == (0, "")


def run_prober(line: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chaoslab.probe"]
    return subprocess.run(command, check=False, input=line, capture_output=True, text=True, timeout=20)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_rows_that_cannot_be_written_end_it_with_5(serve, probe):
    """A full disk must not look like a quiet prober."""
    running = probe(serve().url, read_target(), history="/dev/full")
    assert running.child.wait(5) == 5
    assert b"No space left" in running.child.stderr.read()


def test_it_is_small(serve, probe):
    """Neither pydantic nor the engine is in its process."""
    running = probe(serve().url, read_target())
    running.started()
    assert psutil.Process(running.child.pid).memory_info().rss < 60 * 1024 * 1024
