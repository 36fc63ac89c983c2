"""The READMEs are true: each snippet is read or run, each experiment and each field of a stack has its row."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from chaoslab.cli.program import cli
from chaoslab.errors import ChaoslabError
from chaoslab.gameday.plan import scripted_s
from chaoslab.gameday.suite import load_suite
from chaoslab.spec.load import load_experiment
from chaoslab.spec.project import RUNBOOKS, experiment_files
from chaoslab.spec.runbook_steps import read_runbook, runbooks_of
from chaoslab.spec.schema import stack_schema
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.stack.embedded.suited import lacking

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", ROOT / "experiments/README.md", ROOT / "compose/README.md"]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:chaoslab|make) [^`]+)`", re.DOTALL)
_ROW = re.compile(r"^\| (.+) \|$", re.MULTILINE)
_SAFE = ("list", "check", "schema", "doctor")  # they start nothing, and so does whatever has --dry-run


def snippets(language: str) -> list[Any]:
    """Fenced ones, with the file and its line in their ids."""
    found = []
    for file in READMES:
        text = file.read_text()
        for match in _FENCE.finditer(text):
            if match.group(1) == language:
                line = text[: match.start()].count("\n") + 1
                found.append(pytest.param(match.group(2), id=f"{file.relative_to(ROOT)}:{line}"))
    return found


def commands() -> list[Any]:
    """Each line of a shell snippet, and each command in the text."""
    found = {}
    for file in READMES:
        text = file.read_text()
        lines = [line for match in _FENCE.finditer(text) if match.group(1) == "sh" for line in match.group(2).splitlines()]
        prose = [" ".join(match.group(1).split()) for match in _INLINE.finditer(_FENCE.sub("", text))]
        for line in (*lines, *prose):
            for command in line.partition("#")[0].split(";"):
                if command.strip():
                    found[f"{file.relative_to(ROOT)}: {command.strip()}"] = command.strip()
    return [pytest.param(command, id=name) for name, command in found.items()]


# --- what is written as YAML


def read_snippet(text: str, folder: Path) -> str:
    """What kind of file a snippet is. Raises ChaoslabError where it is wrong, LookupError for another kind."""
    data = yaml.safe_load(text)
    if "timeline" in data and "stack" not in data:  # of an experiment whose other parts are shown elsewhere
        text = "# It holds.\ntitle: Snippet\nstack: ../compose/two-site/compose.yaml\n" + text
    shutil.copytree(ROOT / "compose", folder / "compose")
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    if "timeline" in data:
        (folder / "experiments/snippet.yaml").write_text(text)
        load_experiment(folder / "experiments/snippet.yaml")
        return "experiment"
    if "steps" in data:
        (folder / "experiments/runbooks/outdated-failover.yaml").write_text(text)
        load_experiment(folder / "experiments/runbook-rot.yaml")
        return "runbook"
    if "experiments" in data:
        (folder / "experiments/gameday/snippet.yaml").write_text(text)
        load_suite(folder / "experiments/gameday/snippet.yaml", folder)
        return "suite"
    if "services" in data and "x-chaoslab" in data:
        (folder / "compose.yaml").write_text(text)
        assert lacking(load_stack([folder / "compose.yaml"])) == [], "an example runs on both runtimes"
        return "stack"
    if set(data) == {"x-chaoslab"}:
        (folder / "overlay.yaml").write_text(text)
        load_stack([folder / "compose/two-site/compose.yaml", folder / "overlay.yaml"])
        return "overlay"
    if all(isinstance(value, dict) and "expect" in value for value in data.values()):
        overlay = {"x-chaoslab": {"conditions": data}}
        (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
        load_stack([folder / "compose/two-site/compose.yaml", folder / "overlay.yaml"])
        return "conditions"
    raise LookupError(f"nobody knows what this snippet is: {text[:60]}")


@pytest.mark.parametrize("text", snippets("yaml"))
def test_yaml_is_accepted(text: str, tmp_path: Path) -> None:
    assert read_snippet(text, tmp_path)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "# It holds.\ntitle: x\nstack: ../compose/two-site/compose.yaml\ntimeline: [{id: a, fault: no.such}]\n",
            ChaoslabError,
        ),
        ("c: {get: 'http://nowhere:1/', expect: x}\n", ChaoslabError),
        ("a: 1\n", LookupError),
    ],
)
def test_yaml_that_is_wrong_is_found(text: str, error: type[Exception], tmp_path: Path) -> None:
    """Known bad."""
    with pytest.raises(error):
        read_snippet(text, tmp_path)


# --- what is typed


def check_command(command: str) -> None:
    """Raises AssertionError or click's UsageError where there is no such program, target, command or option."""
    program, *arguments = shlex.split(command)
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert [word for word in arguments if "=" not in word and word not in targets] == []
        return
    if program == "cd" or command == "pip install 'chaoslab[load]'":
        return
    if program == "pytest":
        assert Path(ROOT, arguments[0]).exists()
        return
    assert program == "chaoslab", f"{program}: nobody checks this"
    if not arguments or arguments[0].startswith("…"):
        return
    found: click.Command = cli
    ctx = click.Context(cli)
    while isinstance(found, click.Group) and arguments:
        name, command_of, arguments = found.resolve_command(ctx, arguments)
        assert command_of is not None
        found, ctx = command_of, click.Context(command_of, info_name=name)
    found.make_parser(ctx).parse_args([argument for argument in arguments if argument != "…"])


@pytest.mark.parametrize("command", commands())
def test_what_is_typed_exists(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs, targets of make, commands and options. What starts nothing is run: it ends well."""
    check_command(command)
    words = shlex.split(command)
    if words[0] == "chaoslab" and (words[1] in _SAFE or "--dry-run" in words) and "compose.yaml" not in words:
        monkeypatch.chdir(ROOT)
        monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")  # the same on every machine
        ran = CliRunner().invoke(cli, words[1:], standalone_mode=False, catch_exceptions=False)
        assert ran.return_value in ((0, 5) if words[1] == "doctor" else (0,)), ran.output


@pytest.mark.parametrize("command", ["make nothing", "chaoslab rnu x", "chaoslab run x --nothing", "python x.py"])
def test_what_does_not_exist_is_found(command: str) -> None:
    """Known bad."""
    with pytest.raises((AssertionError, click.UsageError)):
        check_command(command)


# --- tables


def rows(text: str, first: str) -> dict[str, list[str]]:
    """The rows of the table whose head begins with a word, by their first cell."""
    lines = text[text.index(f"\n| {first} |") + 1 :].split("\n\n", maxsplit=1)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0].strip(): row[1:] for row in cells}


def test_every_experiment_has_its_row() -> None:
    """With its hypothesis, its time by its script to ten seconds, and the files of its stack; and no row is of another."""
    table = rows((ROOT / "experiments/README.md").read_text(), "experiment")
    wanted = {}
    for file in experiment_files(ROOT):
        loaded = load_experiment(file)
        overlays = [f" + `{part.parent.name}/{part.name}`" for part in loaded.experiment.stack[1:]]
        needs = f"{loaded.experiment.stack[0].parent.name}{''.join(overlays)}"
        wanted[f"[{file.stem}]({file.name})"] = [loaded.experiment.hypothesis, f"{round(scripted_s(loaded), -1):.0f} s", needs]
    assert table == wanted


def test_every_runbook_has_its_row() -> None:
    """With its purpose, and the experiments that follow it; and no row is of another."""
    table = rows((ROOT / "experiments/README.md").read_text(), "runbook")
    followed = {file.stem: runbooks_of(file) for file in experiment_files(ROOT)}
    wanted = {}
    for file in (ROOT / RUNBOOKS).iterdir():
        users = {name for name, books in followed.items() if file.resolve() in books}
        wanted[f"[{file.stem}](runbooks/{file.name})"] = (read_runbook(file).comment, users)
    assert {name: (purpose, {*re.findall(r"[\w-]+", users)}) for name, (purpose, users) in table.items()} == wanted


def backticked(text: str) -> set[str]:
    """The names in backticks."""
    return set(re.findall(r"`([\w-]+)`", text))


def wrong_claims(table: dict[str, list[str]], known_bad: dict[str, bool]) -> list[str]:
    """What the table of claims lacks, or has too much of. `known_bad`: by experiment, whether it is expected to fail."""
    listed = [name for claim in table for name in backticked(claim.partition(":")[0])]
    breakers = {claim: backticked(cells[0]) for claim, cells in table.items()}
    named = set().union(*breakers.values())
    claims, bads = ({name for name, is_bad in known_bad.items() if is_bad is wanted} for wanted in (False, True))
    return [
        *(f"{name} has {listed.count(name)} rows" for name in sorted(claims) if listed.count(name) != 1),
        *(f"{name} makes no claim" for name in sorted({*listed} - claims)),
        *(f"{name} is no known-bad" for name in sorted(named - bads)),
        *(f"{name} breaks no claim" for name in sorted(bads - named)),
        *(
            f"nothing breaks {claim}"
            for claim, cells in table.items()
            if not breakers[claim] and not cells[0].startswith("none: ")
        ),
    ]


def test_every_claim_has_a_known_bad() -> None:
    """Each experiment that is expected to pass has a row, with known-bads or the reason why there is none."""
    table = rows((ROOT / "experiments/README.md").read_text(), "claim")
    known_bad = {file.stem: load_experiment(file).experiment.expect is not None for file in experiment_files(ROOT)}
    assert wrong_claims(table, known_bad) == []


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        ({"`fire`: it holds": ["`burnt`"]}, []),
        ({"`fire`, `link`": ["`burnt`"]}, ["link makes no claim"]),
        ({"`fire`": ["none: there is no stack for it"]}, ["burnt breaks no claim"]),
        ({"`fire`": ["-"], "all": ["`burnt`"]}, ["nothing breaks `fire`"]),
        ({"`burnt`": ["`fire`"]}, ["fire has 0 rows", "burnt makes no claim", "fire is no known-bad", "burnt breaks no claim"]),
    ],
)
def test_a_claim_without_a_known_bad_is_found(table: dict[str, list[str]], wrong: list[str]) -> None:
    """Known bad."""
    assert wrong_claims(table, {"fire": False, "burnt": True}) == wrong


def fields(schema: dict[str, Any], node: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    """The keys of a section, `*` for a name that its author chooses."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    for option in (one for kind in ("anyOf", "oneOf", "allOf") for one in node.get(kind, ())):
        yield from fields(schema, option, path)
    for name, below in node.get("properties", {}).items():
        yield ".".join((*path, name))
        yield from fields(schema, below, (*path, name))
    if isinstance(node.get("additionalProperties"), dict):
        yield from fields(schema, node["additionalProperties"], (*path, "*"))
    if isinstance(node.get("items"), dict):
        yield from fields(schema, node["items"], path)


def described_once(names: set[str]) -> set[str]:
    """Without the fields that are described elsewhere: those of `redis` and `sql`, and the ways of a condition to ask."""
    short = {re.sub(r"^.*\.(?=(redis|sql)\.\w+$)", "", name) for name in names}
    way = re.compile(r"^conditions\.\*\.bring_about\.(with\.\*\.)?|^decisions\.\w+\.|^writers\.\*\.")
    again = {name for name in short if way.sub("conditions.*.", name) in short - {name}}
    return short - again


def test_every_field_of_a_stack_has_its_row() -> None:
    """And no row is of a field that there is not."""
    schema = stack_schema()
    wanted = described_once(set(fields(schema, schema["properties"]["x-chaoslab"])))
    table = {name.strip("`") for name in rows((ROOT / "compose/README.md").read_text(), "field")}
    assert "journeys.*.request.path" in wanted
    assert {"without a row": wanted - table, "not a field": table - wanted} == {"without a row": set(), "not a field": set()}
