"""How near the prober's intervals come to the truth: scripted outages of known length, while Locust loads the same server.

Six outages each that refuse, stay silent, answer 503 and answer late; a read and a write journey at 50/s. Two claims:
every interval holds the truth, and RTO as it is held against an objective (its high end, counted from the known begin as
from a fault) is off by at most one slot, 20 ms. A machine that is busy with other things shows as skew.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from chaoslab.clock import NS_PER_S
from chaoslab.events import Probe, read_history
from chaoslab.outages import Outage, outages
from chaoslab.probe.plan import ProbePlan, Target
from chaoslab.prober import ProberProcess
from chaoslab.process import end_group, spawn

KINDS = ("refused", "silent", "503", "slow")
OUTAGES = 24
EVERY_S = 2.6
SLOT_S = 0.02
USERS = 20
SCRIPTED = Path(__file__).parent.parent / "probe" / "scripted.py"
BODY = {"id": "{id}", "writer": "{writer}", "seq": "{seq}", "payload": "{payload}"}

LOCUSTFILE = """
from locust import FastHttpUser, constant_throughput, task


class Steady(FastHttpUser):
    wait_time = constant_throughput(5)
    network_timeout = connection_timeout = 1.0

    @task
    def get(self):
        self.client.get("/x")
"""


def script() -> dict:
    lengths = random.Random(15)  # noqa: S311
    windows = [
        {"kind": KINDS[turn % len(KINDS)], "at_s": EVERY_S * turn, "for_s": round(lengths.uniform(0.4, 1.3), 3)}
        for turn in range(OUTAGES)
    ]
    return {"lead_s": 4.0, "windows": windows}


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server, Locust and the prober; all ended afterwards, the prober first and in peace."""
    with ExitStack() as ends:
        server = subprocess.Popen([sys.executable, str(SCRIPTED), json.dumps(script())], stdout=subprocess.PIPE)
        ends.callback(server.wait)
        ends.callback(server.kill)
        assert server.stdout is not None
        url = f"http://127.0.0.1:{json.loads(server.stdout.readline())['port']}"
        (folder / "locustfile.py").write_text(LOCUSTFILE)
        locust = [sys.executable, "-m", "locust", "-f", "locustfile.py", "--headless", "-u", str(USERS), "-r", "20"]
        load = spawn([*locust, "--host", url, "--only-summary"], log=folder / "locust.log", cwd=folder)
        ends.callback(end_group, load)
        prober = ProberProcess(folder)
        ends.callback(prober.stop)
        prober.start()
        prober.begin(plan(url, folder))
        yield server


def plan(url: str, folder: Path) -> ProbePlan:
    common = {"service": "shop", "timeout_s": 1.0, "within_s": 0.5}
    return ProbePlan(
        base_url=url,
        history=str(folder / "history.jsonl"),
        writer="bench",
        targets=[
            Target(name="read", op="read", method="GET", path="/x", **common),
            Target(name="write", op="write", method="POST", path="/entries", body=BODY, statuses=(201,), **common),
        ],
    )


def measure() -> tuple[list[dict], list[Probe]]:
    with tempfile.TemporaryDirectory(prefix="chaoslab-bench-") as name:
        folder = Path(name)
        with running(folder) as server:
            assert server.stdout is not None
            truths = [json.loads(server.stdout.readline()) for _ in range(OUTAGES)]
            time.sleep(0.5)  # the good slots that end the last one
        return truths, [row for row in read_history(folder / "history.jsonl") if isinstance(row, Probe)]


def found_for(truth: dict, seen: Sequence[Outage]) -> list[Outage]:
    return [o for o in seen if o.last_bad_ns >= truth["begin_ns"] - NS_PER_S // 4 and o.first_bad_ns <= truth["end_ns"]]


def report(truths: Sequence[dict], slots: Sequence[Probe]) -> None:
    print(f"{'':8}{'outages':>8}{'held':>6}{'RTO low':>18}{'RTO high':>18}{'middle':>18}   (error in ms, least to most)")
    worst_s, latest_s, held_all, matched = 0.0, 0.0, 0, 0
    by_journey = {name: outages([s for s in slots if s.journey == name], stable_slots=3) for name in ("read", "write")}
    for kind in KINDS:
        lows, highs, middles, held = [], [], [], 0
        for truth in (truth for truth in truths if truth["kind"] == kind):
            truth_s = (truth["end_ns"] - truth["begin_ns"]) / NS_PER_S
            for seen in by_journey.values():
                for outage in found_for(truth, seen):
                    if outage.high_s is None or outage.good_after_ns is None:
                        continue
                    lows.append((outage.last_bad_ns - truth["begin_ns"]) / NS_PER_S - truth_s)
                    highs.append((outage.good_after_ns - truth["begin_ns"]) / NS_PER_S - truth_s)
                    middles.append((outage.low_s + outage.high_s) / 2 - truth_s)
                    held += outage.low_s <= truth_s <= outage.high_s
        worst_s = max([worst_s, *(abs(error) for error in middles)])
        latest_s = max([latest_s, *highs])
        held_all, matched = held_all + held, matched + len(lows)
        print(f"{kind:8}{len(lows):8}{held:6}{span(lows)}{span(highs)}{span(middles)}")
    skewed = sum(slot.sent_ns - slot.due_ns > SLOT_S * NS_PER_S for slot in slots)
    print(f"intervals that hold the truth: {held_all} of {matched} ({2 * OUTAGES} expected)")
    print(f"largest error of the middle: {1000 * worst_s:.1f} ms = {worst_s / SLOT_S:.2f} slots (target: at most 1)")
    print(f"latest upper bound: {1000 * latest_s:.1f} ms after the truth: a slot, and how long its answer took")
    print(f"slots: {len(slots)}, skewed {skewed} ({100 * skewed / len(slots):.2f} %); load average {os.getloadavg()[0]:.1f}")


def span(errors_s: Sequence[float]) -> str:
    text = f"{1000 * min(errors_s):+.1f} … {1000 * max(errors_s):+.1f}" if errors_s else "none"
    return f"{text:>18}"


if __name__ == "__main__":
    report(*measure())
