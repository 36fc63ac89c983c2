"""What counts as green: a pass that left nothing behind, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from green_runs import Seen, exit_status, line, tally
from mini_stack import Ran

PASS, UNTOLD, FAIL = Seen("pass"), Seen("inconclusive", "the harness stalled"), Seen("fail", "pay.rto: not recovered")


def ran(folder: Path, code: int, **result: Any) -> Ran:
    if result:
        (folder / "result.json").write_text(json.dumps({"duration_s": 60.0, "reasons": [], "left_behind": []} | result))
    return Ran(code, "", "the spec is wrong", folder)


@pytest.mark.parametrize(
    ("seen", "status", "text"),
    [
        ([PASS, PASS], 0, "2 of 2 runs green"),
        ([PASS, UNTOLD], 3, "1 of 2 runs green, 1 inconclusive"),
        ([PASS, UNTOLD, FAIL], 1, "1 of 3 runs green, 1 inconclusive, 1 fail"),
        ([], 1, "0 of 0 runs green"),
    ],
)
def test_only_a_pass_is_green(seen: list[Seen], status: int, text: str) -> None:
    """Inconclusive is counted apart and is not green; no run at all proves nothing."""
    assert (exit_status(seen), tally(seen)) == (status, text)


def test_so_many_may_be_repeated_and_no_more() -> None:
    """A busy machine may be asked again; a fail never is."""
    assert [exit_status([PASS, *[UNTOLD] * count], again=1) for count in range(3)] == [0, 0, 3]
    assert exit_status([PASS, FAIL], again=5) == 1


def test_a_run_is_told_with_its_reason(tmp_path: Path) -> None:
    """A verdict, a poor clean-up, and a run that ended without a result."""
    assert Seen.of(ran(tmp_path, 2)) == Seen("exit 2", "the spec is wrong")
    assert Seen.of(ran(tmp_path, 0, verdict="pass")).verdict == "pass"
    assert Seen.of(ran(tmp_path, 2), before=tmp_path).verdict == "exit 2", "the run before this one passed"
    assert Seen.of(ran(tmp_path, 6, verdict="pass", left_behind=["port 1"])).verdict == "left something behind"
    untold = Seen.of(ran(tmp_path, 3, verdict="inconclusive", reasons=["instrument: stalled"]))
    assert line(2, untold).startswith("  2 inconclusive: instrument: stalled (60 s")
    assert exit_status([Seen.of(ran(tmp_path, 6, verdict="pass"))]) == 1
