"""pytest as a user calls it, in a project of its own with the experiments of the mini stack."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

from mini_stack import MINI

FIRE = (MINI / "pass.yaml").read_text().replace("stack: compose.yaml", f"stack: {MINI / 'compose.yaml'}")
FIRE = FIRE.replace("heal_after: 4s", "heal_after: 6s")
# Frozen for seconds: a single second may be starved on a busy machine, and would excuse a shorter outage.
MISSED = FIRE.replace("site.power-loss, site: east", "service.pause, service: app")
MISSED += "tags: [slow-fire]\nobjectives: {app: {unaffected: true}}\n"
NOT_STEADY = FIRE.replace("within: 20s, journeys", "within: 2s, journeys").replace('p95: "< 400ms"', 'p95: "< 0.1ms"')
KNOWN_BAD = MISSED + "expect: {verdict: fail, objectives: [app.rto]}\n"


def command(*arguments: str) -> list[str]:
    """The plugin is named where the package was not installed with its entry points."""
    installed = any(point.value == "chaoslab.testing.plugin" for point in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "chaoslab.testing.plugin"]
    return [sys.executable, "-m", "pytest", *plugin, "-p", "no:cacheprovider", "--chaoslab-runtime", "embedded", *arguments]


def run_pytest(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=project, capture_output=True, text=True, timeout=110, check=False, env=environment()
    )


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}


def write(project: Path, **experiments: str) -> None:
    (project / "experiments").mkdir(exist_ok=True)
    for name, text in experiments.items():
        (project / "experiments" / f"{name}.yaml").write_text(text)
