"""A rehearsal against a server whose truth is known: the real prober, the real final reads, the real judge.

What the engine does around them is done here by hand, row by row: the fault is a script of tests/probe/lossy.py, and the
instants of its rows are the server's own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from lossy import SITES

from chaoslab.clock import SYSTEM, Deadline, utc_now, wait_until
from chaoslab.history.folder import RunFolder
from chaoslab.history.result import Result
from chaoslab.history.rows import Anchor, AnyRow, Fault, LedgerRead, Phase, PhaseRow, Probe, read_history
from chaoslab.history.writer import HistoryWriter
from chaoslab.probe.final_read import read_all_sites
from chaoslab.probe.plan import plan_for
from chaoslab.probe.process import ProberProcess
from chaoslab.process import HIGH_PRIORITY, spawn
from chaoslab.run.stored import judge_stored
from chaoslab.spec.model import Experiment, ProbeSpec
from chaoslab.spec.resolved import resolved_yaml
from chaoslab.spec.stackfile.model import StackSpec

TRIES = 4
WRITER = "w"
LOOK_EVERY_S = 0.4  # how often the prober looks at the ledgers
READ_S = 4.5  # longer than sites that differ are given to come together
LAG_MAX_MS = 300.0  # beyond that an answer may be too late although the service is well
SERVER = Path(__file__).with_name("lossy.py")
BODY = {"id": "{id}", "writer": "{writer}", "seq": "{seq}", "payload": "{payload}"}


def read_journey(service: str) -> dict[str, Any]:
    return {"service": service, "request": {"path": f"/{service}/x"}, "good": {"within": "500ms"}, "timeout": "1s"}


def write_journey(service: str, **ledger: Any) -> dict[str, Any]:
    return {
        "service": service,
        "request": {"method": "POST", "path": f"/{service}/entries", "json": BODY},
        "good": {"status": 201, "within": "500ms"},
        "not_applied": [409],
        "timeout": "1s",
        "ledger": {
            "path": f"/{service}/entries?writer={{writer}}&after={{after}}",
            "items": "entries[].{id: id, hash: hash}",
            **ledger,
        },
    }


@dataclass(frozen=True)
class Scene:
    """What the server does, and who is asked what."""

    script: Mapping[str, Any]
    journeys: Mapping[str, Any]
    objectives: Mapping[str, Any]
    rate: float = 50.0
    steady_s: float = 1.0

    @property
    def period_s(self) -> float:
        return 1 / self.rate

    @property
    def stack(self) -> StackSpec:
        return StackSpec.model_validate({"sites": list(SITES), "entry": "entry:1", "journeys": dict(self.journeys)})

    @property
    def experiment(self) -> Experiment:
        return Experiment.model_validate(
            {
                "name": "known-truth",
                "hypothesis": "The judge says what the script did.",
                "title": "Known truth",
                "stack": ["/nowhere/compose.yaml"],
                "steady_state": {"hold": f"{self.steady_s}s"},
                "timeline": [{"id": "script", "at": "0s", "fault": "site.power-loss", "site": SITES[0]}],
                "objectives": dict(self.objectives),
                "probe": {"rate": self.rate},
            }
        )


@dataclass(frozen=True)
class Told:
    """A rehearsal that is over: what the server did, what the prober wrote, what the judge said."""

    begin_ns: int
    heal_ns: int
    turns: Mapping[str, list[tuple[int, str]]]  # by service: when it turned, and to what
    lag_ms: float
    rows: list[AnyRow]
    result: Result

    def slots(self, journey: str) -> list[Probe]:
        own = (row for row in self.rows if isinstance(row, Probe) and row.journey == journey)
        return sorted(own, key=lambda slot: slot.due_ns)

    def returns(self, service: str) -> list[int]:
        """When it went well again."""
        return [at_ns for at_ns, mode in self.turns[service] if mode == "ok"]

    @property
    def stalled(self) -> str:
        """Why this cannot be told from what the machine did; empty when it can."""
        if self.lag_ms > LAG_MAX_MS:
            return f"the server stood still for {self.lag_ms} ms"
        validity = [one for one in self.result.objectives if one.id in ("instrument", "steady-state")]
        return "; ".join(one.why for one in validity if one.verdict == "inconclusive")


def rehearse(scene: Scene, folder: Path) -> Told:
    """Steady state, the script, the final reads, the verdict."""
    run = RunFolder.create(folder, "known-truth")
    run.experiment.write_text(resolved_yaml(scene.experiment, scene.stack))
    with HistoryWriter(run.history) as history, _Server(scene, folder) as server:
        wall = utc_now().isoformat()
        history.append(Anchor(t_ns=SYSTEM.now_ns(), wall=wall, experiment="known-truth", run="1", runtime="none"))
        with _probers(scene, server, run):
            _steady(scene, run, history)
            turns = _play(scene, server, history)
        _phase(history, "drain", turns[-1]["at_ns"], SYSTEM.now_ns())
        for row in _final_reads(scene, server.urls["entry"]):
            history.append(row)
        _phase(history, "down", SYSTEM.now_ns(), SYSTEM.now_ns())
        lag_ms = server.line()["lag_ms"]
    services = scene.script["services"]
    return Told(
        begin_ns=turns[0]["at_ns"],
        heal_ns=_turn_at(turns, scene.script["heal_s"]),
        turns={name: [(turn["at_ns"], turn["turned"][name]) for turn in turns if name in turn["turned"]] for name in services},
        lag_ms=lag_ms,
        rows=list(read_history(run.history)),
        result=judge_stored(run, print),
    )


class _Server:
    """tests/probe/lossy.py, running; it has the processor first, like the prober: its instants are the truth."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        script = folder / "script.json"
        script.write_text(json.dumps(scene.script))
        command = [sys.executable, str(SERVER), str(script)]
        self.said = folder / "said.jsonl"
        self.said.touch()
        self._child = spawn(command, log=self.said, stdin=subprocess.PIPE, niceness=HIGH_PRIORITY)
        self._lines = self.said.open()
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in self.line()["ports"].items()}

    def line(self) -> dict[str, Any]:
        """What it says next."""
        text = wait_until("a line of the server", self._look, Deadline.after(15.0), poll_s=0.005)
        found: dict[str, Any] = json.loads(text)
        return found

    def _look(self) -> tuple[bool, str]:
        here = self._lines.tell()
        line = self._lines.readline()
        if not line.endswith("\n"):
            self._lines.seek(here)
        return line.endswith("\n"), line

    def go(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(b"go\n")
        self._child.stdin.flush()

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate()
        self._lines.close()


@contextmanager
def _probers(scene: Scene, server: _Server, run: RunFolder) -> Iterator[None]:
    """One for each port of the server, on one history."""
    by_port: dict[str, list[str]] = defaultdict(list)
    for name, journey in scene.journeys.items():
        by_port[journey["service"] if journey["service"] in server.urls else "entry"].append(name)
    started = [_prober(scene, server.urls[port], own, run) for port, own in by_port.items()]
    try:
        yield
    finally:
        for prober in started:
            prober.stop()


def _prober(scene: Scene, url: str, journeys: list[str], run: RunFolder) -> ProberProcess:
    folder = run.logs / journeys[0]
    folder.mkdir()
    asked = scene.experiment.model_copy(update={"probe": ProbeSpec(rate=scene.rate, journeys=journeys)})
    plan = plan_for(scene.stack, asked, lambda *_: url.removeprefix("http://"), run.history, WRITER)
    prober = ProberProcess(folder)
    prober.start()
    prober.begin(msgspec.structs.replace(plan, ledger_every_s=LOOK_EVERY_S))
    return prober


def _steady(scene: Scene, run: RunFolder, history: HistoryWriter) -> None:
    """Until every journey has been seen for long enough."""
    begin_ns = SYSTEM.now_ns()
    wanted = round((scene.steady_s + 0.2) * scene.rate)

    def look() -> tuple[bool, Counter[str]]:
        seen = Counter(row.journey for row in read_history(run.history) if isinstance(row, Probe))
        return all(seen[name] >= wanted for name in scene.journeys), seen

    wait_until("the steady state", look, Deadline.after(20.0))
    _phase(history, "steady", begin_ns, SYSTEM.now_ns())


def _play(scene: Scene, server: _Server, history: HistoryWriter) -> list[dict[str, Any]]:
    """The script, turn by turn, and the rows of its fault."""
    faults_ns = SYSTEM.now_ns()
    server.go()
    turns = [server.line()]
    _fault(history, turns[0]["at_ns"], "inject", "effective")
    while turns[-1]["at_s"] != scene.script["end_s"]:
        turns.append(server.line())
    heal_ns = _turn_at(turns, scene.script["heal_s"])
    _fault(history, heal_ns, "heal", "healed")
    _phase(history, "faults", faults_ns, heal_ns)
    _phase(history, "failback", heal_ns, turns[-1]["at_ns"])
    return turns


def _turn_at(turns: list[dict[str, Any]], at_s: float) -> int:
    found: int = next(turn["at_ns"] for turn in turns if turn["at_s"] == at_s)
    return found


def _phase(history: HistoryWriter, phase: Phase, begin_ns: int, end_ns: int) -> None:
    history.append(PhaseRow(t_ns=begin_ns, phase=phase, event="begin"))
    history.append(PhaseRow(t_ns=end_ns, phase=phase, event="end"))


def _fault(history: HistoryWriter, at_ns: int, *events: Any) -> None:
    for event in events:
        history.append(Fault(t_ns=at_ns, id="script", name="site.power-loss", target=SITES[0], event=event))


def _final_reads(scene: Scene, url: str) -> list[LedgerRead]:
    """From every site, as the engine asks for them."""
    journeys = {name: journey for name, journey in scene.stack.journeys.items() if journey.ledger is not None}
    addresses = {site: {journey.service: f"{url}/{site}" for journey in journeys.values()} for site in SITES}
    return read_all_sites(journeys, addresses, WRITER, Deadline.after(READ_S))


@dataclass
class Rehearsals:
    """One scene, played again where it could not be told: inconclusive is the honest word on a busy machine."""

    scene: Scene
    folder: Path
    told: list[Told] = field(default_factory=list)

    def first(self, prompt: Callable[[Told], bool] = lambda _: True) -> Told:
        """The first that could be told, and in which the machine was prompt; those of other tests count."""
        for number in range(TRIES):
            if number == len(self.told):
                place = self.folder / str(number)
                place.mkdir()
                self.told.append(rehearse(self.scene, place))
            if not self.told[number].stalled and prompt(self.told[number]):
                return self.told[number]
        raise AssertionError(f"{TRIES} times it could not be told: {[told.stalled or 'late answers' for told in self.told]}")
