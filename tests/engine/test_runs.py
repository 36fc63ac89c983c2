"""Whole runs of the mini stack: what passes, and everything that must not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mini_stack import (
    PROGRAM,
    Ran,
    assert_nothing_left,
    finish,
    parts_of,
    run_chaoslab,
    run_until_told,
    start_chaoslab,
    write_experiment,
)

from chaoslab.clock import Deadline, wait_until
from chaoslab.history.rows import Fault, Load, read_history

QUICK = {"fault": "service.kill", "service": "app", "site": "east", "id": "kill", "heal_after": "2s"}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """East is lost silently, west goes on."""
    folder = tmp_path_factory.mktemp("good")
    return run_until_told(folder, str(write_experiment(folder)))


def test_a_good_stack_passes(good: Ran) -> None:
    """Nothing acknowledged is lost; the run folder is complete."""
    ran = good
    assert (ran.code, ran.result["verdict"]) == (0, "pass"), ran.out + ran.err
    assert ran.out.splitlines()[-1] == "verdict: pass (exit 0)"
    for name in ("experiment.yaml", "history.jsonl", "result.json", "report.html", "junit.xml", "logs"):
        assert (ran.folder / name).exists()
    assert ran.folder.stat().st_mode & 0o777 == 0o700
    assert ran.result["cleanup"] == "complete"
    assert ran.result["faults"][0]["verified"] is True


def test_analyze_gives_the_same_result(good: Ran, tmp_path: Path) -> None:
    """A stored run judged again: every byte of the result is the same."""
    again = start_chaoslab(tmp_path, "analyze", str(good.folder), "--json")
    out, _ = again.communicate(timeout=30)
    assert json.loads(out) == good.result
    assert again.returncode == good.code


def decided(tmp_path: Path, **changes: Any) -> Ran:
    return run_until_told(tmp_path, str(write_experiment(tmp_path, **changes)))


def failing(tmp_path: Path, **changes: Any) -> Ran:
    return run_chaoslab(tmp_path, str(write_experiment(tmp_path, **changes)))


def environment(replica: str, **values: str) -> dict[str, Any]:
    return {"services": {replica: {"environment": values}}}


def test_a_store_that_forgets_fails_the_rpo(tmp_path: Path) -> None:
    """Known bad: every twentieth write is acknowledged and dropped."""
    ran = decided(tmp_path, overlay=environment("store", LOSE="20"), timeline=[QUICK])
    assert (ran.code, ran.result["verdict"]) == (1, "fail"), ran.out
    assert ran.objective("app.rpo")["verdict"] == "fail"
    assert ran.result["ledger"]["app"]["lost"] > 0


def test_an_entry_that_knows_one_site_fails_the_rto(tmp_path: Path) -> None:
    """Known bad: no site takes over; back only after the heal, when the RTO was over, is a fail, not a recovery."""
    one_site = environment("entry", UPSTREAMS="${EAST:-app-east:8000}")
    ran = decided(tmp_path, overlay=one_site, objectives={"app": {"rto": "< 3s"}})
    assert (ran.code, ran.objective("app.rto")["verdict"]) == (1, "fail"), ran.out


def test_a_fault_that_does_not_bite_is_inconclusive(tmp_path: Path) -> None:
    """Known bad: the injection does nothing, and its check finds that."""
    nothing = {"id": "f", "fault": "exec", "inject": ["true"], "heal": ["true"], "verify": ["false"]}
    ran = run_chaoslab(tmp_path, str(write_experiment(tmp_path, timeline=[nothing])), "--allow-exec")
    assert (ran.code, ran.result["verdict"]) == (3, "inconclusive"), ran.out
    assert ran.objective("fault.f")["verdict"] == "inconclusive"


def test_a_baseline_that_is_not_healthy_is_inconclusive_and_nothing_is_hurt(tmp_path: Path) -> None:
    """Known bad: the steady state is never reached."""
    steady = {"hold": "1s", "within": "3s", "journeys": {"p95": "< 1ms"}}
    ran = failing(tmp_path, steady_state=steady)
    assert (ran.code, ran.result["verdict"]) == (3, "inconclusive"), ran.out
    assert ran.objective("steady-state")["verdict"] == "inconclusive"
    assert ran.result["faults"] == []


def test_a_condition_that_does_not_hold_is_inconclusive(tmp_path: Path) -> None:
    """Known bad: the run would not test what it claims."""
    overlay = {"x-chaoslab": {"conditions": {"never": {"get": "http://app-east:8000/where", "expect": "site == 'mars'"}}}}
    steady = {"hold": "1s", "within": "1s", "conditions": ["never"]}
    ran = failing(tmp_path, overlay=overlay, steady_state=steady)
    assert ran.code == 3, ran.out
    assert "never" in ran.objective("steady-state")["why"] + ran.objective("steady-state")["measured"]


def test_an_empty_ledger_proves_nothing(tmp_path: Path) -> None:
    """Known bad: no writes were probed, so an RPO of zero cannot be claimed."""
    ran = failing(tmp_path, probe={"journeys": ["app.read"]}, timeline=[QUICK])
    assert (ran.code, ran.objective("app.rpo")["verdict"]) == (3, "inconclusive"), ran.out


def test_an_abort_condition_ends_the_run_and_heals(tmp_path: Path) -> None:
    """Safety first: verdict aborted, exit 4, nothing left."""
    ran = failing(tmp_path, abort={"host_memory": "> 0.1%"})
    assert (ran.code, ran.result["verdict"]) == (4, "aborted"), ran.out


def test_a_stack_that_does_not_come_up_is_an_error_with_its_log(tmp_path: Path) -> None:
    """What was awaited, and the last lines of its log."""
    overlay = {"services": {"store": {"command": ["python", "-c", "raise SystemExit('no disk today')"]}}}
    ran = failing(tmp_path, overlay=overlay)
    assert (ran.code, ran.result["verdict"]) == (5, "error"), ran.out
    assert "no disk today" in ran.out


def wait_for(child: Any, folder: Path, text: str) -> None:
    """Until the history speaks of it."""
    history = folder / "runs" / "mini" / "latest" / "history.jsonl"
    until = time.monotonic() + 30
    while time.monotonic() < until and child.poll() is None:
        if history.exists() and text in history.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"{text} did not come: {child.communicate(timeout=5)}")


MOMENTS = {
    "boot": '"phase":"boot"',
    "steady": '"phase":"steady"',
    "inject": '"event":"inject"',
    "effective": '"event":"effective"',
    "heal": '"event":"heal"',
    "verify": '"phase":"verify"',
}


# Asks little of the machine: these runs are ended before they can be judged, so several may go on at the same time.
CALM: dict[str, Any] = {
    "steady_state": {"hold": "1s", "within": "20s", "journeys": {"good": "> 10%"}, "conditions": ["east-serves"]},
    "probe": {"rate": 10},
}


def side_by_side(tmp_path: Path, names: Iterable[str], do: Callable[[Path, str], None]) -> None:
    """Each in a folder and a thread of its own. Raises what the first of them raised."""

    def alone(name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        do(folder, name)

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(alone, name) for name in names]:
            done.result()


@pytest.mark.parametrize("moments", [("boot", "steady", "inject"), ("effective", "heal", "verify")], ids=" ".join)
def test_ctrl_c_heals_cleans_up_and_reports(tmp_path: Path, moments: tuple[str, ...]) -> None:
    """At any moment: exit 130, nothing left, a report of what was seen."""

    def interrupt(folder: Path, moment: str) -> None:
        child = start_chaoslab(folder, "run", str(write_experiment(folder, **CALM)))
        wait_for(child, folder, MOMENTS[moment])
        os.kill(child.pid, signal.SIGINT)
        ran = finish(child, folder)
        assert ran.code == 130, f"{moment}: {ran.out}{ran.err}"
        assert (ran.folder / "report.html").exists(), moment
        assert "Traceback" not in ran.err

    side_by_side(tmp_path, moments, interrupt)


def test_whoever_asks_again_and_again_still_gets_the_report(tmp_path: Path) -> None:
    """Known bad: a signal that came after the healing ended the program before it wrote what it had seen."""
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path)))
    wait_for(child, tmp_path, MOMENTS["effective"])
    while child.poll() is None:
        os.kill(child.pid, signal.SIGHUP)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.1)
        if (tmp_path / "runs/mini/latest/result.json").exists():
            break  # what is left is Python's own end
    ran = finish(child, tmp_path)
    assert ran.code == 130, ran.out + ran.err
    assert (ran.folder / "result.json").exists()


def test_ctrl_c_while_the_report_is_written_lets_no_further_run_begin(tmp_path: Path) -> None:
    """Known bad: of several runs, the next began, since this one was over already."""
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path)), "--repeat", "2")
    wait_for(child, tmp_path, '"phase":"down","event":"end"')
    os.kill(child.pid, signal.SIGINT)
    ran = finish(child, tmp_path)
    assert ran.code == 130, ran.out + ran.err
    assert len([one for one in (tmp_path / "runs/mini").iterdir() if not one.is_symlink()]) == 1


def test_other_signals_end_the_run_the_same_way(tmp_path: Path) -> None:
    """A closed terminal and a polite kill heal too; a second signal does not cut the healing short."""

    def signal_twice(folder: Path, name: str) -> None:
        child = start_chaoslab(folder, "run", str(write_experiment(folder, **CALM)))
        wait_for(child, folder, MOMENTS["effective"])
        os.kill(child.pid, signal.Signals[name])
        time.sleep(0.2)
        os.kill(child.pid, signal.Signals[name])
        assert finish(child, folder).code == 130, name

    side_by_side(tmp_path, ["SIGTERM", "SIGHUP"], signal_twice)


def test_a_closed_output_does_not_keep_the_run_from_cleaning_up(tmp_path: Path) -> None:
    """With no reader left, the run goes on to its end all the same."""
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path, timeline=[QUICK])))
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    finish(child, tmp_path)
    assert (tmp_path / "runs/mini/latest/result.json").exists()


@pytest.mark.parametrize(
    ("victim", "code", "verdict"), [("chaoslab.probe", 5, "error"), ("chaoslab.stack.relay", 3, "inconclusive")]
)
def test_the_death_of_a_part_of_the_harness_says_nothing_about_the_stack(
    tmp_path: Path, victim: str, code: int, verdict: str
) -> None:
    """Without the prober nothing is known; without the relay no fault surely holds, and so nothing follows."""
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path)))
    wait_for(child, tmp_path, MOMENTS["effective"])
    kill_part(child.pid, victim)
    ran = finish(child, tmp_path)
    assert (ran.code, ran.result["verdict"]) == (code, verdict), ran.out
    assert "ended unexpectedly" in ran.result["reasons"][0]


def kill_part(harness: int, module: str) -> None:
    for process in parts_of(harness, module):
        process.kill()


def test_a_reaper_that_was_killed_is_not_missed(tmp_path: Path) -> None:
    """The harness lives, so it does the reaper's work: nothing is left."""
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path, timeline=[QUICK])))
    wait_for(child, tmp_path, MOMENTS["effective"])
    kill_part(child.pid, "chaoslab.cleanup.reaper")
    ran = finish(child, tmp_path)
    assert ran.code in (0, 3), ran.out + ran.err
    assert ran.result["cleanup"] == "complete"


def test_a_prober_that_does_not_listen_holds_up_no_run(tmp_path: Path) -> None:
    """Frozen before it read a plan that no pipe's buffer holds: the run ends, with the reason."""
    request = {"path": "/where", "headers": {f"X-{number}": "x" * 7000 for number in range(20)}}
    overlay = {"x-chaoslab": {"journeys": {"app.read": {"service": "app", "request": request, "good": {"status": 200}}}}}
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path, overlay=overlay, timeline=[QUICK])))
    wait_for(child, tmp_path, MOMENTS["boot"])
    find = partial(parts_of, child.pid, "chaoslab.probe")
    wait_until("the prober", lambda: (bool(find()), find()), Deadline.after(10), poll_s=0.01)
    for process in find():
        process.suspend()
    ran = finish(child, tmp_path)
    assert ran.code == 5, ran.out
    assert "waited 10 s for the prober to take its plan" in ran.result["reasons"][0]


def test_a_surge_lasts_from_the_inject_to_the_heal(tmp_path: Path) -> None:
    """Two users, five while the fault is active, and two again: as told by the rows of the load."""
    users = tmp_path / "users.py"
    users.write_text(
        "from locust import task\nfrom chaoslab.locust_rows import DeadlineUser\n"
        "class User(DeadlineUser):\n    @task\n    def read(self):\n        self.client.get('/where')\n"
    )
    load = {"locustfile": str(users), "users": 2, "under": {QUICK["id"]: {"users": 5}}}
    ran = run_chaoslab(tmp_path, str(write_experiment(tmp_path, timeline=[QUICK], load=load)))
    assert ran.objective("load")["verdict"] == "pass", ran.out
    rows = [*read_history(ran.folder / "history.jsonl")]
    at_ns = {row.event: row.t_ns for row in rows if isinstance(row, Fault)}
    counts = [(row.t_ns, row.users) for row in rows if isinstance(row, Load)]
    assert max(count for t_ns, count in counts if t_ns < at_ns["inject"]) == 2
    assert max(count for t_ns, count in counts if at_ns["inject"] < t_ns <= at_ns["heal"]) == 5
    assert counts[-1][1] == 2


def test_load_that_stands_still_in_the_fault_is_none(tmp_path: Path) -> None:
    """^Z of Locust once the fault is in effect: what came back was not under load, and the reasons name that."""
    users = tmp_path / "users.py"
    users.write_text(
        "from locust import task\nfrom chaoslab.locust_rows import DeadlineUser\n"
        "class User(DeadlineUser):\n    @task\n    def read(self):\n        self.client.get('/where')\n"
    )
    changes = {"load": {"locustfile": str(users), "users": 2}, "failback": {"within": "20s", "hold": "10s"}}
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path, timeline=[QUICK], **changes)))
    wait_for(child, tmp_path, MOMENTS["effective"])
    for process in parts_of(child.pid, "chaoslab.load.locust_plugin"):
        process.suspend()
    ran = finish(child, tmp_path)
    assert ran.code == 3, ran.out
    assert any("Locust stalled" in reason for reason in ran.result["reasons"]), ran.result["reasons"]


def test_a_hang_up_that_is_ignored_at_the_start_stays_so(tmp_path: Path) -> None:
    """`nohup chaoslab run`: people go home, and the run goes on."""
    spec = str(write_experiment(tmp_path, timeline=[QUICK]))
    child = start_chaoslab(tmp_path, "run", spec, program=("nohup", *PROGRAM))
    wait_for(child, tmp_path, MOMENTS["effective"])
    child.send_signal(signal.SIGHUP)
    ran = finish(child, tmp_path)
    assert ran.code in (0, 3), ran.out + ran.err
    assert not ran.result["interrupted"]


def test_two_runs_side_by_side_do_not_collide(tmp_path: Path) -> None:
    """Each has its own ports, folders and processes."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    children = [
        start_chaoslab(f, "run", str(write_experiment(f, timeline=[QUICK | {"heal_after": "5s"}], probe={"rate": 20})))
        for f in folders
    ]
    codes = [finish(child, folder).code for child, folder in zip(children, folders, strict=True)]
    assert set(codes) <= {0, 3}, "two at once may be too much for a small machine to tell, but never an error or a fail"


def test_a_kept_stack_stays_until_it_is_healed(tmp_path: Path) -> None:
    """--keep leaves it up; `chaoslab heal` takes it down, and the second time there is nothing to do."""
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path, timeline=[QUICK])), "--keep")
    child.communicate(timeout=60)
    assert child.returncode in (0, 3)
    folder = (tmp_path / "runs/mini/latest").resolve()
    with pytest.raises(AssertionError):
        assert_nothing_left(folder)
    for message in ("healed", ""):
        heal = start_chaoslab(tmp_path, "heal", "--all")
        out, _ = heal.communicate(timeout=30)
        assert heal.returncode == 0
        assert message in out
    finish(child, tmp_path)


def test_a_dry_run_starts_nothing(tmp_path: Path) -> None:
    """Targets and times, resolved; no folder, no process."""
    child = start_chaoslab(tmp_path, "run", str(write_experiment(tmp_path)), "--dry-run")
    out, _ = child.communicate(timeout=20)
    assert child.returncode == 0
    assert "inject fire: site.power-loss east [app-east]" in out
    assert not (tmp_path / "runs").exists()


def test_a_broken_spec_starts_nothing_and_names_every_place(tmp_path: Path) -> None:
    """All problems at once, with line and column; exit 2."""
    path = write_experiment(tmp_path, timeline=[QUICK | {"site": "eats"}], steady_state={"hold": "1 minute", "condition": []})
    child = start_chaoslab(tmp_path, "run", str(path))
    _, err = child.communicate(timeout=20)
    assert child.returncode == 2
    assert err.count("mini.yaml:") == 3, err
    assert "Did you mean" in err
    assert not (tmp_path / "runs").exists()
