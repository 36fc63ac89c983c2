"""Journeys in a class of the user's own, in the prober's process: what it returns, raises, leaves hanging and blocks."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from probe_ends import read_target

from chaoslab.clock import Deadline
from chaoslab.history.rows import Machine, Probe, read_history
from chaoslab.judge.starvation import starved_spans
from chaoslab.probe.final_read import read_all_sites
from chaoslab.probe.plan import LedgerTarget, Python, Target
from chaoslab.spec.stackfile.journey import Journey

CLASSES = '''
import asyncio, time
import chaoslab

class Good(chaoslab.Journey):
    async def attempt(self, id):
        reader, writer = await asyncio.open_connection(*self.entry)
        writer.write(b"GET /x HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        answer = await reader.read()
        writer.close()
        return "acked" if b" 200 " in answer else ("rejected", self.settings["why"])

class Raises(chaoslab.Journey):
    async def attempt(self, id):
        raise LookupError(f"no {id}")

class Proves(chaoslab.Journey):
    async def attempt(self, id):
        return "rejected", "sold out"

class Hangs(chaoslab.Journey):
    async def attempt(self, id):
        await asyncio.Event().wait()

class HangsOn(chaoslab.Journey):
    """Ignores that it is cancelled."""
    async def attempt(self, id):
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

class Blocks(chaoslab.Journey):
    blocked = False
    async def attempt(self, id):
        if id.endswith("-10"):
            time.sleep(0.4)
        return "acked"

class LeavesTasks(chaoslab.Journey):
    async def attempt(self, id):
        async def broken():
            raise RuntimeError("in the background")
        asyncio.create_task(broken())
        await asyncio.sleep(0.001)
        return "acked"

class Nonsense(chaoslab.Journey):
    async def attempt(self, id):
        return "fine"

class NotAsync:
    def attempt(self, id):
        return "acked"

class BlocksLedger(chaoslab.Journey):
    async def read_back(self, site):
        time.sleep(60)

class Ledger(chaoslab.Journey):
    async def attempt(self, id):
        return "acked"
    async def read_back(self, site):
        if site == "b":
            raise OSError("away")
        return [f"{self.writer}-{n}" for n in range(3)] + [("w.j-3", "a hash")] + ["another-1"]
'''


@pytest.fixture
def target(tmp_path):
    (tmp_path / "own_journeys.py").write_text(CLASSES)

    def of(name: str, **changes) -> Target:
        how = Python(name=f"own_journeys:{name}", folder=str(tmp_path), settings={"why": "not now"})
        return Target(
            **{"name": "own", "service": "s", "op": "write", "how": how, "timeout_s": 0.3, "within_s": 0.25} | changes
        )

    return of


def run(probe, url: str, *targets: Target, for_s: float = 0.6) -> list[Probe]:
    running = probe(url, *targets)
    running.started()
    time.sleep(for_s)
    assert running.stop() == 0
    return [slot for slot in running.slots if slot.journey == "own"]


def test_a_class_has_the_same_slots_as_any_other_journey(serve, probe, target):
    """On the grid, with ids, writers and hashes; the server is asked by the class itself."""
    slots = run(probe, serve().url, target("Good"), read_target())
    assert len(slots) >= 20
    assert {(slot.outcome, slot.good, slot.error) for slot in slots} == {("acked", True, None)}
    assert [slot.id for slot in sorted(slots, key=lambda slot: slot.due_ns)] == [f"w.own-{n}" for n in range(len(slots))]


@pytest.mark.parametrize(
    ("name", "op", "outcome", "error"),
    [
        ("Raises", "write", "indeterminate", "LookupError: no w.own-0"),
        ("Raises", "read", "bad", "LookupError: no w.own-0"),
        ("Proves", "write", "rejected", "sold out"),
        ("Hangs", "write", "indeterminate", "timeout: no answer"),
        ("HangsOn", "write", "indeterminate", "timeout: no answer"),
    ],
)
def test_known_bad(serve, probe, target, name, op, outcome, error):
    """What it raises and what hangs proves nothing, and no slot waits longer than its timeout."""
    slots = sorted(run(probe, serve().url, target(name, op=op)), key=lambda slot: slot.due_ns)
    assert {(slot.good, slot.outcome) for slot in slots} == {(False, outcome)}
    assert slots[0].error == error
    assert all(slot.end_ns - slot.due_ns < 700_000_000 for slot in slots)


def test_a_class_that_blocks_is_the_instrument_s_fault(serve, probe, target):
    """Known bad: one call of 0.4 s. The seconds around it are starved and excused, and name the journey."""
    running = probe(serve().url, target("Blocks"), read_target())
    running.started()
    time.sleep(0.9)
    assert running.stop() == 0
    [row] = [row for row in read_history(running.history) if isinstance(row, Machine)]
    assert "own: its class blocked the prober for 0.4" in row.why
    late = [(slot.due_ns, slot.sent_ns) for slot in running.slots if slot.sent_ns - slot.due_ns > 50_000_000]
    assert len(late) > 10
    [span] = starved_spans([row], steady=(0, 0), booting=(), sites=("a",), late_slots=late)
    assert span.excused and span.by == "a journey's class blocked the prober"


def test_what_a_class_leaves_behind_does_not_end_the_prober(serve, probe, target):
    """Known bad: a task that fails when nobody waits for it."""
    slots = run(probe, serve().url, target("LeavesTasks"))
    assert {slot.outcome for slot in slots} == {"acked"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nonsense", "returned 'fine'; a write returns acked or rejected or indeterminate"),
        ("NotAsync", "needs a method: async def attempt(self, …)"),
        ("Missing", "cannot be imported"),
    ],
)
def test_a_class_that_cannot_be_used_ends_the_prober(serve, probe, target, name, message):
    """A mistake in it must not look like an outage."""
    running = probe(serve().url, target(name))
    assert running.child.wait(10) == 2
    assert message in running.child.stderr.read().decode()


def test_a_package_that_is_missing_is_named(serve, probe, tmp_path):
    """With what to do."""
    (tmp_path / "needs_more.py").write_text("import package_that_is_not_there\n")
    running = probe(
        serve().url, Target(name="own", service="s", op="read", how=Python(name="needs_more:J", folder=str(tmp_path)))
    )
    assert running.child.wait(10) == 2
    assert "No module named 'package_that_is_not_there'" in running.child.stderr.read().decode()


def test_a_class_reads_its_ledger_back(target, tmp_path: Path):
    """From each site; a hash where there is one, and what others wrote left out."""
    journey = Journey(service="s", python={"class": "own_journeys:Ledger", "folder": str(tmp_path)}, ledger={})
    sites = {site: {"s": "http://127.0.0.1:1"} for site in ("a", "b")}
    target("Ledger")
    first, second = read_all_sites({"j": journey}, sites, "w", Deadline.after(0.5))
    assert first.items == [("w.j-0", None), ("w.j-1", None), ("w.j-2", None), ("w.j-3", "a hash")]
    assert (second.ok, second.error) == (False, "OSError: away")


def test_a_read_back_that_blocks_is_cut(target, tmp_path: Path, monkeypatch):
    """Known bad: it never gives the event loop back, so its process is ended; its ledger was not read."""
    monkeypatch.setattr("chaoslab.probe.final_read.START_S", 1.0)
    journey = Journey(service="s", python={"class": "own_journeys:BlocksLedger", "folder": str(tmp_path)}, ledger={})
    target("BlocksLedger")
    [row] = read_all_sites({"j": journey}, {"a": {"s": "http://127.0.0.1:1"}}, "w", Deadline.after(0.5))
    assert (row.ok, row.final) == (False, True)
    assert "must not block" in row.error


def test_a_class_that_cannot_be_read_back_is_known_at_the_start(serve, probe, target):
    """Not after the run."""
    running = probe(serve().url, target("Good", ledger=LedgerTarget(site=target("Good").how)))
    assert running.child.wait(10) == 2
    assert "own_journeys:Good needs a method: async def read_back(self, …)" in running.child.stderr.read().decode()
