"""The fuzzer for the loader: a short part of it that is always the same, and loaders that it must catch."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fuzz_loader
import pytest
from fuzz_inputs import Project, made, projects, sound
from fuzz_loader import Outcome, Sandbox, Tally, fuzz, load_whole, report, saved, smaller
from hostile import LONGEST_S

from chaoslab.spec.yaml.problems import Problem, SpecErrors

BAD = Project({"a.yaml": b"some lines\n" * 20 + b"poison\n" + b"and more\n" * 20, "b.yaml": b"innocent"}, "a.yaml", {"x": "1"})


def throws(main: Path, overrides: dict[str, str]) -> str:
    if b"poison" in main.read_bytes():
        raise KeyError("poison")
    return "loads"


def hangs(main: Path, overrides: dict[str, str]) -> str:
    time.sleep(60)
    return "loads"


def toils(main: Path, overrides: dict[str, str]) -> str:
    began_s = time.process_time()
    while time.process_time() - began_s < LONGEST_S + 0.1:
        pass
    return "loads"


def eats(main: Path, overrides: dict[str, str]) -> str:
    return "x" * 2 * fuzz_loader.MEMORY_MAX


def dies(main: Path, overrides: dict[str, str]) -> str:
    signal.raise_signal(signal.SIGSEGV)
    return "loads"


def test_some_inputs_break_nothing() -> None:
    """A hundred, the same each time; `make fuzz` goes on for as long as it is asked to."""
    tally = Tally(seed=20221015)
    with Sandbox() as sandbox:
        fuzz(tally, sandbox, for_s=60, inputs_max=100)
    assert tally.failed is None, tally.failed
    assert tally.kinds["refused"] > 10
    assert tally.kinds["loads"] > 5, "inputs that are all refused at once test little"


def test_what_the_changes_begin_with_is_sound() -> None:
    """Our own experiments load; what golden files know to be wrong is refused; and nothing of either is slow."""
    with Sandbox() as sandbox:
        kinds = [sandbox.load(project).kind for project in projects()]
    assert kinds[: len(sound())] == ["loads"] * len(sound())
    assert set(kinds[len(sound()) :]) == {"refused"}


def test_an_input_can_be_made_again() -> None:
    """By its seed and number alone."""
    assert [made(7, number) for number in range(20)] == [made(7, number) for number in range(20)]
    assert made(7, 1) != made(8, 1)


@pytest.mark.parametrize(
    ("load", "kind"),
    [(throws, "traceback: KeyError"), (hangs, "hang"), (toils, "slow"), (eats, "memory"), (dies, "died")],
)
def test_a_bad_loader_is_caught(load: Callable[[Path, dict[str, str]], str], kind: str) -> None:
    """Known bad: one that throws, hangs, is slow, eats memory, or dies; and the next input is loaded all the same."""
    with Sandbox(load, hang_s=1.0 if load is hangs else 20.0) as sandbox:
        assert [sandbox.load(BAD).kind for _ in range(2)] == [kind, kind]


def test_what_breaks_is_made_small_saved_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1, the least that still breaks, and the command that runs it again."""
    monkeypatch.setattr(fuzz_loader, "SAVED", tmp_path)
    tally = Tally(seed=5)
    with Sandbox(throws) as sandbox:
        fuzz(tally, sandbox, for_s=10, inputs_max=3, make=lambda seed, number: BAD)
        assert report(tally, sandbox) == 1
    assert tally.kinds == {"traceback: KeyError": 1}, "it ends with the first"
    assert f"--again {tmp_path}/5-0" in capsys.readouterr().out
    least = saved(tmp_path / "5-0")
    assert (b"poison" in least.files["a.yaml"], list(least.files), dict(least.overrides)) == (True, ["a.yaml"], {})
    assert least.size <= 8


def test_nothing_smaller_than_it_must_be() -> None:
    """What does not break in the same way is not smaller, but something else."""
    with Sandbox(throws) as sandbox:
        assert smaller(BAD, "hang", sandbox, within_s=5) == BAD


@pytest.mark.parametrize("wrong", ["", "\x1b[31m", "x" * 2000])
def test_a_message_that_no_terminal_should_see_counts_as_broken(wrong: str, tmp_path: Path, monkeypatch) -> None:
    """Refused without a word, with control characters, or at a length that nobody reads."""

    def refuse(*_: object) -> None:
        raise SpecErrors([Problem("f", 1, 1, wrong, "any.rule")] if wrong else [])

    monkeypatch.setattr(fuzz_loader, "load_experiment", refuse)
    with pytest.raises(AssertionError):
        load_whole(tmp_path / "x.yaml", {})


def test_interrupted_it_prints_its_tally() -> None:
    """Ctrl-C in the middle: the numbers so far, and exit status 0."""
    command = [sys.executable, "-u", str(Path(fuzz_loader.__file__)), "--seed", "1"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout is not None
    assert "seed 1" in child.stdout.readline()
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, "inputs in" in out, err) == (0, True, "")


def test_an_outcome_is_fine_or_not() -> None:
    assert [Outcome(kind).fine for kind in ("loads", "refused", "slow", "hang")] == [True, True, False, False]
