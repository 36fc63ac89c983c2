"""A project of small experiments, and a program in place of `chaoslab run` that leaves what it is told to leave."""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from mini_stack import MINI

from chaoslab.gameday.suite import Suite, load_suite
from chaoslab.history.result import Interval, LoadResult, ObjectiveResult, Result, ServiceResult
from chaoslab.spec.load import dump_resolved, load_experiment
from chaoslab.spec.resolved import spec_sha256

PRETENDER = Path(__file__).with_name("pretender.py")
PROGRAM = (sys.executable, str(PRETENDER))
# The whole program, with the stand-in for every run.
CHAOSLAB = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from chaoslab.gameday import night
from chaoslab.cli.program import main
night.PROGRAM = {PROGRAM!r}
main()
"""
FIRE = (MINI / "pass.yaml").read_text().replace("stack: compose.yaml", f"stack: {MINI / 'compose.yaml'}")
RED = FIRE + "expect: {verdict: fail, objectives: [app.rpo]}\ntags: [known-bad]\n"


def write_suite(project: Path, text: str, name: str = "all") -> Path:
    file = project / "experiments" / "gameday" / f"{name}.yaml"
    file.write_text(f"# Everything holds, every night.\ntitle: All of it\nruntime: embedded\n{text}\n")
    return file


def prepare(project: Path) -> None:
    """What a run of each experiment, as its file is now, leaves: its spec as resolved, and a result of any verdict."""
    folder = project / "prepared"
    folder.mkdir(exist_ok=True)
    for file in (project / "experiments").glob("*.yaml"):
        prepared = folder / f"{file.stem}-{sha256(file.read_bytes()).hexdigest()}"
        if not prepared.exists():
            loaded = load_experiment(file)
            expected = loaded.experiment.expect.verdict if loaded.experiment.expect else "pass"
            resolved = dump_resolved(loaded)
            left = msgspec.structs.replace(result("{name}", "{verdict}"), spec_sha256=spec_sha256(resolved.encode()))
            text = msgspec.json.encode(left).decode()
            prepared.write_text(json.dumps({"resolved": resolved, "expected": expected, "result": text}))


def suite_of(project: Path, text: str | None = None) -> Suite:
    file = project / "experiments" / "gameday" / "all.yaml"
    if text is not None:
        write_suite(project, text)
    prepare(project)
    return load_suite(file, project)


def pretend(project: Path, **outcomes: str) -> None:
    """What the runs of an experiment come to, by its name; else a run of a known-bad fails as expected, and others pass."""
    (project / "outcomes").mkdir(exist_ok=True)
    for name, outcome in outcomes.items():
        (project / "outcomes" / name).write_text(outcome)


def result(name: str, verdict: Any) -> Result:
    service = ServiceResult(
        status="recovered",
        rto_s=Interval(1.0, 1.2, 5.0),
        failback_s=Interval(0.0, 0.5, 10.0),
        availability=0.9,
        downtime_s=1.1,
        longest_s=1.1,
        flaps=0,
        slots=100,
        skewed=0,
    )
    return Result(
        experiment=name,
        verdict=verdict,
        runtime="embedded",
        started_at="2026-11-26T02:00:00+00:00",
        duration_s=12.0,
        boot_s=1.0,
        overhead_s=0.5,
        faults=[],
        services={"app": service},
        journeys={},
        ledger={},
        load=LoadResult(),
        objectives=[
            ObjectiveResult(id="app.rto", verdict=verdict, measured="1.0..1.2 s", objective="< 5 s"),
            ObjectiveResult(id="app.rpo", verdict=verdict, measured="0", objective="nothing lost"),
        ],
        reasons=[f"app.rpo: the stand-in was told to come to {verdict}"],
    )
