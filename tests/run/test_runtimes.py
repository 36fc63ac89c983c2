"""A runtime of another package is offered, examined and run like our own; one that is broken is named, and breaks no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mini_stack import finish, start_chaoslab, write_experiment

from chaoslab.errors import EnvironmentFault, SpecError
from chaoslab.run import runtimes
from chaoslab.stack import protocol
from chaoslab.stack.compose.cli import read_config
from chaoslab.stack.compose.stack import ComposeStack
from chaoslab.stack.embedded.stack import EmbeddedStack

TOY = Path(__file__).parent / "toy_runtime.py"
TESTS = Path(__file__).parents[1]
QUIET_LOSS = {
    "timeline": [{"id": "kill", "fault": "service.kill", "service": "app", "site": "east", "heal_after": "1s"}],
    "probe": {"journeys": ["app.read"]},
    "objectives": {"app": {"rpo": None, "unaffected": True}},
}


def install(folder: Path, module: str, text: str, *entries: str) -> Path:
    """A package as pip would leave it in `folder`: a module, and the metadata with its entry points."""
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text(text)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[chaoslab.runtimes]\n" + "".join(f"{entry}\n" for entry in entries))
    return folder


def python_path(*folders: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(map(str, (*folders, TESTS)))}


@pytest.fixture
def toy(tmp_path: Path) -> dict[str, str]:
    """The environment of a program that has the toy installed."""
    return python_path(install(tmp_path / "site", "toy_runtime", TOY.read_text(), "toy = toy_runtime:ToyRuntime"))


def ask(folder: Path, env: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    child = start_chaoslab(folder, *arguments, env={**env, "DOCKER_HOST": "unix:///nonexistent/docker.sock"})
    out, err = child.communicate(timeout=60)
    return child.returncode, out, err


# --- a second one fits


def test_an_installed_runtime_is_offered_and_examined(tmp_path: Path, toy: dict[str, str]) -> None:
    """By --runtime of each command that has it, and by doctor, with what it needs and what it cannot show."""
    for command in ("run", "selftest"):
        assert "[auto|embedded|compose|toy]" in ask(tmp_path, toy, command, "--help")[1]
    code, out, err = ask(tmp_path, toy, "doctor")
    assert (code, err) == (0, "")
    assert "spring                 wound up" in out
    assert "--runtime toy: ready\n    limit: A toy has no network" in out
    told = json.loads(ask(tmp_path, toy, "doctor", "--json")[1])
    assert told["lacks"]["toy"] == []
    assert "toy" in next(finding for finding in told["findings"] if finding["name"] == "memory")["needed_by"]


def test_a_whole_experiment_runs_on_it(tmp_path: Path, toy: dict[str, str]) -> None:
    """Booted, hurt, verified, healed, judged, reported with its limits, and cleaned up; the engine knows nothing of it."""
    spec = str(write_experiment(tmp_path, **QUIET_LOSS))
    child = start_chaoslab(tmp_path, "run", spec, "--runtime", "toy", env=toy)
    ran = finish(child, tmp_path)
    assert (ran.result["runtime"], ran.result["cleanup"]) == ("toy", "complete"), ran.out + ran.err
    assert (ran.code, ran.result["verdict"]) == (0, "pass"), ran.out + ran.err
    assert ran.result["faults"][0]["verified"]
    assert "the toy is wound up" in ran.out
    assert "A toy has no network" in (ran.folder / "report.html").read_text()


def test_a_dry_run_on_it_tells_its_limits(tmp_path: Path, toy: dict[str, str]) -> None:
    code, out, _ = ask(tmp_path, toy, "run", str(write_experiment(tmp_path)), "--runtime", "toy", "--dry-run")
    assert code == 0
    assert "  runtime   toy (asked for)\n  limit     A toy has no network" in out


# --- known bad


@pytest.mark.parametrize("name", ["compose", "auto"])
def test_a_name_that_is_taken_is_an_error_that_names_the_entry_point(tmp_path: Path, name: str) -> None:
    """Our own runtime goes on working under its name."""
    env = python_path(install(tmp_path / "site", "toy_runtime", TOY.read_text(), f"{name} = toy_runtime:ToyRuntime"))
    code, out, err = ask(tmp_path, env, "doctor")
    assert (code, out) == (5, "")
    assert f"two runtimes are called {name!r}: that of the entry point {name} = toy_runtime:ToyRuntime of toy_runtime" in err
    spec = str(write_experiment(tmp_path))
    assert ask(tmp_path, env, "run", spec, "--runtime", "embedded", "--dry-run")[0] == 0


def test_two_packages_with_one_name_are_both_named(tmp_path: Path) -> None:
    for number in ("one", "two"):
        install(tmp_path / "site", f"toy_{number}", TOY.read_text(), f"toy = toy_{number}:ToyRuntime")
    code, _, err = ask(tmp_path, python_path(tmp_path / "site"), "doctor")
    assert code == 5
    assert "toy = toy_one:ToyRuntime of toy_one" in err
    assert "toy = toy_two:ToyRuntime of toy_two" in err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('no spring')\n", "RuntimeError: no spring"),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("\n", "AttributeError: module 'bad_runtime' has no attribute 'Bad'"),
        ("class Bad: ...\n", "TypeError: bad_runtime:Bad is not a subclass of chaoslab.run.runtimes.Runtime"),
    ],
)
def test_one_that_cannot_be_loaded_is_named_and_keeps_no_other_from_working(tmp_path: Path, text: str, reason: str) -> None:
    """Exit 5 where it is asked for; a finding of doctor, and the others are ready."""
    env = python_path(install(tmp_path / "site", "bad_runtime", text, "bad = bad_runtime:Bad"))
    spec = str(write_experiment(tmp_path))
    code, out, err = ask(tmp_path, env, "run", spec, "--runtime", "bad")
    assert (code, out) == (5, "")
    wanted = f"the runtime 'bad' cannot be loaded: the entry point bad = bad_runtime:Bad of bad_runtime: {reason}"
    assert err == f"chaoslab: {wanted}\n  cure: repair or uninstall bad_runtime\n"
    assert not (tmp_path / "runs").exists()
    code, out, _ = ask(tmp_path, env, "doctor")
    assert code == 0
    assert wanted in out
    assert "--runtime embedded: ready" in out
    assert "--runtime bad: not ready; missing: runtime bad" in out


def test_a_runtime_that_calls_itself_otherwise_is_refused(tmp_path: Path) -> None:
    """Its runs could not be told from another's."""
    env = python_path(install(tmp_path / "site", "toy_runtime", TOY.read_text(), "doll = toy_runtime:ToyRuntime"))
    _, _, err = ask(tmp_path, env, "run", str(write_experiment(tmp_path)), "--runtime", "doll")
    assert "it calls itself 'toy'" in err


def test_a_name_that_nobody_has_is_a_wrong_command_line(tmp_path: Path) -> None:
    code, _, err = ask(tmp_path, {}, "run", "idc-fire", "--runtime", "cloud")
    assert code == 2
    assert "'cloud' is not one of 'auto', 'embedded', 'compose'" in err
    with pytest.raises(SpecError, match="no runtime 'cloud'"):
        runtimes.get("cloud")


# --- our own


@pytest.mark.parametrize(("name", "stack"), [("embedded", EmbeddedStack), ("compose", ComposeStack)])
def test_the_stated_abilities_are_those_of_the_stack(name: str, stack: type) -> None:
    """They are stated beside the class, so that nobody has to import it to ask."""
    optional = ("CanDestroyDisks", "CanCutDisks", "CanStop", "CanThrottle", "CanBlock", "CanBlockWithinSite")
    for ability in (getattr(protocol, one) for one in optional):
        assert issubclass(runtimes.get(name).abilities, ability) is issubclass(stack, ability), ability


def test_the_embedded_runtime_never_imports_docker_s_sdk(tmp_path: Path) -> None:
    """Nor does anybody who only asks what there is."""
    script = (
        "import sys; from chaoslab.run import runtimes, session\n"
        "for name in runtimes.names(): runtimes.get(name).limits, runtimes.get(name).abilities, runtimes.get(name).looks()\n"
        "import chaoslab.stack.embedded.stack; runtimes.get('embedded').undo_steps('a-run')\n"
        "print('docker' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"


def test_auto_takes_the_first_that_is_ready_and_says_why_not_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without an engine that is the embedded one; to ask for Compose is an error then."""
    from chaoslab.spec.load import load_experiment

    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    loaded = load_experiment(write_experiment(tmp_path))
    chosen, why = runtimes.choose_runtime("auto", loaded)
    assert chosen.name == "embedded"
    assert "/nonexistent/docker.sock" in why
    assert runtimes.choose_runtime("embedded", loaded)[1] == "asked for"
    with pytest.raises(EnvironmentFault):
        runtimes.choose_runtime("compose", loaded)


def test_a_load_without_locust_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Known bad: images were built and the stack booted, and only then it was said; without a load Locust is not needed."""
    from chaoslab.spec.load import load_experiment

    (tmp_path / "users.py").write_text("")
    loaded = load_experiment(write_experiment(tmp_path, load={"locustfile": "users.py", "users": 1}))
    assert runtimes.choose_runtime("embedded", loaded)[0].name == "embedded"
    monkeypatch.setattr("chaoslab.load.process.find_spec", lambda name: None)
    for wanted in ("auto", "embedded"):
        with pytest.raises(EnvironmentFault, match=r"Locust is not installed[\s\S]*chaoslab\[load\]"):
            runtimes.choose_runtime(wanted, loaded)
    assert "chaoslab doctor" in runtimes.runtime_to_plan("embedded", loaded)[1]
    assert runtimes.choose_runtime("embedded", load_experiment(write_experiment(tmp_path)))[0].name == "embedded"


def test_why_compose_does_not_take_a_file_is_on_the_first_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: where one line is shown, as by --dry-run, it ended with a colon. Compose says the reason last."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'level=warning msg=first' >&2\necho 'service \"a\" has no image' >&2\nexit 15\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    with pytest.raises(SpecError) as refused:
        read_config([Path("/x/compose.yaml")])
    first, second = str(refused.value).splitlines()
    assert first == 'Compose does not take /x/compose.yaml: service "a" has no image'
    assert second == "level=warning msg=first"
    program.write_text("#!/bin/sh\nexit 15\n")
    with pytest.raises(SpecError, match=r"does not take /x/compose\.yaml: exit status 15$"):
        read_config([Path("/x/compose.yaml")])
