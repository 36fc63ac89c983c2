"""How long a stored run of a million rows takes to judge, and to judge with its reports; and the memory that takes.

`python tests/bench/bench_judge.py [rows]` prints one JSON object. Each is done by a process of its own, as `chaoslab analyze`
and the end of a run do it. Ten journeys at 50 slots a second, five of them with a ledger, an outage in the middle, a ledger
read a second and final reads from two sites: a drill of half an hour.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from chaoslab.history.folder import RunFolder
from chaoslab.history.result import Result
from chaoslab.history.rows import Anchor, AnyRow, Fault, LedgerRead, PhaseRow, Probe, encode
from chaoslab.spec.model import Experiment
from chaoslab.spec.resolved import resolved_yaml
from chaoslab.spec.stackfile.model import StackSpec

RATE, JOURNEYS, LEDGERS = 50, 10, 5
PERIOD_NS = 1_000_000_000 // RATE
STEADY, OUTAGE = 1000, 1200  # slots


def spec() -> tuple[Experiment, StackSpec]:
    journeys = {f"s{n}.j": _journey(n) for n in range(JOURNEYS)}
    stack = {"sites": ["a", "b"], "entry": "entry:80", "journeys": journeys}
    raw = {
        "name": "bench", "hypothesis": "fast", "title": "bench", "stack": ["/nowhere"],
        "probe": {"rate": RATE}, "steady_state": {"hold": "8s"},
        "timeline": [{"id": "f", "at": "0s", "fault": "site.power-loss", "site": "a", "heal_after": "60s"}],
        "objectives": {f"s{n}": {"rto": "< 45s", "rpo": 0} if n < LEDGERS else {"rto": "< 45s"} for n in range(JOURNEYS)},
    }  # fmt: skip
    return Experiment.model_validate(raw), StackSpec.model_validate(stack)


def _journey(number: int) -> dict[str, object]:
    if number >= LEDGERS:
        return {"service": f"s{number}", "request": {"path": "/"}}
    ledger = {"path": "/?after={after}", "items": "entries"}
    return {"service": f"s{number}", "request": {"method": "POST", "path": "/"}, "ledger": ledger}


def history(rows: int) -> Iterator[AnyRow]:
    slots = rows // JOURNEYS
    heal_ns, end_ns = slots * 3 // 4 * PERIOD_NS, slots * PERIOD_NS
    yield Anchor(t_ns=0, wall="2026-11-22T02:00:00Z", experiment="bench", run="r", runtime="embedded")
    for phase, begin, end in (
        ("steady", 0, STEADY * PERIOD_NS),
        ("faults", STEADY * PERIOD_NS, heal_ns),
        ("failback", heal_ns, end_ns),
    ):
        yield PhaseRow(t_ns=begin, phase=phase, event="begin")
        yield PhaseRow(t_ns=end, phase=phase, event="end")
    for event, at in (
        ("inject", STEADY * PERIOD_NS),
        ("effective", STEADY * PERIOD_NS),
        ("heal", heal_ns),
        ("healed", heal_ns),
    ):
        yield Fault(t_ns=at, id="f", name="site.power-loss", target="a", event=event)
    for number in range(slots):
        for journey in range(JOURNEYS):
            yield _slot(number, journey)
        if number % RATE == 0:
            yield from (_read(journey, number - 100, number - 2, number * PERIOD_NS) for journey in range(LEDGERS))
    for site in ("a", "b"):
        yield from (_read(journey, -1, slots, end_ns, site) for journey in range(LEDGERS))


def _acked(number: int) -> bool:
    return not STEADY <= number < STEADY + OUTAGE


def _slot(number: int, journey: int) -> Probe:
    due, good, write = number * PERIOD_NS, _acked(number), journey < LEDGERS
    outcome = ("acked" if good else "indeterminate") if write else ("ok" if good else "bad")
    keyed = {"id": f"w{journey}-{number}", "writer": f"w{journey}", "seq": number, "hash": f"{number:064x}"} if write else {}
    return Probe(
        t_ns=due + 4_000_000, journey=f"s{journey}.j", service=f"s{journey}", op="write" if write else "read", due_ns=due,
        sent_ns=due, end_ns=due + 4_000_000, good=good, outcome=outcome, status=201, **keyed,
    )  # fmt: skip


def _read(journey: int, after: int, upto: int, at_ns: int, site: str | None = None) -> LedgerRead:
    items = [(f"w{journey}-{n}", f"{n:064x}") for n in range(max(0, after + 1), upto) if _acked(n)]
    return LedgerRead(
        t_ns=at_ns, journey=f"s{journey}.j", service=f"s{journey}", writer=f"w{journey}", begin_ns=at_ns, end_ns=at_ns,
        ok=True, site=site, after_seq=max(-1, after), final=site is not None, items=items,
    )  # fmt: skip


def _crashed(bug: Exception) -> None:
    raise bug


def _judged() -> Callable[[RunFolder], Result]:
    from chaoslab.run.stored import judge_stored

    return lambda folder: judge_stored(folder, _crashed)


def _reported() -> Callable[[RunFolder], Result]:
    from chaoslab.run.finalize import finalize_run

    return lambda folder: finalize_run(folder).result


WAYS = {"judge": _judged, "judge_and_report": _reported}


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measure(way: str, folder: Path) -> dict[str, object]:
    """In a process that has done nothing yet: `imports_mb` is what it holds before the first row."""
    judged = WAYS[way]()
    imports_mb, began, cpu = _peak_mb(), time.perf_counter(), time.process_time()
    result = judged(RunFolder(folder))
    taken_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    rto_s = result.services["s0"].rto_s
    return {
        "s": round(taken_s, 2),
        "cpu_s": round(cpu_s, 2),
        "peak_mb": _peak_mb(),
        "imports_mb": imports_mb,
        "rto_s": [rto_s.low, rto_s.high] if rto_s else None,
        "acked": sum(one.acked for one in result.ledger.values()),
        "verdict": result.verdict,
        "reasons": result.reasons[:3],
    }


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        run.experiment.write_text(resolved_yaml(*spec()))
        with run.history.open("wb") as out:
            out.writelines(encode(row) for row in history(rows))
        figures = {way: json.loads(_output(__file__, "--one", way, folder)) for way in WAYS}
    print(json.dumps({"rows": rows, "limit_s": 5.0, "limit_mb": 300, **figures}))


def _output(*command: str) -> bytes:
    return subprocess.run([sys.executable, *command], check=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], Path(sys.argv[3]))))
    else:
        main()
