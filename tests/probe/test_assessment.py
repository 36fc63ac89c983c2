"""What the end of an exchange means for its slot and its write, case by case."""

from __future__ import annotations

import pytest
from probe_ends import read_target, write_target

from chaoslab.errors import SpecError
from chaoslab.probe.assessment import Assessor
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.exchange import Exchange
from chaoslab.probe.payload import write_values
from chaoslab.probe.plan import HttpCall, Target
from chaoslab.probe.request import render

DUE_NS = 1_000_000_000
SOON_NS = DUE_NS + 30_000_000
LATE_NS = DUE_NS + 700_000_000
ENTRY = Endpoint.parse("http://127.0.0.1:8080")


def answer(status: int | None = None, *, end_ns: int = SOON_NS, sent: bool = True, error: str | None = None) -> Exchange:
    return Exchange(end_ns, sent, status=status, body=b'{"ok": true, "n": 1}', error=error)


@pytest.mark.parametrize(
    ("given", "outcome", "good"),
    [
        (answer(201), "acked", True),
        (answer(201, end_ns=LATE_NS), "acked", False),  # counts in the ledger, not as a good slot
        (answer(200), "indeterminate", False),  # not the success that the stack declares
        (answer(409), "rejected", False),
        (answer(429), "rejected", False),
        (answer(500), "indeterminate", False),
        (answer(502), "indeterminate", False),
        (answer(503), "indeterminate", False),
        (answer(504), "indeterminate", False),
        (answer(error="refused", sent=False), "rejected", False),
        (answer(error="timeout: no connection", sent=False), "rejected", False),
        (answer(error="timeout: no answer"), "indeterminate", False),
        (answer(error="reset"), "indeterminate", False),
        (answer(error="closed by the peer"), "indeterminate", False),
    ],
)
def test_a_write_is_rejected_only_with_proof(given, outcome, good):
    """Indeterminate is what is left when neither success nor harmlessness is proven."""
    found = Assessor(write_target(not_applied=(409, 429))).assess(given, DUE_NS)
    assert (found.outcome, found.good) == (outcome, good)
    assert (found.error is None) == good


def test_without_a_declaration_no_status_proves_that_nothing_happened():
    assert Assessor(write_target(not_applied=())).assess(answer(409), DUE_NS).outcome == "indeterminate"


@pytest.mark.parametrize(
    ("expect", "outcome", "error"),
    [
        (None, "ok", None),
        ("ok", "ok", None),
        ("n == `1`", "ok", None),
        ("n", "bad", "not as expected"),
        ("gone", "bad", "not as expected"),
    ],
)
def test_a_read_must_say_what_is_expected(expect, outcome, error):
    """The JMESPath must be true itself; a value that merely is there does not do."""
    found = Assessor(read_target(expect=expect)).assess(answer(200), DUE_NS)
    assert (found.outcome, found.error) == (outcome, error)


def test_a_right_read_that_comes_late_is_ok_and_not_good():
    found = Assessor(read_target()).assess(answer(200, end_ns=LATE_NS), DUE_NS)
    assert (found.outcome, found.good, found.error) == ("ok", False, "late: 700 ms")


def test_an_answer_that_is_no_json_is_not_what_was_expected():
    found = Assessor(read_target(expect="ok")).assess(Exchange(SOON_NS, True, status=200, body=b"<html>"), DUE_NS)
    assert (found.good, found.error) == (False, "not JSON")


def test_a_request_looks_as_the_template_says():
    template = HttpCall(method="POST", path="/pay/{writer}", headers={"Authorization": "Bearer {id}"}, body={"seq": "{seq}"})
    raw = render(ENTRY, template, write_values("w", 3), fresh=True).decode()
    assert raw.startswith("POST /pay/w HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n")
    assert "Authorization: Bearer w-3\r\n" in raw
    assert "Connection: close\r\n" in raw
    assert raw.endswith('Content-Length: 9\r\nConnection: close\r\nAuthorization: Bearer w-3\r\n\r\n{"seq":3}')


@pytest.mark.parametrize("template", [HttpCall(path="/a b"), HttpCall(path="/", headers={"X": "a\r\nEvil: 1"})])
def test_a_template_cannot_smuggle_in_a_line(template):
    with pytest.raises(SpecError, match="character"):
        render(ENTRY, template, {}, fresh=False)


@pytest.mark.parametrize("url", ["ftp://x/", "http:///x", "tcp://host", "http://h:99999/", "nonsense", "http://me:pw@h/"])
def test_a_url_that_cannot_be_probed_is_an_error(url):
    with pytest.raises(SpecError):
        Endpoint.parse(url)


def test_an_expectation_that_is_no_jmespath_is_an_error():
    with pytest.raises(SpecError, match=r"shop\.read: expect"):
        Assessor(Target(**{field: getattr(read_target(), field) for field in Target.__struct_fields__} | {"expect": "a["}))
