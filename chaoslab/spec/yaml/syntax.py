"""The errors of the YAML parser, in words that state the cure. Pure; knows the wording of libyaml and of PyYAML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from chaoslab.spec.yaml.problems import shorten

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KINDS = {"[": "list", "{": "mapping"}
_CLOSED_BY = {"[": "]", "{": "}"}
_OPENS: dict[type, str] = {yaml.FlowSequenceStartToken: "[", yaml.FlowMappingStartToken: "{"}
_CLOSES: dict[type, str] = {yaml.FlowSequenceEndToken: "[", yaml.FlowMappingEndToken: "{"}


@dataclass(frozen=True)
class _Error:
    """Where the parser gave up. `character` is empty at the end of a line; `begun` is the line of what it was reading."""

    character: str
    line: int
    begun: int
    text: str

    def open_bracket(self) -> tuple[str, int] | None:
        """The last bracket before the place that is not closed there, and its line."""
        open_ones: list[tuple[str, int]] = []
        tokens: Any = yaml.scan(self.text, Loader=LOADER)
        try:
            for token in tokens:
                if type(token) in _OPENS:
                    open_ones.append((_OPENS[type(token)], token.start_mark.line + 1))
                elif type(token) in _CLOSES:
                    if not open_ones or open_ones[-1][0] != _CLOSES[type(token)]:
                        break
                    open_ones.pop()
        except yaml.YAMLError:
            pass  # what was read up to here counts
        return open_ones[-1] if open_ones else None


def _misaligned(at: _Error) -> str:
    if at.character in ("]", "}"):
        return f"this {at.character} closes nothing; remove it, or put the value in quotes"
    return f"this is not aligned with what begins in line {at.begun}; check the indentation"


def _not_closed(bracket: str, line: int, at: _Error) -> str:
    what = f"the {_KINDS[bracket]} opened with {bracket} in line {line}"
    if at.line > line or not at.character:
        return f"{what} is not closed; put a {_CLOSED_BY[bracket]} at its end, or a comma between its items"
    return f"{what} needs a comma or a {_CLOSED_BY[bracket]} here"


def _no_value(at: _Error) -> str:
    """A character, or the end of the file, where a value must begin."""
    opened = at.open_bracket()
    if at.character == "-":
        return "an item with a dash cannot stand inside brackets; write [a, b]"
    if opened is not None and at.character in ("", "]", "}"):
        return _not_closed(*opened, at)
    if at.character in ("]", "}"):
        return f"this {at.character} closes nothing; remove it, or put the value in quotes"
    return f"a value cannot begin with {at.character or 'nothing'}; put it in quotes"


def _no_block(_: _Error) -> str:
    return "a block of text after | or > begins in the next line; put it there, or in quotes"


_WORDS: tuple[tuple[str, Callable[[_Error], str]], ...] = (
    ("mapping values are not allowed", lambda _: "a colon inside an unquoted value; put the value in quotes"),
    (
        "cannot start any token",
        lambda at: (
            "a tab cannot indent YAML; use spaces"
            if at.character == "\t"
            else f"a value cannot begin with {at.character}; put it in quotes"
        ),
    ),
    ("tab character", lambda _: "a tab cannot indent YAML; use spaces"),
    ("unexpected end of stream", lambda at: f"the quote opened in line {at.begun} is never closed"),
    ("unexpected document indicator", lambda at: f"the quote opened in line {at.begun} is never closed"),
    ("',' or ']'", lambda at: _not_closed("[", at.begun, at)),
    ("',' or '}'", lambda at: _not_closed("{", at.begun, at)),
    ("node content", _no_value),
    ("expected key", _misaligned),
    ("<block end>", _misaligned),
    ("'-' indicator", _misaligned),
    ("expected ':'", lambda at: f"the key in line {at.begun} has no colon after it"),
    ("undefined alias", lambda _: "this alias refers to no anchor before it"),
    ("alphabetic or numeric", lambda _: "& and * need a name right after them; put the value in quotes if it is text"),
    ("URI", lambda _: "a value cannot begin with !; put it in quotes"),
    ("digit or '.'", lambda _: "this line begins with %, which is for YAML readers; remove it"),
    ("comment or line break", _no_block),
    ("indentation indicators", _no_block),
    ("unknown escape", lambda _: "unknown escape in double quotes; write \\\\ for a backslash, or use single quotes"),
    ("sequence entries are not allowed", lambda _: "a list item cannot begin here; put it on a separate line"),
)


def in_plain_words(broken: yaml.MarkedYAMLError, text: str) -> str:
    """One sentence for a syntax error; the parser's own words where there are no better ones."""
    problem = broken.problem or broken.context or "unknown syntax"
    begun = broken.context_mark.line + 1 if broken.context_mark else 1
    lines, mark = text.split("\n"), broken.problem_mark
    character = lines[mark.line][mark.column : mark.column + 1] if mark is not None and mark.line < len(lines) else ""
    for words, sentence in _WORDS:
        if words in problem:
            return sentence(_Error(character, mark.line + 1 if mark else begun, begun, text))
    return f"not valid YAML: {shorten(problem, 100).strip(chr(39))}"


def where(broken: yaml.MarkedYAMLError) -> tuple[int, int]:
    """Line and column, from 1, that both parsers agree on: for an escape that is the beginning of the quoted text."""
    marks = [broken.problem_mark, broken.context_mark]
    if "unknown escape" in (broken.problem or ""):
        marks.reverse()
    mark = next((mark for mark in marks if mark is not None), None)
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)
