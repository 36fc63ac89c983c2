"""Ids as numbers: whatever a service returns as an id comes back as it was, and no two become one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_runs import ns

from chaoslab.history.rows import Note, Probe
from chaoslab.judge.run_record import Record
from chaoslab.judge.writes import Ids, sequence_of

ODD = [
    *(
        "w-007",
        "w--5",
        "w-",
        "w",
        "",
        "-3",
        "w-1_0",
        "w- 5",
        "w-٣",
        "w-1\nw-2",
        "w-1,2",
        ",",
        "\nw-4",
        "w-+3",
        "w-1.0",
        "w-1e2",
    ),
    *("5", "w-99999999999999999999", "w-1099511627775", "w-1099511627776", "w-1-2", "v-12", "ww-1"),
]
ID = st.one_of(st.sampled_from(ODD), st.integers(0, 20).map("w-{}".format), st.text("w-0123,\n _", max_size=6))


@pytest.mark.parametrize("id_", ODD)
def test_an_odd_id_comes_back_as_it_was_with_its_writer_and_sequence(id_: str) -> None:
    """Alone, and among those that are quick to tell."""
    ids = Ids()
    key, among = ids.key(id_), ids.keys(["w-1", id_, "w-2"], "w")
    assert among[1] == key
    assert [ids.text(one) for one in among] == ["w-1", id_, "w-2"]
    assert (ids.writer(key), ids.sequence(key)) == (id_.rpartition("-")[0], sequence_of(id_))


@given(st.lists(ID, max_size=8), st.sampled_from(["w", "v", "", "w-1", None]))
def test_ids_and_numbers_are_one_to_one(texts: list[str], writer: str | None) -> None:
    """Together or one by one, whatever writer they are given as."""
    ids = Ids()
    together = [*ids.keys(texts, writer)]
    assert together == [*map(ids.key, texts)]
    assert [*map(ids.text, together)] == texts
    assert len({*together}) == len({*texts})


def test_writes_go_to_their_writer_in_order_of_their_sequence() -> None:
    """Odd ones among the others."""
    ids = Ids()
    keys = ids.keys(["w-30", "v-2", "w-007", "w-4", "v-1", "odd"], "w")
    named = {writer: [*map(ids.text, own)] for writer, own in ids.by_writer(keys).items()}
    assert named == {"w": ["w-4", "w-007", "w-30"], "v": ["v-1", "v-2"], "": ["odd"]}


def bad_slot(at: float, error: str | None, status: int | None = None) -> Probe:
    return Probe(
        t_ns=ns(at), journey="talk.read", service="talk", op="read", due_ns=ns(at), sent_ns=ns(at), end_ns=ns(at),
        good=False, outcome="bad", error=error, status=status,
    )  # fmt: skip


def test_errors_come_by_how_often_and_then_by_when_they_came_first() -> None:
    """Whatever the order of the rows; long ones are cut."""
    rows = [bad_slot(9, "reset"), bad_slot(3, "x" * 200), bad_slot(2, None), bad_slot(5, None, 503), bad_slot(4, "reset")]
    errors = Record.of(rows).probes["talk.read"].errors()
    assert errors == [("reset", 2), ("no answer", 1), (f"{'x' * 160}…", 1), ("status 503", 1)]


def test_slots_and_reads_are_kept_as_columns_alone() -> None:
    """And lie by due time, whatever the order of their rows."""
    note = Note(t_ns=ns(1), level="info", text="seen")
    record = Record.of([bad_slot(9, "reset"), note, bad_slot(3, "reset")])
    assert record.rows == [note]
    assert [*record.probes["talk.read"].slots.due] == [ns(3), ns(9)]
    assert (record.first_ns, record.last_ns) == (ns(1), ns(9))
