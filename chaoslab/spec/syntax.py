"""The YAML parser's complaints, in words that say what to do. Pure; knows the wording of libyaml and of PyYAML."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from chaoslab.spec.problems import shorten

_Say = Callable[[str, int], str]  # the character at the place, and the line in which the context began

_WORDS: tuple[tuple[str, _Say], ...] = (
    ("mapping values are not allowed", lambda _c, _l: "a colon inside an unquoted value; put the value in quotes"),
    ("cannot start any token", lambda char, _l: _bad_start(char)),
    ("unexpected end of stream", lambda _c, line: f"the quote opened in line {line} is never closed"),
    ("unexpected document indicator", lambda _c, line: f"the quote opened in line {line} is never closed"),
    ("',' or ']'", lambda _c, line: f"the list opened with [ in line {line} needs a comma or a ] here"),
    ("',' or '}'", lambda _c, line: f"the mapping opened with {{ in line {line} needs a comma or a }} here"),
    (
        "expected key",
        lambda _c, line: f"this does not line up with what begins in line {line}; check the indentation",
    ),
    ("<block end>", lambda _c, line: f"this does not line up with what begins in line {line}; check the indentation"),
    (
        "'-' indicator",
        lambda _c, line: f"this does not line up with what begins in line {line}; check the indentation",
    ),
    ("expected ':'", lambda _c, line: f"the key in line {line} has no colon after it"),
    ("undefined alias", lambda _c, _l: "this alias names no anchor that is written before it"),
    ("unknown escape", lambda _c, _l: "unknown escape in double quotes; write \\\\ for a backslash, or use single quotes"),
    ("block sequence entries are not allowed", lambda _c, _l: "a list item cannot begin here; put it on a line of its own"),
)


def in_plain_words(broken: yaml.MarkedYAMLError, text: str) -> str:
    """One sentence for a syntax error; the parser's own words where there are no better ones."""
    problem = broken.problem or broken.context or "unknown syntax"
    begun = broken.context_mark.line + 1 if broken.context_mark else 1
    for words, say in _WORDS:
        if words in problem:
            return say(_character(broken, text), begun)
    return f"not valid YAML: {shorten(problem, 100).strip(chr(39))}"


def where(broken: yaml.MarkedYAMLError) -> tuple[int, int]:
    """Line and column, from 1, that both parsers agree on: for an escape that is the beginning of the quoted text."""
    marks = [broken.problem_mark, broken.context_mark]
    if "unknown escape" in (broken.problem or ""):
        marks.reverse()
    mark = next((mark for mark in marks if mark is not None), None)
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _character(broken: yaml.MarkedYAMLError, text: str) -> str:
    if broken.problem_mark is None:
        return ""
    lines = text.split("\n")
    line = lines[broken.problem_mark.line] if broken.problem_mark.line < len(lines) else ""
    return line[broken.problem_mark.column : broken.problem_mark.column + 1]


def _bad_start(char: str) -> str:
    if char == "\t":
        return "a tab cannot indent YAML; use spaces"
    return f"a value cannot begin with {char}; put it in quotes"
