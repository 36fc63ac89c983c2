"""Which archives bench_restore tries: never none, which would be a success that shows nothing."""

from __future__ import annotations

import pytest
from backup_defects import DEFECTS
from bench_restore import chosen


def test_every_case_is_in_one_part() -> None:
    parts = [chosen(DEFECTS, "", f"{number}/3") for number in (1, 2, 3)]
    assert sorted(case.name for part in parts for case in part) == sorted(case.name for case in DEFECTS)


@pytest.mark.parametrize(("only", "part"), [("no such case", "1/1"), (DEFECTS[0].name, "2/2")])
def test_no_case_at_all_is_an_error(only: str, part: str) -> None:
    """Known bad: a name with a typo ended with status 0 and `all as they must be`."""
    with pytest.raises(SystemExit, match=DEFECTS[0].name):
        chosen(DEFECTS, only, part)
