"""Whatever the bytes, a load ends soon, and either loads or raises SpecErrors: no traceback, no hang, no blow-up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from golden_files import FIXTURES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaoslab.spec.load import load_experiment
from chaoslab.spec.overrides import apply_overrides
from chaoslab.spec.problems import SpecErrors
from chaoslab.spec.source import NODES_MAX, SIZE_MAX, Document, parse

LONGEST_S = 3.0  # of processor time, so that a busy machine does not count
BILLION = b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12))
HOSTILE = {
    "billion laughs": BILLION,
    "billion laughs in merges": b"a0: &a0 {x: 1}\n"
    + b"".join(b"a%d: &a%d {<<: [%s]}\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)),
    "alias that contains itself": b"a: &a {b: *a}",
    "merge that contains itself": b"a: &a {<<: *a}",
    "deep lists": b"[" * 100_000,
    "deep mappings": b"{a: " * 50_000,
    "deep blocks": b"".join(b" " * n + b"a:\n" for n in range(1000)),
    "deep list items": b"- " * 50_000,
    "many values": b"[" + b"1," * (SIZE_MAX // 2 - 10) + b"]",
    "many keys": b"\n".join(b"k%d: 1" % n for n in range(NODES_MAX)),
    "too large": b"#" * (SIZE_MAX + 1),
    "one long word": b"title: " + b"x" * (SIZE_MAX - 100),
    "one long key": b"x" * (SIZE_MAX - 100) + b": 1",
    "long integer": b"load: {users: 1" + b"0" * 400 + b"}",
    "very long integer": b"load: {users: 1" + b"0" * 100_000 + b"}",
    "long duration": b"failback: {hold: " + b"9" * 5000 + b"s}",
    "many parts of a duration": b"failback: {hold: " + b"1s" * 50_000 + b"x}",
    "long threshold": b"objectives: {web: {rto: '< " + b"9" * 5000 + b"s', availability: '" + b"9" * 5000 + b"%'}}",
    "overflowing float": b"load: {spawn_rate: 1e999, users: -1e999}",
    "not a number": b"probe: {rate: .nan}\nload: {spawn_rate: -.inf}",
    "NUL": b"a: \x00",
    "NUL escaped": b'title: "\\0"\nstack: "\\0"\nload: {locustfile: "\\0"}',
    "surrogates escaped": b'title: "\\ud800"',
    "latin-1": "title: café".encode("latin-1"),
    "UTF-16": "title: x".encode("utf-16"),
    "UTF-32": "title: x".encode("utf-32"),
    "UTF-8 with a mark": "\ufefftitle: x".encode(),
    "overlong UTF-8": b"title: \xc0\x80",
    "bidirectional marks": "title: \u202eevil".encode(),
    "python object": b"title: !!python/object/apply:os.system ['true']",
    "python name": b"!!python/name:os.system",
    "own tags": b"%TAG ! tag:x,2000:\n---\na: !b c",
    "binary": b"title: !!binary aGVsbG8=",
    "set": b"tags: !!set {a, b}",
    "omap": b"load: !!omap [a: 1]",
    "empty key": b": 1",
    "null key": b"null: 1",
    "list as a key": b"? [a]\n: 1",
    "mapping as a key": b"? {a: b}\n: 1",
    "flow key": b"{[a]: b, {c: d}: e}",
    "only a mark": b"\xef\xbb\xbf",
    "only dashes": b"---",
    "only dots": b"...",
    "directive": b"%YAML 9.9\n---\na: b",
    "carriage returns": b"a: 1\rb: 2\rtitle: [\r",
    "every type where another is wanted": b"title: {}\nstack: {a: 1}\ntags: 5\nload: 5\nprobe: []\n"
    b"steady_state: x\ntimeline: {}\nfailback: 1\nobjectives: []\nabort: x\nexpect: []",
    "faults of odd types": b"timeline: [1, null, [], {}, {fault: 1}, {fault: [a]}, {fault: {a: b}}, {fault: null}, "
    b"{fault: true}, x]",
    "a fault with a key named as its tag": b"timeline: [{fault: exec, exec: {a: 1}, id: 5}]",
}


def load_soon(raw: bytes, tmp_path: Path) -> list[str]:
    """The problems of these bytes as an experiment; none when it loads. Fails when it takes long or ends in another way."""
    file = tmp_path / "hostile.yaml"
    file.write_bytes(raw)
    began = time.process_time()
    try:
        load_experiment(file)
        problems = []
    except SpecErrors as refused:
        problems = [str(problem) for problem in refused.problems]
        assert problems
    assert time.process_time() - began < LONGEST_S
    return problems


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input(name: str, tmp_path: Path) -> None:
    """None of these is an experiment, and each gets an answer with a place that fits on a few lines."""
    problems = load_soon(HOSTILE[name], tmp_path)
    assert problems
    for problem in problems:
        assert "hostile.yaml:" in problem
        assert len(problem) < 1000
        assert problem.isprintable()


def test_hostile_input_as_a_stack(tmp_path: Path) -> None:
    """The other dialect has the same limits."""
    fire = (FIXTURES / "fire.yaml").read_bytes()
    for raw in HOSTILE.values():
        (tmp_path / "stack.yaml").write_bytes(raw)
        assert load_soon(fire, tmp_path)


def test_limits_are_wide_enough_for_honest_files() -> None:
    """Ten thousand values and twenty levels are no problem."""
    document = parse(yaml.safe_dump({"a": list(range(10_000))}).encode() + b"b: " + b"[" * 20 + b"]" * 20, "f")
    assert len(document.data["a"]) == 10_000
    assert document.problems == []


def test_missing_file_and_folder(tmp_path: Path) -> None:
    """What cannot be opened is a problem like any other."""
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / ("x" * 5000), tmp_path / "a\0b"):
        with pytest.raises(SpecErrors):
            load_experiment(path)


BOUNDED = settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SPEC_WORDS = """
    title stack load users timeline id fault site at heal_after objectives web rto exec link.cut from to services x-chaoslab
    journeys sites entry labels ports healthcheck test environment command depends_on expose volumes conditions get expect
    request path json ledger items tiers 5s 5 1:30 yes ~ 99% 1e9 < > && << *a &a !!int | - ? : # { } [ ] , ' "
"""
WORDS = st.sampled_from(SPEC_WORDS.split())
KEYS = WORDS | st.text(max_size=5)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=10)
STRUCTURES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=30
)


@BOUNDED
@given(raw=st.binary(max_size=200))
def test_any_bytes(raw: bytes, tmp_path: Path) -> None:
    """Random bytes, as an experiment."""
    load_soon(raw, tmp_path)


@BOUNDED
@given(tokens=st.lists(WORDS | st.sampled_from(["\n", "\n  ", " ", ": "]), max_size=60))
def test_any_tokens(tokens: list[str], tmp_path: Path) -> None:
    """Words of the language in random order get past the parser more often."""
    load_soon("".join(tokens).encode(), tmp_path)


@BOUNDED
@given(data=st.data())
def test_any_structure_in_an_experiment(data: Any, tmp_path: Path) -> None:
    """Well-formed YAML with anything anywhere, on top of a sound experiment."""
    _prepare(tmp_path)
    spec = yaml.safe_load((FIXTURES / "fire.yaml").read_text())
    _disturb(spec, data)
    load_soon(b"# H.\n" + yaml.safe_dump(spec, allow_unicode=False).encode("utf-8", "surrogatepass"), tmp_path)


@BOUNDED
@given(data=st.data())
def test_any_structure_in_a_stack(data: Any, tmp_path: Path) -> None:
    """The same for Compose files and their section."""
    _prepare(tmp_path)
    spec = yaml.safe_load((FIXTURES / "stack.yaml").read_text())
    _disturb(spec, data)
    (tmp_path / "stack.yaml").write_bytes(yaml.safe_dump(spec, allow_unicode=False).encode("utf-8", "surrogatepass"))
    load_soon((FIXTURES / "fire.yaml").read_bytes(), tmp_path)


@BOUNDED
@given(dotted=st.lists(KEYS | st.integers(-1, 5).map(str), max_size=6).map(".".join), value=st.text(max_size=20))
def test_any_override(dotted: str, value: str) -> None:
    """No word on the command line gets a traceback out of --set."""
    document = Document("f", yaml.safe_load((FIXTURES / "fire.yaml").read_text()))
    apply_overrides(document, {dotted: value})


def _prepare(folder: Path) -> None:
    (folder / "load").mkdir(exist_ok=True)
    (folder / "load" / "everyday.py").touch()
    (folder / "stack.yaml").write_bytes((FIXTURES / "stack.yaml").read_bytes())


def _disturb(spec: Any, data: Any) -> None:
    """Put a random structure at a random place of a spec."""
    holder = spec
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = data.draw(st.sampled_from(keys) if keys else st.just("new"))
        inner = holder[key] if keys else None
        if not isinstance(inner, dict | list) or not inner or data.draw(st.integers(0, 3)) == 0:
            break
        holder = inner
    if isinstance(holder, dict) and data.draw(st.booleans()):
        key = data.draw(KEYS)
    if isinstance(holder, dict) or isinstance(key, int):
        holder[key] = data.draw(STRUCTURES)
