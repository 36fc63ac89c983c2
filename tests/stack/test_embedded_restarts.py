"""Restart policies and jobs on the embedded runtime, as on Compose: they hold, except for what a fault has down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import yaml
from restart_contract import check_who_is_started_again

from chaoslab.clock import Deadline, wait_until
from chaoslab.errors import NotHealthy
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.stack.embedded.stack import EmbeddedStack
from chaoslab.stack.protocol import CanRestart

# Ends with the status in its file, which it takes away, once somebody writes it.
MORTAL = """
import pathlib, sys, time
end = pathlib.Path(sys.argv[1] + ".end")
while not end.exists() or not end.read_text():
    time.sleep(0.02)
status = int(end.read_text())
end.unlink()
sys.exit(status)
"""
# Fails twice before it stays, as a service that finds no database yet.
PATIENT = """
import pathlib, sys, time
count = pathlib.Path("tries")
count.write_text(str(int(count.read_text()) + 1) if count.exists() else "1")
if int(count.read_text()) <= 2:
    sys.exit(7)
time.sleep(600)
"""


@contextmanager
def up(folder: Path, services: dict[str, Any]) -> Iterator[EmbeddedStack]:
    """A stack of these, all in one site, up."""
    (folder / "mortal.py").write_text(MORTAL)
    (folder / "patient.py").write_text(PATIENT)
    sited = {name: {"labels": {"chaoslab.site": "east"}, **one} for name, one in services.items()}
    data = {"services": {**sited, "entry": {"command": ["sleep", "600"], "expose": [8000]}}}
    data["x-chaoslab"] = {"sites": ["east"], "entry": "entry:8000"}
    (folder / "compose.yaml").write_text(yaml.safe_dump(data))
    stack = EmbeddedStack(load_stack([folder / "compose.yaml"]), token_hex(4), folder / "data", folder / "logs")
    try:
        stack.up(Deadline.after(20), lambda _: None)
        yield stack
    finally:
        assert stack.down() == []


def mortal(name: str, **more: Any) -> dict[str, Any]:
    return {"command": ["python", "-I", "-S", "mortal.py", name], **more}


@pytest.fixture
def end(tmp_path: Path) -> Callable[[str, int], None]:
    """Has a service end with a status, once it has taken that."""

    def ends(name: str, status: int) -> None:
        file = tmp_path / f"{name}.end"
        file.write_text(str(status))
        wait_until("its end", lambda: (not file.exists(), None), Deadline.after(10), poll_s=0.02)

    return ends


def test_who_ends_by_itself_is_started_again(tmp_path: Path, end: Callable[[str, int], None]) -> None:
    """Known bad: nobody was, so a service that ends when its database vanishes stayed dead, a false fail."""
    services = {
        "always": mortal("always", restart="${RESTART_OF_TESTS:-always}"),
        "failing": mortal("failing", restart="on-failure"),
        "never": mortal("never"),
    }
    with up(tmp_path, services) as stack:
        assert isinstance(stack, CanRestart)
        assert list(stack.restarts()) == []
        check_who_is_started_again(stack, end, quiet_s=0.6)


def test_what_was_stopped_stays_down(tmp_path: Path) -> None:
    with up(tmp_path, {"always": mortal("always", restart="unless-stopped")}) as stack:
        stack.stop(["always"], 5)
        time.sleep(0.6)
        assert stack.states()["always"] == "dead"


def test_a_policy_holds_while_the_stack_boots(tmp_path: Path) -> None:
    """Known bad: `exited with status 7 before it was healthy`, where containers come up."""
    check = {"test": ["CMD", "python", "-c", "assert open('tries').read() == '3'"], "interval": "1s"}
    patient = {"command": ["python", "-I", "-S", "patient.py"], "healthcheck": check}
    with pytest.raises(NotHealthy, match="patient exited with status 7"), up(tmp_path, {"patient": patient}):
        pass
    (tmp_path / "tries").unlink()
    with up(tmp_path, {"patient": {**patient, "restart": "on-failure"}}) as stack:
        assert stack.states()["patient"] == "running"


def test_jobs_that_end(tmp_path: Path) -> None:
    """Who waits for the end of one starts after it; and one that nobody waits for may end, and is not started again."""
    seen = "import pathlib, time; assert pathlib.Path('done').exists(); time.sleep(600)"
    services = {
        "migrate": {"command": ["python", "-c", "import pathlib, time; time.sleep(0.5); pathlib.Path('done').touch()"]},
        "seed": {"command": ["true"]},
        "app": {
            "command": ["python", "-c", seen],
            "depends_on": {"migrate": {"condition": "service_completed_successfully"}},
        },
    }
    with up(tmp_path, services) as stack:
        assert {name: stack.states()[name] for name in services} == {"migrate": "dead", "seed": "dead", "app": "running"}
        before = stack.testimony(["app"])["app"].began
        stack.start(list(services), Deadline.after(5))
        assert (stack.states()["seed"], stack.testimony(["app"])["app"].began) == ("dead", before)


def test_a_job_that_fails_fails_the_boot(tmp_path: Path) -> None:
    """Known bad."""
    app = {"command": ["sleep", "9"], "depends_on": {"job": {"condition": "service_completed_successfully"}}}
    with (
        pytest.raises(NotHealthy, match="job exited with status 1"),
        up(tmp_path, {"job": {"command": ["false"]}, "app": app}),
    ):
        pass
