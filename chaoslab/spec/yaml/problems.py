"""What is wrong with a spec, where, and what was probably meant. All problems are reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from chaoslab.errors import SpecError

KeyPath = tuple[str | int, ...]  # keys and indexes, from the top of a file
Level = Literal["error", "warning", "note"]  # an error refuses the spec; the others advise

LISTED_AT_MOST = 8
MESSAGE_MAX = 500


class Place(NamedTuple):
    """Where something was written. Line and column count from 1; line 0 means that the source has no lines (`--set`)."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Located(Protocol):
    """Whatever knows where things were written: a document, or several merged."""

    def key_at(self, path: KeyPath) -> Place: ...

    def value_at(self, path: KeyPath) -> Place: ...


@dataclass(frozen=True, order=True)
class Problem:
    """One problem, or a piece of advice, in one sentence, with its cure.

    `rule`: the id of what found it, such as `timeline.target-unknown`; it stays the same when the wording changes.
    """

    file: str
    line: int
    column: int
    message: str
    rule: str
    level: Level = "error"

    @classmethod
    def at(cls, place: Place, message: str, rule: str, level: Level = "error") -> Problem:
        return cls(place.file, place.line, place.column, message[:MESSAGE_MAX], rule, level)

    @property
    def place(self) -> Place:
        return Place(self.file, self.line, self.column)

    def __str__(self) -> str:
        level = "" if self.level == "error" else f"{self.level}: "
        return f"{self.place}: {level}{self.message}"


class SpecErrors(SpecError):
    """Every error that a load found, in the order of the files; nothing was started."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def without_echoes(misread: Iterable[Problem], later: Iterable[Problem]) -> list[Problem]:
    """Both, without later problems at the place of a misread value, which is reported once."""
    first = list(misread)
    places = {problem.place for problem in first}
    return first + [problem for problem in later if problem.place not in places]


def shown_path(path: Path) -> str:
    """The path as people see it: from the working folder, unless the whole path is shorter. It can always be printed."""
    absolute, here = path.absolute(), Path.cwd()
    up, above = next((up, folder) for up, folder in enumerate([here, *here.parents]) if absolute.is_relative_to(folder))
    relative = Path(*[".."] * up, absolute.relative_to(above))
    return printable(min(str(relative), str(absolute), key=len))


def printable(name: str) -> str:
    """The name of a file as text that can be written: bytes that are not UTF-8 are shown as \\xe9."""
    return name.encode("utf-8", "backslashreplace").decode().replace(r"\udc", r"\x")  # as Python decodes such a byte


def suggest(word: str, known: Iterable[str]) -> str:
    """`. Did you mean 'x'?`, or the few that there are, to be appended to a sentence without its full stop."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word[:100], names, n=3, cutoff=0.6)
    swapped = [name for name in close if sorted(name) == sorted(word)]  # two letters in the wrong order, before all else
    if close:
        return f". Did you mean {(swapped or close)[0]!r}?"
    if 0 < len(names) <= LISTED_AT_MOST:
        return f"; known: {', '.join(names)}"
    return ""


def shorten(value: object, limit: int = 40) -> str:
    """A value as it is quoted in messages, never longer than a line."""
    text = repr(value) if not isinstance(value, int | float) or isinstance(value, bool) else str(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
