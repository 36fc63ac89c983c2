"""The scripts of the GitHub action and of the GitLab snippet, run as they stand; what those services do is done here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from pretended import CHAOSLAB, prepare, pretend

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / ".github/actions/gameday/action.yml").read_text())
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/gameday.yml").read_text())
GITLAB = yaml.safe_load((ROOT / ".ci/gitlab/gameday.yml").read_text())


@pytest.fixture
def checkout(project: Path) -> Path:
    """A checkout in which `make setup` was run, with the stand-in for every run."""
    shutil.copytree(ROOT / ".ci", project / ".ci")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, project)
    program = project / ".venv" / "bin" / "chaoslab"
    program.parent.mkdir(parents=True)
    program.write_text(CHAOSLAB)
    program.chmod(0o755)
    (project / ".venv" / ".ready").touch()
    prepare(project)
    return project


def bash(script: str, cwd: Path, env: dict[str, str]) -> int:
    """As both services call it."""
    whole = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "STRATEGY"))} | env
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=cwd, env=whole, check=False, timeout=60).returncode


@dataclass
class GitHub:
    """A job that has one step, the action. `artifacts`: what the jobs of a workflow upload."""

    checkout: Path
    inputs: dict[str, str]
    env: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    def run(self) -> bool:
        """Whether the job is green."""
        defaults = {name: one.get("default", "") for name, one in ACTION["inputs"].items()}
        self.inputs = defaults | self.inputs
        green = True
        for step in ACTION["runs"]["steps"]:
            wanted = {"always()": True, "inputs.gate == 'true'": green and self.inputs["gate"] == "true"}
            if not (wanted[step["if"]] if "if" in step else green):
                continue
            if "run" in step:
                green = self._script(step) and green
            elif step["uses"].startswith("actions/upload-artifact@"):
                self._upload(self._filled(step["with"]["path"]).split())
        return green

    def _filled(self, text: str) -> str:
        known = {f"inputs.{name}": value for name, value in self.inputs.items()}
        known |= {f"steps.run.outputs.{name}": value for name, value in self.outputs.items()}
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: known[found[1]], text)

    def _script(self, step: dict[str, Any]) -> bool:
        files = {name: self.checkout / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        env = {name: self._filled(value) for name, value in step.get("env", {}).items()}
        code = bash(step["run"], self.checkout, self.env | env | {name: str(path) for name, path in files.items()})
        if files["GITHUB_OUTPUT"].exists():
            self.outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
        return code == 0

    def _upload(self, paths: list[str]) -> None:
        """One path becomes the artifact's top; of several, their places are kept. Links are followed, but those left out."""
        assert paths[-1] == "!**/runs/*/latest/**"
        artifact = self.checkout / "artifacts" / self.inputs["artifact"]
        for path in paths[:-1]:

            def links(folder: str, names: list[str]) -> list[str]:
                return [name for name in names if name == "latest" and Path(folder).parent.name == "runs"]

            target = artifact if len(paths) == 2 else artifact / path
            shutil.copytree(self.checkout / path, target, ignore=links, dirs_exist_ok=True)


def workflow(checkout: Path, total: int, lost: int = 0) -> tuple[list[bool], bool]:
    """The jobs of the reusable workflow: whether each shard and the page are green. `lost`: a shard that uploads nothing."""
    shard, page = (WORKFLOW["jobs"][name] for name in ("shard", "page"))
    assert set(shard["env"]) == {"STRATEGY_JOB_INDEX", "STRATEGY_JOB_TOTAL"}
    assert (shard["steps"][1]["with"]["gate"], page["steps"][2]["with"]["merge"]) == ("false", "shards")
    green = []
    for number in range(1, total + 1):
        env = {"STRATEGY_JOB_INDEX": str(number - 1), "STRATEGY_JOB_TOTAL": str(total)}
        job = GitHub(checkout, {"suite": "all", "artifact": f"gameday-all-shard-{number}", "gate": "false"}, env)
        green.append(job.run())
        shutil.rmtree(checkout / "runs")  # each has a machine of its own
        if number == lost:
            shutil.rmtree(checkout / "artifacts" / f"gameday-all-shard-{number}")
    shutil.copytree(checkout / "artifacts", checkout / "shards")
    (checkout / "GITHUB_STEP_SUMMARY").unlink()
    return green, GitHub(checkout, {"suite": "all", "artifact": "gameday-all", "merge": "shards"}).run()


def test_github_shards_become_one_page_with_its_runs(checkout: Path) -> None:
    """Green; and every link of the page leads to a file of the artifact."""
    assert workflow(checkout, 3) == ([True, True, True], True)
    summary = (checkout / "GITHUB_STEP_SUMMARY").read_text()
    assert summary.startswith("## All of it: pass")
    page = checkout / "artifacts" / "gameday-all" / "runs" / "gameday" / "all" / "latest" / "index.html"
    links = re.findall(r'href="([^"#]+report\.html)"', page.read_text())
    assert len(links) == 4
    assert all((page.parent / link).parent.is_dir() for link in links)  # the stand-in draws no report


def test_github_is_red_for_one_failure(checkout: Path) -> None:
    """Known bad: a pull request would be merged."""
    pretend(checkout, fire="fail")
    assert workflow(checkout, 2) == ([True, True], False)


def test_github_is_red_for_a_lost_shard(checkout: Path) -> None:
    """Known bad: one machine of three did not come back."""
    assert workflow(checkout, 3, lost=2) == ([True, True, True], False)
    assert "shard 2/3 is missing" in (checkout / "GITHUB_STEP_SUMMARY").read_text()


def test_github_is_red_for_a_wrong_suite_though_it_does_not_gate(checkout: Path) -> None:
    """Known bad: a typing error in the name of the suite."""
    (checkout / "runs" / "gameday" / "al" / "latest").mkdir(parents=True)
    assert not GitHub(checkout, {"suite": "al", "gate": "false"}).run()


def gitlab(checkout: Path, job: str, env: dict[str, str]) -> bool:
    """Whether a job of the snippet is green."""
    whole = GITLAB[GITLAB[job]["extends"]] | GITLAB[job]
    variables = {**whole["variables"], "SUITE": "all", **env}
    green = bash("\n".join([*whole["before_script"], *whole["script"]]), checkout, variables) == 0
    bash("\n".join(whole["after_script"]), checkout, variables)
    return green


@pytest.mark.parametrize(("outcome", "green"), [("pass", True), ("fail", False)])
def test_gitlab_shards_become_one_page(checkout: Path, outcome: str, green: bool) -> None:
    """The shards' jobs are green, the page's is as the verdict."""
    pretend(checkout, fire=outcome)
    for number in range(1, GITLAB["gameday"]["parallel"] + 1):
        assert gitlab(checkout, "gameday", {"CI_NODE_INDEX": str(number), "CI_NODE_TOTAL": "3"})
        shutil.rmtree(checkout / "runs")
    assert gitlab(checkout, "gameday-page", {}) is green
    assert len(list(checkout.glob(GITLAB["gameday-page"]["artifacts"]["reports"]["junit"]))) == 1
