"""Rot in runbooks: each planted one is found, under its rule, and nothing is found in runbooks that would work."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from click.testing import CliRunner
from fake_stack import FakeStack
from mini_stack import mini_stack, write_experiment
from real_servers import ACCOUNT, postgres_server

from chaoslab.cli.program import cli
from chaoslab.clock import Deadline
from chaoslab.engine.asking import Asking
from chaoslab.engine.step_rehearsal import StepRehearsal
from chaoslab.spec.load import load_experiment
from chaoslab.spec.project import experiment_files
from chaoslab.spec.stackfile.condition import Look
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Address
from chaoslab.spec.step import SqlCall
from chaoslab.spec.step_rot import Rot, rot_without_stack
from chaoslab.spec.yaml.problems import SpecErrors
from chaoslab.stack.embedded.stack import EmbeddedStack

ROOT = Path(__file__).parents[2]
NOW_S = 1_800_000_000.0
FIRE: dict[str, Any] = {"id": "fire", "fault": "site.power-loss", "site": "east", "heal_after": "30s"}
WEST = {"get": "http://app-west:8000/where", "expect": "site == 'west'"}
SCRIPT = '#!/bin/sh\ncase "$1" in west|--dry-run|--undo) exit 0;; *) echo "unknown option $1" >&2; exit 3;; esac\n'


def token(expires_s: float) -> str:
    """A JSON Web Token."""
    parts = ({"alg": "HS256"}, {"sub": "failover", "exp": expires_s})
    head, claims = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{head}.{claims}.c2lnbmVk"


LONG = "x" * 300 + ".sh"
GOOD, OLD = token(NOW_S + 3600), token(NOW_S - 3 * 86400)


@dataclass
class Project:
    """A project with one runbook, which would work; a plant changes one thing."""

    folder: Path
    environ: dict[str, str] = field(default_factory=lambda: {"FAILOVER_TOKEN": GOOD})
    overlay: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("scripts", "secrets", "runbooks"):
            (self.folder / name).mkdir()
        (self.folder / "Makefile").touch()
        self.write("scripts/promote.sh", SCRIPT).chmod(0o755)
        self.write("scripts/tidy.py", "")
        self.write("secrets/token", GOOD)
        needs = {"env": ["FAILOVER_TOKEN"], "files": ["secrets/token"], "addresses": ["app-west:8000", "store:7000"]}
        self.book: dict[str, Any] = {
            "title": "To west",
            "owner": "on-call lead",
            "steps": [
                {"id": "approve", "manual": "Approve the switch", "delay": "2s"},
                {
                    "id": "promote",
                    "run": ["scripts/promote.sh", "west"],
                    "check": ["scripts/promote.sh", "--dry-run"],
                    "undo": ["scripts/promote.sh", "--undo"],
                    "needs": needs,
                    "verify": [WEST],
                },
                {
                    "id": "tell",
                    "http": {"path": "/entries", "headers": {"Authorization": "Bearer ${FAILOVER_TOKEN}"}, "json": {}},
                    "check": {"path": "/where"},
                },
                {"id": "tidy", "run": ["python3", "-I", "scripts/tidy.py"]},
                # It asks the site that was lost, once its power is back.
                {"id": "back", "after_heal": "fire", "http": {"url": "http://app-east:8000/x"}, "precondition": "east-serves"},
            ],
        }

    def write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.write_text(text)
        return file

    def step(self, id_: str) -> dict[str, Any]:
        return next(step for step in self.book["steps"] if step["id"] == id_)

    def experiment(self) -> Path:
        self.write("runbooks/to-west.yaml", "# Make west the site that serves.\n" + yaml.safe_dump(self.book))
        use = {"id": "switch", "after": "fire", "runbook": "runbooks/to-west.yaml"}
        return write_experiment(self.folder, overlay=self.overlay, timeline=[FIRE, use])

    def rot(self, stack: Any = None) -> list[Rot]:
        """Without a stack; with one, what that shows, too."""
        loaded = load_experiment(self.experiment())
        found = rot_without_stack(loaded, self.environ, NOW_S)
        return found if stack is None else found + StepRehearsal(loaded, stack, react_s=0.6).rot()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("FAILOVER_TOKEN", GOOD)
    return Project(tmp_path)


@pytest.fixture(scope="module")
def stack() -> Iterator[EmbeddedStack]:
    with mini_stack() as running:
        yield running


def old_token(project: Project) -> None:
    project.environ["FAILOVER_TOKEN"] = OLD


PLANTS: dict[str, tuple[str, str, Callable[[Project], Any]]] = {
    "a command was renamed": (
        "promote",
        "step.program-missing",
        lambda p: (p.folder / "scripts/promote.sh").rename(p.folder / "scripts/failover.sh"),
    ),
    "a command is not executable": (
        "promote",
        "step.program-missing",
        lambda p: (p.folder / "scripts/promote.sh").chmod(0o644),
    ),
    "a program is not installed": ("tidy", "step.program-missing", lambda p: p.step("tidy").update(run=["python9", "x.py"])),
    "the undo was renamed": ("promote", "step.program-missing", lambda p: p.step("promote").update(undo=["scripts/back.sh"])),
    "a script is missing": ("tidy", "step.script-missing", lambda p: (p.folder / "scripts/tidy.py").unlink()),
    "a variable is not set": ("tell", "step.env-missing", lambda p: p.environ.clear()),
    "a variable is empty": ("promote", "step.env-missing", lambda p: p.environ.update(FAILOVER_TOKEN="")),
    "a token in a variable has expired": ("tell", "step.token-expired", old_token),
    "a token in a file has expired": ("promote", "step.token-expired", lambda p: p.write("secrets/token", f"Bearer {OLD}\n")),
    "a token that is written out has expired": (
        "tell",
        "step.token-expired",
        lambda p: p.step("tell")["http"].update(headers={"X-Token": OLD}),
    ),
    "a file is in the home of somebody who left": (
        "promote",
        "step.file-missing",
        lambda p: p.step("promote")["needs"].update(files=["~nobody-of-this-name/token"]),
    ),
    "a script has a name that no file has": ("tidy", "step.script-missing", lambda p: p.step("tidy").update(run=["sh", LONG])),
    "a file is missing": ("promote", "step.file-missing", lambda p: (p.folder / "secrets/token").unlink()),
    "a file is empty": ("promote", "step.file-empty", lambda p: p.write("secrets/token", "\n")),
    "a request goes to the site that burns": (
        "tell",
        "step.host-lost",
        lambda p: p.step("tell").update(http={"url": "http://app-east:8000/x", "json": {}}),
    ),
    "the effect is looked up in the site that burns": (
        "promote",
        "step.host-lost",
        lambda p: p.step("promote").update(verify="east-serves", budget="20s"),
    ),
    "what it needs is in the site that burns": (
        "promote",
        "step.host-lost",
        lambda p: p.step("promote")["needs"].update(addresses=["app-east:8000"]),
    ),
    "it is done from the site that burns": ("tell", "step.from-lost", lambda p: p.step("tell").update({"from": "east"})),
    "it has no owner; name the person or role": ("approve", "step.owner-missing", lambda p: p.book.pop("owner")),
}
ODD_TOKENS = {  # that are no tokens with an expiry, whatever they look like
    "nested": f"a.{base64.urlsafe_b64encode(b'[' * 9999).decode().rstrip('=')}.c",
    "no number": token(float("nan")),
    "no float": token(-(10**400)),
}
MISTAKES: dict[str, tuple[str, Callable[[Project], Any]]] = {
    "a condition was renamed": ("condition.unknown", lambda p: p.step("promote").update(verify="west-serves")),
    "a replica was renamed": (
        "stack.replica-unknown",
        lambda p: p.step("tell").update(http={"url": "http://app-mars:8000/x"}),
    ),
    "a port has changed": ("stack.port-unknown", lambda p: p.step("tell").update(http={"url": "http://app-west:8001/x"})),
    "a folder was moved": ("file.missing", lambda p: p.step("tidy").update(cwd="tools")),
}
ON_A_STACK: dict[str, tuple[str, str, Callable[[Project], Any]]] = {
    "an option of the command was renamed": (
        "promote",
        "step.check-failed",
        lambda p: p.write("scripts/promote.sh", SCRIPT.replace("--dry-run", "--plan")),
    ),
    "what answers needs the site that burns": (
        "tell",
        "step.check-failed",
        lambda p: p.step("tell").update(check={"url": "http://app-west:8000/peer"}),
    ),
    "another status is answered": ("tell", "step.check-failed", lambda p: p.step("tell")["check"].update(status=204)),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_rot_is_found_without_a_stack(project: Project, plant: str) -> None:
    """Known bad, each in its way: in the step where it is, and nothing else in any other."""
    step, rule, change = PLANTS[plant]
    change(project)
    found = project.rot()
    assert (f"switch.{step}", rule) in [(rot.step, rot.rule) for rot in found]
    assert {rot.rule for rot in found} == {rule}


@pytest.mark.parametrize("plant", MISTAKES)
def test_what_does_not_exist_is_a_mistake_in_the_file(project: Project, plant: str) -> None:
    """At its place in the runbook."""
    rule, change = MISTAKES[plant]
    change(project)
    with pytest.raises(SpecErrors) as broken:
        project.rot()
    assert [problem.rule for problem in broken.value.problems] == [rule]
    assert broken.value.problems[0].file.endswith("runbooks/to-west.yaml")


@pytest.mark.parametrize("plant", ON_A_STACK)
def test_planted_rot_is_found_on_a_stack(project: Project, stack: EmbeddedStack, plant: str) -> None:
    """What cannot be known without one."""
    step, rule, change = ON_A_STACK[plant]
    change(project)
    assert [(rot.step, rot.rule) for rot in project.rot(stack)] == [(f"switch.{step}", rule)]
    assert stack.links.disturbances() == []


def test_a_port_on_which_nothing_listens_is_found(project: Project, stack: EmbeddedStack) -> None:
    """The replica still declares it."""
    project.overlay = {"services": {"app-west": {"expose": [8000, 8001]}}}
    project.step("tell").update(http={"url": "http://app-west:8001/x"})
    found = project.rot(stack)
    assert [(rot.step, rot.rule) for rot in found] == [("switch.tell", "step.unreachable")]


def test_nothing_is_found_in_what_works(project: Project, stack: EmbeddedStack) -> None:
    """With the site cut off, as it is when the steps are done; and the links are whole again afterwards."""
    assert project.rot(stack) == []
    assert stack.links.disturbances() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.step("tidy").update(run=["python3", "-c", "import scripts.tidy"]),
        lambda p: p.step("tidy").update(run=["python3", "-W", "ignore", "-m", "json.tool", "no-such.json"]),
        lambda p: p.step("tidy").update(run=["sh", "-c", "exit 0"], needs={"files": ["scripts/promote.sh"]}),
        lambda p: p.step("tell").update(http={"url": "http://store:7000/x", "json": {}}, **{"from": "west"}),
        lambda p: p.step("promote").update(precondition=[{"get": "http://store:7000/x", "expect": "entries"}]),
        lambda p: p.step("approve").update(owner="sre", delay="3m"),
    ],
)
def test_nothing_is_found_in_other_runbooks_that_work(
    project: Project, stack: EmbeddedStack, change: Callable[[Project], Any]
) -> None:
    """Code instead of a script, a server that answers whatever is asked, a place that is not lost."""
    change(project)
    assert project.rot(stack) == []


def test_a_step_that_begins_after_the_heal_may_ask_the_site(project: Project) -> None:
    """By its time alone; a second earlier the site is still lost."""
    project.step("tidy").update(at="29s", run=["true"], precondition="east-serves")
    assert project.rot() == []
    project.step("tidy").update(at="27s")
    assert [rot.rule for rot in project.rot()] == ["step.host-lost"]


def test_an_effect_may_be_seen_once_the_site_is_back(project: Project, stack: EmbeddedStack) -> None:
    """Before the budget is over; known bad: it is over before the heal."""
    project.step("tidy").update(run=["true"], verify="east-serves", budget="40s")
    assert project.rot(stack) == []
    project.step("tidy").update(budget="5s")
    assert [rot.rule for rot in project.rot()] == ["step.host-lost"]


def test_nothing_is_found_in_the_experiments_of_this_project() -> None:
    """Each would work; known bad: the outdated runbook would not, nor a sound one whose tools are in the site that burns."""
    for loaded in map(load_experiment, experiment_files(ROOT)):
        found = {rot.rule for rot in rot_without_stack(loaded, {}, NOW_S)}
        if loaded.experiment.name in ("runbook-rot", "boomerang-tools-burnt"):
            assert found == {"step.host-lost"}
        elif loaded.experiment.expect is None:
            assert found == set(), loaded.experiment.name


# --- SQL --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    with postgres_server(tmp_path_factory.mktemp("postgres")) as running:
        yield Address("127.0.0.1", running.port)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({}, None),
        ({"statement": "SELECT pg_promote();"}, None),
        ({"statement": "CHECKPOINT"}, None),
        ({"statement": "DELETE FROM entries"}, None),
        ({"statement": "SELECT * FROM entires"}, "entires"),
        ({"statement": "SELECT pg_promot()"}, "pg_promot"),
        ({"password": "${OLD_PASSWORD}"}, "password"),
        ({"database": "app"}, "app"),
        ({"statement": " "}, None),
        ({"statement": "SELECT 1; CREATE TABLE oops ()", "driver": "asyncpg"}, "multiple commands"),
        ({"statement": "SELECT 1; CREATE TABLE oops ()", "driver": "psycopg"}, None),
    ],
)
def test_a_statement_is_prepared_and_not_executed(
    project: Project, database: Address, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], error: str | None
) -> None:
    """What was renamed or revoked is found; nothing is deleted or promoted. Known bad: psycopg takes several at once."""
    monkeypatch.setenv("OLD_PASSWORD", "of last year")
    project.environ["OLD_PASSWORD"] = "of last year"
    sql = {"statement": "SELECT 1", "at": "store:7000", **ACCOUNT, **changes}
    project.book["steps"] = [{"id": "ask", "sql": sql}]
    stack = FakeStack(load_experiment(project.experiment()).compose.topology())
    stack.up(Deadline.after(1.0), lambda _: None)
    monkeypatch.setattr(FakeStack, "address", lambda *_, seen_from=OUTSIDE: database)
    found = project.rot(stack)
    assert [rot.rule for rot in found] == ([] if error is None else ["step.sql-refused"])
    assert error is None or error in found[0].message
    tables = SqlCall.model_validate({"statement": "SELECT to_regclass('oops') IS NULL AS none", "at": "store:7000", **ACCOUNT})
    assert Asking(stack).exchange(Look(sql=tables, at=tables.at), {}, 5.0).value == [{"none": True}]


@pytest.mark.parametrize("odd", ODD_TOKENS)
def test_what_only_looks_like_a_token_is_none(project: Project, odd: str) -> None:
    """Known bads: each ended the check with a traceback, or had expired nan hours ago."""
    project.environ["FAILOVER_TOKEN"] = ODD_TOKENS[odd]
    assert project.rot() == []


# --- the command ------------------------------------------------------------------------------------------------


def ask(*arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(cli, ["runbook", "check", *arguments], standalone_mode=False, catch_exceptions=False)
    return found.return_value, found.output


def test_the_command_looks_without_a_stack(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 1 with the place in the runbook; for machines, one object. A file that is wrong is exit 2."""
    monkeypatch.chdir(project.folder)
    experiment = project.experiment()
    assert ask(str(experiment), "--no-boot") == (0, "mini: 5 steps; no problem found\n")
    (project.folder / "scripts/tidy.py").unlink()
    code, told = ask(str(experiment), "--no-boot")
    assert code == 1
    assert "runbooks/to-west.yaml:" in told
    assert "error: step switch.tidy: run: the script 'scripts/tidy.py' is not in" in told
    code, told = ask(str(experiment), "--no-boot", "--json")
    (row,) = json.loads(told)["rot"]
    assert (code, row["step"], row["rule"]) == (1, "switch.tidy", "step.script-missing")
    project.step("promote").update(verify="west-serves")
    code, told = ask(str(project.experiment()), "--no-boot", "--json")
    assert (code, [row["rule"] for row in json.loads(told)["rot"]]) == (2, ["condition.unknown"])


def test_the_command_takes_a_runbook(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """And checks every experiment that uses it, since those say what is lost."""
    monkeypatch.chdir(project.folder)
    (project.folder / "experiments").mkdir()
    text = project.experiment().read_text()
    project.write("experiments/mini.yaml", text)
    (project.folder / "runbooks").rename(project.folder / "experiments/runbooks")
    assert ask("experiments/runbooks/to-west.yaml", "--no-boot")[0] == 0
    assert ask("to-west", "--no-boot")[0] == 0
    assert ask("--no-boot") == (0, "mini: 5 steps; no problem found\n")


def test_a_runbook_is_not_blamed_for_a_stack_that_is_known_to_be_bad(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless no other experiment uses it. Known bad: a sound runbook was reported for an experiment in which it has to fail."""
    monkeypatch.chdir(project.folder)
    (project.folder / "experiments").mkdir()
    text = project.experiment().read_text()
    expected = "\nexpect: {verdict: fail, objectives: [step.switch.tell]}\n"
    project.write("experiments/mini.yaml", text)
    project.write("experiments/bad.yaml", text + expected)
    (project.folder / "runbooks").rename(project.folder / "experiments/runbooks")
    assert ask("to-west", "--no-boot") == (0, "mini: 5 steps; no problem found\n")
    (project.folder / "experiments/mini.yaml").unlink()
    assert ask("to-west", "--no-boot") == (0, "bad: 5 steps; no problem found\n")


def test_a_check_leaves_nothing_and_tells_no_secret(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bads: what it began in the background went on for ever, and what it said of its token was printed."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr("chaoslab.engine.step_rehearsal.REACT_S", 0.1)
    project.write("scripts/promote.sh", '#!/bin/sh\nsleep 547 >&- 2>&- &\necho "$FAILOVER_TOKEN is no good" >&2\nexit 1\n')
    code, told = ask(str(project.experiment()), "--runtime", "embedded", "--json")
    assert code == 1, told
    assert "*** is no good" in told
    assert [one.pid for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "547"]] == []


def test_the_command_boots_the_stack(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves nothing of it."""
    monkeypatch.chdir(project.folder)
    project.write("scripts/promote.sh", SCRIPT.replace("--dry-run", "--plan"))
    monkeypatch.setattr("chaoslab.engine.step_rehearsal.REACT_S", 1.0)
    code, told = ask(str(project.experiment()), "--runtime", "embedded", "--json")
    assert code == 1, told
    assert [row["rule"] for row in json.loads(told)["rot"]] == ["step.check-failed"]
