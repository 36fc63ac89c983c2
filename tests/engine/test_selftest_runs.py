"""`chaoslab selftest` on the mini stack: known-bad stacks fail as they state, and a known outage is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mini_stack import in_containers, run_until_told, start_chaoslab, write_experiment

from chaoslab.cli.selftest import _runtimes, selftest_command
from chaoslab.errors import SpecError
from chaoslab.history.folder import RunFolder
from chaoslab.history.rows import Decided
from chaoslab.spec.load import load_experiment

pytestmark = pytest.mark.timeout(300)

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
QUICK = {"fault": "service.kill", "service": "app", "site": "east", "id": "kill", "heal_after": "2s"}
APPLIED_TWICE: dict[str, Any] = {
    "overlay": {"services": {"store": {"environment": {"TWICE": "20"}}}},
    "timeline": [QUICK],
    "objectives": {"app": {"rto": None}},
    "expect": {"verdict": "fail", "objectives": ["app.ledger"]},
    "tags": ["known-bad"],
}
FROZEN_ENTRY: dict[str, Any] = {
    "timeline": [{"id": "still", "fault": "service.pause", "service": "entry", "heal_after": "5s"}],
    "probe": {"rate": 10, "journeys": ["app.read"]},
    "objectives": {"app": {"rto": None, "rpo": None, "failback": "< 15s"}},
    "failback": {"within": "20s", "hold": "5s"},
    "tags": ["instrument"],
}
NO_FAILOVER: dict[str, Any] = {
    "overlay": in_containers(entry={"environment": {"UPSTREAMS": "${EAST:-app-east:8000}"}}),
    "objectives": {"app": {"rto": "< 3s"}},
    "expect": {"verdict": "fail", "objectives": ["app.rto"]},
    "tags": ["known-bad"],
}


def selftest(folder: Path, runtime: str, **changes: Any) -> tuple[int, dict[str, Any]]:
    """The exit code, and what the command says of the experiment."""
    path = write_experiment(folder, **changes)
    child = start_chaoslab(folder, "selftest", "--only", str(path), "--runtime", runtime, "--json")
    out, err = child.communicate(timeout=280)
    assert out, err
    compared: dict[str, Any] = json.loads(out)[0]
    return child.returncode, compared


@pytest.mark.parametrize("changes", [APPLIED_TWICE, FROZEN_ENTRY], ids=["applied twice", "frozen entry"])
def test_it_ends_as_stated(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Writes that are applied twice fail the ledger; an entry that stands still for five seconds is down for five seconds."""
    code, compared = selftest(tmp_path, "embedded", **changes)
    assert (code, compared["outcome"]) == (0, "as expected"), compared


def test_a_stack_that_is_better_than_stated_is_not_as_expected(tmp_path: Path) -> None:
    """Known bad: nothing is wrong with the stack, so the stated failure does not come."""
    code, compared = selftest(tmp_path, "embedded", **{**APPLIED_TWICE, "overlay": None})
    assert (code, compared["outcome"]) == (1, "not as expected"), compared


ENTRY_ALONE = {"services": {"entry": {"environment": {"UPSTREAMS": "${EAST:-app-east:8000}"}}}}
LONG_FIRE = {"fault": "site.power-loss", "site": "east", "id": "fire", "heal_after": "40s"}


def test_a_known_bad_ends_once_it_has_failed_for_good(tmp_path: Path) -> None:
    """Long before its script, and the stored run is judged alike; what was not decided is not judged."""
    changes = NO_FAILOVER | {"overlay": ENTRY_ALONE, "timeline": [LONG_FIRE]}
    code, compared = selftest(tmp_path, "embedded", **changes)
    assert (code, compared["outcome"], compared["got"]) == (0, "as expected", "fail: app.rto"), compared
    run = RunFolder((tmp_path / "runs" / "mini" / "latest").resolve())
    decided = [row for row in run.read_rows() if isinstance(row, Decided)]
    assert [row.objectives for row in decided] == [["app.rto"]]
    result = run.read_result()
    fault = result.faults[0]
    assert fault.heal_s is not None
    assert fault.heal_s - fault.inject_s < 40
    assert {one.id for one in result.objectives if one.why.startswith("not judged")} >= {
        "app.rpo",
        "app.failback",
        "app.ledger",
    }
    assert result.cleanup == "complete"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({}, 0, id="a good experiment"),
        pytest.param({"overlay": ENTRY_ALONE, "objectives": {"app": {"rto": "< 3s"}}}, 1, id="nothing is expected to fail"),
    ],
)
def test_no_other_run_is_ended_early(tmp_path: Path, changes: dict[str, Any], code: int) -> None:
    """Though it is asked to: good or bad, the run goes on to the end of its script, and is judged whole."""
    ran = run_until_told(tmp_path, str(write_experiment(tmp_path, **changes)), "--end-early")
    assert ran.code == code, ran.out + ran.err
    assert not [row for row in RunFolder(ran.folder).read_rows() if isinstance(row, Decided)]
    assert not [one for one in ran.result["objectives"] if one["verdict"] == "inconclusive"]


@pytest.mark.docker
@pytest.mark.usefixtures("engine")
def test_a_stack_without_failover_fails_in_containers_too(tmp_path: Path) -> None:
    """Back only after the heal, when the RTO was over."""
    code, compared = selftest(tmp_path, "compose", **NO_FAILOVER)
    assert (code, compared["outcome"]) == (0, "as expected"), compared


@pytest.mark.parametrize("given", [(), ("--use-binds",)])
def test_stacks_share_the_user_s_data_when_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
) -> None:
    """Without a run: what it would run on."""
    used = []

    def stop(loaded: Any, *_: object, **__: object) -> None:
        used.append(loaded.compose.use_binds)
        raise SpecError("enough")

    monkeypatch.setattr("chaoslab.cli.selftest._run_until_decided", stop)
    path = write_experiment(tmp_path, **FROZEN_ENTRY)
    with pytest.raises(SpecError, match="enough"):
        CliRunner().invoke(selftest_command, ["--only", str(path), *given], standalone_mode=False, catch_exceptions=False)
    assert used == [bool(given)]


def test_what_cannot_run_here_does_not_end_the_selftest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: for a user who is not root, the second experiment ended it, and the thirty after that did not run."""
    monkeypatch.setattr("chaoslab.stack.embedded.disks.why_no_cut", lambda: "it needs root")
    chosen = [load_experiment(EXPERIMENTS / f"{name}.yaml") for name in ("ack-before-sync", "frozen-entry")]
    refused, taken = _runtimes(chosen, "embedded", may_refuse=True)
    assert (type(refused), taken) == (SpecError, "embedded")
    assert "it needs root" in str(refused)
    for what, may_refuse in ((chosen, False), (chosen[:1], True)):  # asked for by name; none can run
        with pytest.raises(SpecError, match="it needs root"):
            _runtimes(what, "embedded", may_refuse=may_refuse)
