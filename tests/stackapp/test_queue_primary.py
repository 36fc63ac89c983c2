"""Where the clients of compose/queue take the primary to be, from what the Sentinels say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "compose" / "queue"))

OLD, NEW = ("valkey-pangyo", 6379), ("valkey-anyang", 6379)


@pytest.mark.parametrize(
    ("named", "primary"),
    [
        ([OLD, OLD, OLD], OLD),
        ([NEW, NEW, None], NEW),
        ([OLD, NEW, NEW], NEW),  # the first came back from a fire, and knows of no failover
        ([OLD, None, None], None),  # cut off with the old primary
        ([OLD, NEW, None], None),
        ([None, None, None], None),
    ],
)
def test_most_sentinels_must_agree(named, primary):
    from primary import agreed

    assert agreed(named) == primary
