"""Short fires for the benches: `short-fire` with etcd's leader placed, run as a person runs it, and what was stored of each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from mini_stack import finish, start_chaoslab

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import Anchor, AnyRow, Condition, Fault, Machine, read_history

ROOT = Path(__file__).parents[2]
STACK = ROOT / "compose" / "two-site" / "compose.yaml"
SHORT_FIRE = ROOT / "experiments" / "short-fire.yaml"
IN_PANGYO, ELSEWHERE = "etcd-leader-in-pangyo", "etcd-leader-elsewhere"
RUN_TIMEOUT_S = 300.0
Leader = Literal["pangyo", "elsewhere"]


def write_fire(folder: Path, name: str, leader: Leader, **changes: Any) -> Path:
    """`short-fire` in `folder`, with etcd's leader in pangyo or with the witness; `changes` replace its keys."""
    spec = yaml.safe_load(SHORT_FIRE.read_text())
    overlay = folder / "etcd-leader-elsewhere.yaml"
    overlay.write_text(yaml.safe_dump({"x-chaoslab": {"conditions": {ELSEWHERE: _elsewhere()}}}))
    spec["stack"] = [str(STACK), str(overlay)]
    spec["load"]["locustfile"] = str(SHORT_FIRE.parent / spec["load"]["locustfile"])
    placed = IN_PANGYO if leader == "pangyo" else ELSEWHERE
    spec["steady_state"]["conditions"] = ["leader-in-pangyo", "standby-in-sync", placed]
    path = folder / f"{name}.yaml"
    path.write_text(
        f"# A short fire with etcd's leader {placed.removeprefix('etcd-leader-')}.\n{yaml.safe_dump(spec | changes)}"
    )
    return path


def _elsewhere() -> Any:
    """The stack's condition for pangyo, with pangyo and the witness changing places."""
    text = json.dumps(yaml.safe_load(STACK.read_text())["x-chaoslab"]["conditions"][IN_PANGYO])
    swapped = text.replace("etcd-pangyo", "etcd-other").replace("etcd-witness", "etcd-pangyo")
    return json.loads(swapped.replace("etcd-other", "etcd-witness"))


@dataclass(frozen=True)
class Stored:
    """A run's folder, and what the benches ask of it."""

    folder: Path

    @cached_property
    def rows(self) -> list[AnyRow]:
        """All but the probes."""
        return [row for row in read_history(self.folder / "history.jsonl") if row.__struct_config__.tag != "probe"]

    @cached_property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "result.json").read_text())
        return found

    @property
    def runtime(self) -> str:
        return next(row.runtime for row in self.rows if isinstance(row, Anchor))

    @property
    def leader(self) -> Leader | None:
        """Where etcd's leader was proven to be before the fire; None when nothing was said about it."""
        proven = {row.id for row in self.rows if isinstance(row, Condition) and row.role != "failback" and row.holds}
        return "pangyo" if IN_PANGYO in proven else "elsewhere" if ELSEWHERE in proven else None

    @property
    def inject_ns(self) -> int | None:
        return next((row.t_ns for row in self.rows if isinstance(row, Fault) and row.event == "inject"), None)

    def rto_s(self) -> dict[str, tuple[float, float]]:
        """By service, of those that write to the database; a service that never recovered is left out."""
        seen = {name: self.result["services"].get(name, {}).get("rto_s") for name in ("auth", "talk", "pay")}
        return {name: (rto["low"], rto["high"]) for name, rto in seen.items() if rto and rto["high"] is not None}

    def starved_s(self, since_ns: int = 0, until_ns: int | None = None) -> float:
        """Seconds in which the witness was kept waiting."""
        rows = [row for row in self.rows if isinstance(row, Machine) and row.starved and row.t_ns > since_ns]
        return sum(row.t_ns - row.begin_ns for row in rows if until_ns is None or row.begin_ns < until_ns) / NS_PER_S

    def machine(self) -> Iterator[Machine]:
        return (row for row in self.rows if isinstance(row, Machine))


class Run:
    """A run of `chaoslab run` in the project's folder."""

    def __init__(self, experiment: Path | str, runtime: str) -> None:
        self.name = Path(experiment).stem
        self._before = self.latest
        self.child = start_chaoslab(ROOT, "run", str(experiment), "--runtime", runtime)

    @property
    def latest(self) -> Path:
        return (ROOT / "runs" / self.name / "latest").resolve()

    @property
    def folder(self) -> Path | None:
        """This run's, once it has one."""
        return self.latest if self.latest != self._before and (self.latest / "history.jsonl").exists() else None

    def end(self) -> Stored:
        """Wait for it; nothing of it is left. Raises RuntimeError when it ended without a result."""
        ran = finish(self.child, ROOT, self.name, timeout_s=RUN_TIMEOUT_S)
        if self.folder is None or not (self.folder / "result.json").exists():
            raise RuntimeError(f"{self.name}: exit code {ran.code} and no result: {(ran.err or ran.out).strip()[-400:]}")
        return Stored(self.folder)
