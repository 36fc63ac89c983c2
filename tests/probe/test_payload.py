"""Requests made from templates, and what a write carries."""

from __future__ import annotations

import hashlib

from chaoslab.probe.payload import fill, fill_path, hash_of, is_template, payload_of, write_id, write_values

VALUES = write_values("w.pay", 7)


def test_a_write_is_named_by_writer_and_sequence_and_carries_its_own_text():
    """The hash is that of the payload, as a service computes it from what it stored."""
    assert write_id("w.pay", 7) == "w.pay-7"
    assert hash_of(payload_of("w.pay-7")) == hashlib.sha256(payload_of("w.pay-7").encode()).hexdigest()
    assert payload_of("w.pay-7") != payload_of("w.pay-8")
    assert VALUES["hash"] == hash_of(str(VALUES["payload"]))


def test_a_string_that_is_a_number_s_placeholder_becomes_the_number():
    assert fill({"seq": "{seq}", "at": "no. {seq}", "n": 1, "on": True}, VALUES) == {
        "seq": 7,
        "at": "no. 7",
        "n": 1,
        "on": True,
    }


def test_placeholders_are_filled_through_lists_and_objects_and_others_stay():
    assert fill({"a": [{"{id}": "{unknown} {writer}"}]}, VALUES) == {"a": [{"w.pay-7": "{unknown} w.pay"}]}


def test_values_are_percent_encoded_in_paths():
    """A writer's name can not turn into another query."""
    path = fill_path("/entries?writer={writer}&after={after}", {"writer": "a&b=c d/é", "after": -1})
    assert path == "/entries?writer=a%26b%3Dc%20d%2F%C3%A9&after=-1"


def test_what_never_varies_is_known():
    assert not is_template({"limit": 20, "deep": ["x", {"y": None}]})
    assert is_template({"deep": ["x", {"y": "{seq}"}]})
