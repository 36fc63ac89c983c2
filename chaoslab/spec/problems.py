"""What is wrong with a spec, where, and what was probably meant. All problems of a load are told at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from chaoslab.errors import SpecError

LISTED_AT_MOST = 8
MESSAGE_MAX = 500


class Place(NamedTuple):
    """Where something was written. Line and column count from 1; line 0 means that the source has no lines (`--set`)."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, in one sentence, with its cure."""

    file: str
    line: int
    column: int
    message: str

    @classmethod
    def at(cls, place: Place, message: str) -> Problem:
        return cls(place.file, place.line, place.column, message[:MESSAGE_MAX])

    @property
    def place(self) -> Place:
        return Place(self.file, self.line, self.column)

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class SpecErrors(SpecError):
    """Every problem that a load found, in the order of the files; nothing was started."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def without_echoes(misread: Iterable[Problem], later: Iterable[Problem]) -> list[Problem]:
    """Both, but for later complaints about a word that was misread: it is reported once, not again for what it was read as."""
    first = list(misread)
    places = {problem.place for problem in first}
    return first + [problem for problem in later if problem.place not in places]


def shown_path(path: Path) -> str:
    """The path as people see it: relative to the working folder when it lies below."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


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
