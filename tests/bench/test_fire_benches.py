"""The benches that run real fires: what they take for in the band, and when they take a service for recovered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml
from bench_theory import Told, band, promoted_s
from bench_truths import Row, names, wait_for_recovery
from disturbances import fsync_writers, replicas_of, stopped
from fire_runs import ELSEWHERE, IN_PANGYO, Leader, Run, Stored, write_fire

from chaoslab.clock import NS_PER_S, Deadline, wait_until
from chaoslab.history.rows import Anchor, AnyRow, Condition, Fault, Machine, Probe, encode
from chaoslab.spec.load import load_experiment

WALL = "2026-11-22T02:00:00+00:00"
FIRE_S = 100
BY = "others (python (17) 0.85)"


def row_at(cls: type, at_s: float, **fields: Any) -> AnyRow:
    row: AnyRow = cls(t_ns=round(at_s * NS_PER_S), **fields)
    return row


def slot(at_s: float, good: bool) -> AnyRow:
    due_ns = round(at_s * NS_PER_S)
    fields = {"service": "talk", "op": "read", "due_ns": due_ns, "sent_ns": due_ns, "end_ns": due_ns, "outcome": "ok"}
    return row_at(Probe, at_s, journey="talk.read", good=good, **fields)


def stored(
    folder: Path, more: Iterable[AnyRow] = (), *, rto_s: tuple[float, float] = (23.0, 23.2), leads: str = ELSEWHERE
) -> Stored:
    rows = [
        row_at(Anchor, 0, wall=WALL, experiment="x", run="x/1", runtime="embedded", facts={"run_id": "r1"}),
        row_at(Condition, 90, id=leads, holds=True, observed=""),
        row_at(Fault, FIRE_S, id="fire", name="site.power-loss", target="pangyo", event="inject"),
        *more,
    ]
    (folder / "history.jsonl").write_bytes(b"".join(map(encode, rows)))
    services = {name: {"rto_s": {"low": rto_s[0], "high": rto_s[1]}} for name in ("auth", "talk", "pay")}
    (folder / "result.json").write_text(
        json.dumps({"verdict": "pass", "services": services, "machine": {"starved_s": 2.5, "by": [BY]}})
    )
    return Stored(folder)


@pytest.mark.parametrize(
    ("leader", "rto_s", "verdict"),
    [
        ("elsewhere", (22.9, 23.3), "in"),
        ("pangyo", (26.9, 27.1), "in"),
        ("elsewhere", (26.9, 27.1), "OUT"),
        ("elsewhere", (17.0, 17.2), "OUT"),
        ("pangyo", (22.0, 22.2), "OUT"),
        ("pangyo", (30.0, 31.5), "OUT"),
    ],
)
def test_an_rto_is_in_its_band_or_not(tmp_path: Path, leader: Leader, rto_s: tuple[float, float], verdict: str) -> None:
    """What was seen is in; a lease that was cut short, or forgotten, is not."""
    assert Told.of(stored(tmp_path, rto_s=rto_s), leader).verdict == verdict


def test_bands_have_the_parts_that_the_stack_is_set_to(tmp_path: Path) -> None:
    """With etcd's leader burnt all is later by an election and what its winner adds: 1.5 + 1.5 to 3.0 + 1.5 s, and a loop."""
    assert (band("pangyo").low - band("elsewhere").low, band("pangyo").high - band("elsewhere").high) == (4.0, 4.5)


def test_a_starved_failover_is_told_apart(tmp_path: Path) -> None:
    """Neither in nor out: the machine took part. Before the fire and after the recovery it may do what it wants."""
    starved = [
        row_at(Machine, at_s, begin_ns=(at_s - 1) * NS_PER_S, starved=True) for at_s in (FIRE_S - 3, FIRE_S + 10, FIRE_S + 60)
    ]
    assert Told.of(stored(tmp_path, starved), "elsewhere").verdict == "told apart: 1 s starved"
    assert Told.of(stored(tmp_path, starved[::2]), "elsewhere").verdict == "in"


def test_where_etcd_leads_is_read_from_what_was_proven(tmp_path: Path) -> None:
    """Of a stored run; and without such a condition it is not known."""
    assert [stored(tmp_path, leads=id_).leader for id_ in (IN_PANGYO, ELSEWHERE, "leader-in-pangyo")] == [
        "pangyo",
        "elsewhere",
        None,
    ]


def test_the_lock_is_read_from_the_log_of_either_runtime(tmp_path: Path) -> None:
    """The first after the fire; Compose puts its own time before each line."""
    (tmp_path / "logs").mkdir()
    lines = [
        f"2026-11-22 02:0{at},500 INFO: promoted self to leader by acquiring session lock" for at in ("0:05", "2:02", "3:00")
    ]
    (tmp_path / "logs" / "pg-anyang.log").write_text("\n".join([lines[0], f"2026-11-22T02:02:02.6Z {lines[1]}", lines[2]]))
    assert promoted_s(stored(tmp_path)) == pytest.approx(22.5)


def test_recovered_is_after_an_outage_and_five_good_seconds(tmp_path: Path) -> None:
    """Not while a fire has just begun, not when the power came back first."""
    heal = row_at(Fault, FIRE_S + 40, id="fire", name="site.power-loss", target="pangyo", event="heal")
    good = [slot(FIRE_S + at_s, True) for at_s in range(24, 31)]
    assert recovery(tmp_path, [slot(FIRE_S + 23, False), *good]) == "r1"
    assert recovery(tmp_path, [slot(FIRE_S + 1, False), *good]) is None
    assert recovery(tmp_path, [slot(FIRE_S + 23, False), *good[:5]]) is None
    assert recovery(tmp_path, [slot(FIRE_S + 23, False), heal, *good]) is None


def recovery(folder: Path, rows: list[AnyRow]) -> str | None:
    stored(folder, rows)
    run: Run = SimpleNamespace(folder=folder, child=SimpleNamespace(poll=lambda: 0))  # type: ignore[assignment]
    return wait_for_recovery(run)


def test_a_run_is_told_with_who_had_the_machine(tmp_path: Path) -> None:
    """In the row that people read, and for the truth that writers are named."""
    run = stored(tmp_path)
    assert str(Row("fsync", "no fail", run, fine=False)).endswith(
        f"2.5  DIFFERS     {tmp_path.parent.name}/{tmp_path.name}  {BY}"
    )
    assert names(run, [4])


def test_a_written_fire_is_a_sound_experiment(tmp_path: Path) -> None:
    """In both places, and with the condition of the stack turned to the witness."""
    for leader, placed in (("pangyo", IN_PANGYO), ("elsewhere", ELSEWHERE)):
        loaded = load_experiment(write_fire(tmp_path, f"fire-{leader}", leader))  # type: ignore[arg-type]
        assert placed in loaded.experiment.steady_state.conditions
    overlay = yaml.safe_load((tmp_path / "etcd-leader-elsewhere.yaml").read_text())
    how = overlay["x-chaoslab"]["conditions"][ELSEWHERE]["bring_about"]
    assert how["with"]["member"]["get"] == "http://etcd-witness:2380/members"
    assert [url.partition(":2379")[0] for url in how["post"]] == ["http://etcd-anyang", "http://etcd-pangyo"]


def stands_still(process: psutil.Process) -> bool:
    return bool(process.status() == psutil.STATUS_STOPPED)


def test_the_replicas_alone_stand_still_and_go_on(tmp_path: Path) -> None:
    """The relay carries the run's mark, too, and is none."""
    program, run_id = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"], "bench-test"
    marks = [os.environ | {"CHAOSLAB_RUN": run_id, "CHAOSLAB_REPLICA": f"{run_id}/{name}"} for name in ("talk-pangyo", "relay")]
    replica, relay = (psutil.Process(subprocess.Popen(program, env=env).pid) for env in marks)
    try:
        with stopped(lambda: replicas_of(run_id, {"talk-pangyo"})):
            wait_until("a stopped replica", lambda: (stands_still(replica), replica.status()), Deadline.after(10))
            assert not stands_still(relay)
        wait_until("a replica that goes on", lambda: (not stands_still(replica), replica.status()), Deadline.after(10))
    finally:
        replica.kill()
        relay.kill()


def test_writers_leave_nothing_on_the_disk(tmp_path: Path) -> None:
    """They end by themselves, and their files go with them."""
    assert len(fsync_writers(tmp_path, 0.05, count=2)) == 2
    assert list(tmp_path.iterdir()) == []
