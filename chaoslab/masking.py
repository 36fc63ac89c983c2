"""What must not be read by others, and how it is covered: secrets by their names, by their shape, and wherever they recur.

A value is a secret when its name says so (`PASSWORD`, `X-Api-Key`, `Authorization`) or when it is the `user:password` of a URL.
It is covered in its place however short it is, and in free text from `SHORTEST` characters on: below that it would blot out
ordinary words. A value that also is part of a name of the spec stays in free text for the same reason. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

MASK = "***"
SHORTEST = 5
_WORDS = frozenset(("pwd", "key", "keys", "dsn"))  # of a name; too short to be looked for inside other words
_PARTS = (
    *("password", "passwd", "passphrase", "secret", "token", "credential", "authorization", "cookie"),
    *("apikey", "accesskey", "privatekey"),
)
_SPLIT = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")
_PLACEHOLDER = re.compile(r"(?:\{[a-z]+\}|\*\*\*|\s)*")
_URL_USER = re.compile(r"(?<=://)([^/\s'\"<>]+)@")
_SCHEME = re.compile(r"\b(Bearer|Basic) +([\w.~+/=-]{8,})", re.IGNORECASE)
_ASSIGNED = re.compile(r"(?<![\w.-])([\w.-]+)=(?!=)(\"[^\"]*\"|'[^']*'|[^\s&,;'\"]+)")
_OPTION = re.compile(r"(?<!\S)--?([A-Za-z][\w-]*) +([^\s-]\S*)")
_QUOTED = re.compile(r"([\"'])([\w.-]+)\1\s*:\s*([\"'])((?:\\.|(?!\3)[^\\])*)\3")
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|x-auth-token)(\s*:[ \t]*)(\S[^\r\n]*)", re.IGNORECASE
)
_FREE_TEXT = ("error", "observed", "text", "detail", "facts")  # the fields of rows that people and servers write

R = TypeVar("R", bound=msgspec.Struct)


def looks_secret(name: str) -> bool:
    """Whether a value with this name is not for everyone."""
    squeezed = re.sub(r"[^a-z0-9]", "", name.lower())
    words = {word.lower() for word in _SPLIT.split(name)}
    return bool(words & _WORDS) or any(part in squeezed for part in _PARTS)


def mask_shapes(text: str) -> str:
    """Cover what looks like a secret by itself: credentials in URLs, `Bearer …`, `password=…`, headers. Idempotent."""
    if "@" in text:
        text = _URL_USER.sub(f"{MASK}@", text)
    if ":" in text:
        text = _QUOTED.sub(_quoted, text)
    if "=" in text:
        text = _ASSIGNED.sub(lambda m: f"{m[1]}={_covered(m[1], m[2])}", text)
    if "-" in text:
        text = _OPTION.sub(lambda m: f"{m[0][: -len(m[2])]}{_covered(m[1], m[2])}", text)
    if ":" in text:
        text = _HEADER.sub(lambda m: f"{m[1]}{m[2]}{MASK}", text)
    return _SCHEME.sub(lambda m: f"{m[1]} {MASK}", text)


def _covered(name: str, value: str) -> str:
    return MASK if looks_secret(name) and not _PLACEHOLDER.fullmatch(value) else value


def _quoted(match: re.Match[str]) -> str:
    if _covered(match[2], match[4]) == match[4]:
        return match[0]
    return f"{match[0][: match.start(4) - match.start(0)]}{MASK}{match[3]}"


@dataclass(frozen=True)
class Secrets:
    """The secret values that are known of a run; without any, only shapes are covered."""

    values: frozenset[str] = frozenset()

    @cached_property
    def _known(self) -> re.Pattern[str] | None:
        forms = {form for value in self.values for form in (value, quote(value, safe=""), json.dumps(value)[1:-1])}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        return re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def text(self, text: str) -> str:
        """The text with every secret covered."""
        return mask_shapes(self._known.sub(MASK, text) if self._known else text)

    def tree(self, data: Any) -> Any:
        """Mappings, lists and texts with every secret covered; names and the shape stay, all else is left alone."""
        if isinstance(data, Mapping):
            return {key: self._value(str(key), value) for key, value in data.items()}
        if isinstance(data, list | tuple):
            return [self.tree(item) for item in data]
        return self.text(data) if isinstance(data, str) else data

    def _value(self, name: str, value: Any) -> Any:
        if looks_secret(name) and isinstance(value, str | int | float) and not isinstance(value, bool):
            return value if _PLACEHOLDER.fullmatch(str(value)) else MASK
        return self.tree(value)

    def row(self, row: R) -> R:
        """A row of history with its free text covered; what the judge reads stays as it is."""
        found = {name: value for name in _FREE_TEXT if (value := getattr(row, name, None))}
        return msgspec.structs.replace(row, **{name: self.tree(value) for name, value in found.items()}) if found else row


def gather(trees: Iterable[Any], names: Iterable[str] = (), expand: Callable[[str], str] = str) -> Secrets:
    """The secrets that stand in these data. `names`: what must stay readable; `expand` fills in what a value refers to."""
    readable = "\n".join(names)
    found = {piece for tree in trees for value in _values(tree, expand) for piece in _pieces(value)}
    return Secrets(frozenset(piece for piece in found if len(piece) >= SHORTEST and piece not in readable))


def _values(data: Any, expand: Callable[[str], str]) -> Iterator[str]:
    """Every secret value in a tree."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            if looks_secret(str(name)) and isinstance(value, str | int | float):
                yield expand(str(value))
            yield from _values(value, expand)
    elif isinstance(data, list | tuple):
        for item in data:
            yield from _values(item, expand)
    elif isinstance(data, str):
        yield from _shaped(expand(data))


def _shaped(text: str) -> Iterator[str]:
    """What `mask_shapes` would cover."""
    for user in _URL_USER.findall(text):
        yield user
        yield user.partition(":")[2]
    yield from (
        value.strip("'\"") for pattern in (_ASSIGNED, _OPTION) for name, value in pattern.findall(text) if looks_secret(name)
    )
    yield from (value for _, name, _, value in _QUOTED.findall(text) if looks_secret(name))
    yield from (value for _, value in _SCHEME.findall(text))
    yield from (value for _, _, value in _HEADER.findall(text))


def _pieces(value: str) -> Iterator[str]:
    """A value as it may turn up elsewhere: whole, line by line, without its scheme, each cookie by itself."""
    for line in (value, *value.splitlines()):
        if _PLACEHOLDER.fullmatch(line):
            continue
        yield line.strip()
        scheme, _, rest = line.strip().partition(" ")
        if scheme.lower() in ("bearer", "basic", "digest", "token"):
            yield rest.strip()
        if "=" in line:
            yield from (pair.partition("=")[2].strip() for pair in line.split(";"))
