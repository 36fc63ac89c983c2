"""Bytes that nobody should have to fear, and the words of the language: for tests of the loader, and its fuzzer."""

from __future__ import annotations

from chaoslab.spec.yaml.source import NODES_MAX, SIZE_MAX

LONGEST_S = 3.0  # of processor time, so that a busy machine does not count
MESSAGE_MAX = 1000  # characters of a problem with its place
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
_WORDS = """
    title stack load users timeline id fault site at heal_after objectives web rto exec link.cut from to services x-chaoslab
    journeys sites entry labels ports healthcheck test environment command depends_on expose volumes conditions get expect
    request path json ledger items tiers 5s 5 1:30 yes ~ 99% 1e9 < > && << *a &a !!int | - ? : # { } [ ] , ' "
"""
WORDS_OF_A_SPEC = _WORDS.split()
