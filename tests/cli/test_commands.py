"""The commands: each in a module of its own, and there at once; `check` names the runtimes that cannot do an experiment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from mini_stack import write_experiment

from chaoslab.cli.program import COMMANDS, cli

STORE_IN_EAST = {"services": {"store": {"labels": {"chaoslab.site": "east"}}}}
DOWN = {"id": "down", "fault": "dependency.down", "service": "store", "heal_after": "3s"}


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, standalone_mode=False, catch_exceptions=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_a_module(name: str) -> None:
    """Named after it, with nothing but this one command."""
    where = COMMANDS[name][0]
    assert where == f"chaoslab.cli.{name}:{name}_command"
    module = __import__(where.partition(":")[0], fromlist=["_"])
    command = getattr(module, f"{name}_command")
    below = list(command.commands.values()) if isinstance(command, click.Group) else []
    found = [found for found in vars(module).values() if isinstance(found, click.Command) and found not in below]
    assert found == [command]


def test_help_imports_no_command() -> None:
    """It is there at once."""
    script = (
        "import sys; from chaoslab.cli.program import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "print([m for m in sys.modules if m.startswith('chaoslab.') and m.split('.')[1] not in ('cli', 'errors', 'redact')],"
        " [m for m in sys.modules if m.startswith('chaoslab.cli.')])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert answer.splitlines()[-1] == "[] ['chaoslab.cli.program']"


def test_check_names_the_runtime_that_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For people and for machines; it is no problem, for the other can. One that every runtime can do has no note."""
    monkeypatch.chdir(tmp_path)
    why = "the compose runtime cannot inject dependency.down (down): app-east reach it inside their own place"
    spec = write_experiment(tmp_path, overlay=STORE_IN_EAST, timeline=[DOWN])
    answer = ask("check", str(spec))
    assert answer.return_value == 0
    assert f"{spec}: ok; {why}" in answer.output
    told = json.loads(ask("check", str(spec), "--json").output)
    assert told["impossible_on"][str(spec)].keys() == {"compose"}
    plain = write_experiment(tmp_path)
    assert ask("check", str(plain)).output.splitlines()[0] == f"{plain}: ok"
