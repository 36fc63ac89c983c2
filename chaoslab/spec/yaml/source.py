"""YAML text to plain data with the place of every key and value. Any invalid input raises SpecErrors.

Two dialects: `strict` is for what chaoslab defines and refuses words that YAML 1.1 and 1.2 read differently; `compose`
takes them as Compose does (as text) outside `x-chaoslab`, and knows the overlay tags `!reset` and `!override`.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import yaml

from chaoslab.spec.yaml.problems import KeyPath, Place, Problem, SpecErrors, printable, shorten, shown_path
from chaoslab.spec.yaml.scalars import read_plain, surprise
from chaoslab.spec.yaml.syntax import LOADER, in_plain_words, where

SIZE_MAX = 1024 * 1024
DEPTH_MAX = 40
NODES_MAX = 50_000
EXTENSION = "x-chaoslab"

Dialect = Literal["strict", "compose"]
_RESOLVER: Any = yaml.resolver.Resolver()
_TAG = "tag:yaml.org,2002:"
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Span(NamedTuple):
    """Where an entry's key and its value begin. List items have one place for both."""

    key: Place
    value: Place


class Reset:
    """What `!reset` stands for: the key disappears."""


@dataclass(frozen=True)
class Override:
    """What `!override` stands for: the value replaces what was there instead of being merged with it."""

    value: Any


@dataclass
class Document:
    """One YAML file: plain data, places, and what was wrong with it. `comment` is the text of its first comment."""

    file: str
    data: Any
    spans: dict[KeyPath, Span] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    comment: str = ""

    def key_at(self, path: KeyPath) -> Place:
        """Where the key was written, or the nearest thing around it."""
        return self._nearest(path).key

    def value_at(self, path: KeyPath) -> Place:
        return self._nearest(path).value

    def has(self, path: KeyPath) -> bool:
        return path in self.spans

    def _nearest(self, path: KeyPath) -> Span:
        while path and path not in self.spans:
            path = path[:-1]
        top = Place(self.file, 1, 1)
        return self.spans.get(path, Span(top, top))


def read(path: Path, dialect: Dialect = "strict") -> Document:
    """The YAML file at `path`. Raises SpecErrors when it cannot be read at all; lesser problems are in the document."""
    file = shown_path(path)
    if printable(path.name) != path.name:
        _refuse(Place(file), "the name of this file is not UTF-8; rename it", "yaml.file-name")
    try:
        if stat.S_ISFIFO(path.stat().st_mode):  # to open one waits for a writer, for ever
            _refuse(Place(file), "cannot read this file: it is a pipe", "yaml.unreadable")
        with path.open("rb") as stream:
            raw = stream.read(SIZE_MAX + 1)
    except OSError as broken:
        _refuse(Place(file), f"cannot read this file: {(broken.strerror or 'no reason given').lower()}", "yaml.unreadable")
    except ValueError:
        _refuse(Place(shorten(file)), "this is not a valid file name", "yaml.unreadable")
    return parse(raw, file, dialect)


def parse(raw: bytes, file: str, dialect: Dialect = "strict") -> Document:
    """Raises SpecErrors when the bytes are no single YAML document within the limits."""
    text = _decode(raw, file)
    try:
        _check_shape(text, file)
        node = yaml.compose(text, Loader=LOADER)
    except yaml.MarkedYAMLError as broken:
        _refuse(Place(file, *where(broken)), in_plain_words(broken, text), "yaml.syntax")
    except yaml.YAMLError as broken:
        _refuse(Place(file, 1, 1), f"not valid YAML: {shorten(str(broken))}", "yaml.syntax")
    if node is None:
        _refuse(Place(file, 1, 1), "the file is empty", "yaml.empty")
    reader = _Reader(file, dialect)
    data = reader.value(node, ())
    return Document(file, data, reader.spans, reader.problems, leading_comment(text))


def parse_value(text: str, source: str) -> Any:
    """The YAML value of a command-line word. Raises SpecErrors that name `source` instead of a line."""
    try:
        document = parse(text.encode("utf-8", "surrogateescape"), source)
    except SpecErrors as refused:
        raise SpecErrors(Problem.at(Place(source), problem.message, problem.rule) for problem in refused.problems) from None
    if document.problems:
        raise SpecErrors(Problem.at(Place(source), problem.message, problem.rule) for problem in document.problems)
    return document.data


def leading_comment(text: str) -> str:
    """The first block of comment lines, before any content, as one line; editors' own lines are left out."""
    words: list[str] = []
    for line in text.removeprefix("\ufeff").splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            text_of_line = stripped.lstrip("#").strip()
            if text_of_line and not text_of_line.startswith(("yaml-language-server:", "SPDX-", "-*-", "vim:")):
                words.append(text_of_line)
            elif words:
                break
        elif words or (stripped and not stripped.startswith(("---", "%"))):
            break
    return " ".join(words)


def _decode(raw: bytes, file: str) -> str:
    if len(raw) > SIZE_MAX:
        _refuse(Place(file), f"the file is larger than {SIZE_MAX // 1024} KiB, which is too large for a spec", "yaml.too-large")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line, column = _position(raw[: broken.start].decode("utf-8", "replace"))
        _refuse(
            Place(file, line, column),
            f"byte 0x{raw[broken.start]:02x} is not UTF-8; save the file as UTF-8 text",
            "yaml.encoding",
        )
    bad = _FORBIDDEN.search(text)
    if bad:
        line, column = _position(text[: bad.start()])
        _refuse(
            Place(file, line, column),
            f"control character U+{ord(bad.group()):04X} is not allowed in a text file",
            "yaml.encoding",
        )
    return text


def _position(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _check_shape(text: str, file: str) -> None:
    """Limits that must hold before anything recursive looks at the file."""
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader=LOADER):
        place = _begin(file, event)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        nodes += isinstance(event, yaml.NodeEvent)
        if depth > DEPTH_MAX:
            _refuse(place, f"nested deeper than {DEPTH_MAX} levels, which is too deep for a spec", "yaml.too-large")
        if nodes > NODES_MAX:
            _refuse(place, f"more than {NODES_MAX} values in one file, which is too many for a spec", "yaml.too-large")
        if documents > 1:
            _refuse(place, "a second document begins here; keep one document per file", "yaml.documents")


def _begin(file: str, what: Any) -> Place:
    """Where an event or a node of the YAML library begins."""
    return Place(file, what.start_mark.line + 1, what.start_mark.column + 1)


def _refuse(place: Place, message: str, rule: str) -> NoReturn:
    raise SpecErrors([Problem.at(place, message, rule)])


class _Reader:
    """Walks the nodes of one document, with aliases followed, and notes places and problems."""

    def __init__(self, file: str, dialect: Dialect) -> None:
        self.file, self.dialect = file, dialect
        self.spans: dict[KeyPath, Span] = {}
        self.problems: list[Problem] = []
        self._nodes = self._depth = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        with self._counted(node):
            if self.dialect == "compose" and node.tag == "!reset":
                return Reset()
            if self.dialect == "compose" and node.tag == "!override":
                return Override(self._untagged(node, path))
            return self._untagged(node, path)

    @contextmanager
    def _counted(self, node: yaml.Node) -> Iterator[None]:
        """Aliases make small files large and loops endless: the limits hold for what they expand to."""
        self._nodes += 1
        self._depth += 1
        if self._nodes > NODES_MAX:
            _refuse(self._place(node), f"aliases expand this file to more than {NODES_MAX} values", "yaml.too-large")
        if self._depth > DEPTH_MAX * 2:
            _refuse(self._place(node), "an alias here contains itself", "yaml.too-large")
        yield
        self._depth -= 1

    def _untagged(self, node: Any, path: KeyPath) -> Any:
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, "map")
            result: dict[str, Any] = {}
            self._fill(result, node, path)
            return result
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq")
            items = []
            for index, item in enumerate(node.value):
                self.spans[*path, index] = Span(self._place(item), self._place(item))
                items.append(self.value(item, (*path, index)))
            return items
        text = str(node.value)
        if node.style:
            self._check_tag(node, "str")
            return text
        implicit = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
        if node.tag == _TAG + "str" and implicit != node.tag:  # !!str in so many words
            return text
        self._check_tag(node, implicit.removeprefix(_TAG))
        if self._is_strict(path):
            self._check_surprise(node)
        return read_plain(text)

    def _fill(self, result: dict[str, Any], node: yaml.MappingNode, path: KeyPath) -> None:
        """Put the entries of a mapping, and then of those it merges with `<<`, where no earlier one has the key."""
        lines: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                merged.append(value_node)
                continue
            key = self._key(key_node, path)
            if key is not None and key in lines:
                self._report(
                    key_node, f"key {shorten(key)} is written twice; the first is in line {lines[key]}", "yaml.key-twice"
                )
            elif key is not None:
                lines[key] = key_node.start_mark.line + 1
                if key not in result:
                    self.spans[*path, key] = Span(self._place(key_node), self._place(value_node))
                    result[key] = self.value(value_node, (*path, key))
        sources = [source for node in merged for source in (node.value if isinstance(node, yaml.SequenceNode) else [node])]
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                self._report(source, "'<<' merges mappings only; write <<: *anchor", "yaml.merge")
                continue
            with self._counted(source):
                self._fill(result, source, path)

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._report(node, "a key must be a word, not a list or a mapping; put it in quotes if it is text", "yaml.key")
            return None
        plain = not node.style
        if plain and read_plain(node.value) is None:
            self._report(node, "a key is empty; write a word before the colon", "yaml.key")
            return None
        if plain and self._is_strict(path):
            self._check_surprise(node)
        return str(node.value)

    def _is_strict(self, path: KeyPath) -> bool:
        return self.dialect == "strict" or path[:1] == (EXTENSION,)

    def _check_surprise(self, node: yaml.Node) -> None:
        why = surprise(str(node.value))
        if why:
            self._report(node, why, "yaml.ambiguous")

    def _check_tag(self, node: yaml.Node, expected: str) -> None:
        known = ["!reset", "!override"] if self.dialect == "compose" else []
        if node.tag not in (_TAG + expected, "!", *known):
            self._report(
                node, f"tag {shorten(node.tag.replace(_TAG, '!!'))} is not supported; write the plain value", "yaml.tag"
            )

    def _place(self, node: yaml.Node) -> Place:
        return _begin(self.file, node)

    def _report(self, node: yaml.Node, message: str, rule: str) -> None:
        self.problems.append(Problem.at(self._place(node), message, rule))
