"""`chaoslab selftest` on the mini stack: known-bad stacks fail as they state, and a known outage is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mini_stack import in_containers, start_chaoslab, write_experiment

from chaoslab.cli.selftest import selftest_command
from chaoslab.errors import SpecError

pytestmark = pytest.mark.timeout(300)

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

    def stop(loaded: Any, *_: object) -> None:
        used.append(loaded.compose.use_binds)
        raise SpecError("enough")

    monkeypatch.setattr("chaoslab.cli.selftest._run_until_decided", stop)
    path = write_experiment(tmp_path, **FROZEN_ENTRY)
    with pytest.raises(SpecError, match="enough"):
        CliRunner().invoke(selftest_command, ["--only", str(path), *given], standalone_mode=False, catch_exceptions=False)
    assert used == [bool(given)]
