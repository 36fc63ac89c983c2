"""Secrets, and how they are redacted: by name, by shape, and wherever their values recur.

A value is a secret if its name implies it (`PASSWORD`, `X-Api-Key`, `Authorization`) or if it is the `user:password` of a URL.
It is redacted in place regardless of its length, and in free text from `SHORTEST` characters on: shorter ones would hide
ordinary words. A value that is itself a word, such as `postgres`, is redacted only as a whole word, and not where the text
names a user, a database or a host. A value that is also part of a name in the spec, or the name of a user, database or host
there, is not redacted in free text. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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
_LISTED = re.compile(r"([\"'])--?([A-Za-z][\w-]*)\1\s*,\s*([\"'])((?:\\.|(?!\3)[^\\])*)\3")  # arguments, one by one
_SQL = re.compile(r"\b(?:password|identified by)\s+(['\"])((?:\1\1|(?!\1).)+)\1", re.IGNORECASE)
_OPTION_NAME = re.compile(r"--?([A-Za-z][\w-]*)")
_OF_PLACES = ("file", "path", "dir", "folder", "env")  # ends of options that say where a secret is
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|x-auth-token)(\s*:[ \t]*)(\S[^\r\n]*)", re.IGNORECASE
)
_WORD = re.compile(r"[A-Za-z]+\d{0,4}")  # a value of this shape may stand inside words that are no secret
_WORD_MAX = 16
_NAMED = re.compile(r"(?:user|username|role|owner|database|db|dbname|host|hostname)[\"']?\s*[=:]?\s*[\\\"']*$", re.IGNORECASE)
_NAMED_REACH = 24  # characters before a value in which such a word stands
_OF_NAMES = ("user", "username", "role", "database", "dbname", "host", "hostname")  # ends of what names a value that is none
_URL_NAMES = re.compile(r"://([^:/@\s]+):[^@/\s]*@([^:/@\s]+)(?::\d+)?(?:/([\w-]+))?")
_FREE_TEXT = ("error", "observed", "text", "detail", "facts")  # the fields of rows that people and servers write

R = TypeVar("R", bound=msgspec.Struct)


def looks_secret(name: str) -> bool:
    """Whether a value with this name is a secret."""
    squeezed = re.sub(r"[^a-z0-9]", "", name.lower())
    words = {word.lower() for word in _SPLIT.split(name)}
    return bool(words & _WORDS) or any(part in squeezed for part in _PARTS)


def mask_shapes(text: str) -> str:
    """Redact what looks like a secret: credentials in URLs, `Bearer …`, `password=…`, headers. Idempotent."""
    if "@" in text:
        text = _URL_USER.sub(f"{MASK}@", text)
    if ":" in text:
        text = _QUOTED.sub(lambda m: f"{m[0][: m.start(4) - m.start(0)]}{_redacted(m[2], m[4])}{m[3]}", text)
    if "=" in text:
        text = _ASSIGNED.sub(lambda m: f"{m[1]}={_redacted(m[1], m[2])}", text)
    if "-" in text:
        text = _OPTION.sub(lambda m: f"{m[0][: -len(m[2])]}{_redacted(m[1], m[2])}", text)
        text = _LISTED.sub(lambda m: f"{m[0][: m.start(4) - m.start(0)]}{_redacted(_value_of(m[2]), m[4])}{m[3]}", text)
    if ":" in text:
        text = _HEADER.sub(lambda m: f"{m[1]}{m[2]}{MASK}", text)
    if "'" in text or '"' in text:
        text = _SQL.sub(lambda m: f"{m[0][: m.start(2) - m.start(0)]}{MASK}{m[1]}", text)
    return _SCHEME.sub(lambda m: f"{m[1]} {MASK}", text)


def _value_of(option: str) -> str:
    """What the argument after an option goes by: nothing where it says where the secret is."""
    return "" if option.endswith(_OF_PLACES) else option


def _arguments(words: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    """The items of a list, each with what it goes by as the argument of the option before it; mostly nothing."""
    name = ""
    for word in words:
        option = _OPTION_NAME.fullmatch(word) if isinstance(word, str) else None
        yield word, name if option is None else ""
        name = _value_of(option[1]) if option is not None else ""


def _redacted(name: str, value: str) -> str:
    return MASK if looks_secret(name) and not _PLACEHOLDER.fullmatch(value) else value


@dataclass(frozen=True)
class Secrets:
    """The secret values that are known of a run; without any, only shapes are covered.

    `told`: by the name of each secret, where its value is covered, in words.
    """

    values: frozenset[str] = frozenset()
    told: Mapping[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def _known(self) -> re.Pattern[str] | None:
        forms = {form for value in self.values for form in (value, quote(value, safe=""), json.dumps(value)[1:-1])}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        bordered = (rf"\b{re.escape(form)}\b" if _is_word(form) else re.escape(form) for form in longest_first)
        return re.compile("|".join(bordered)) if forms else None

    def summary(self) -> dict[str, str]:
        """What is covered: the names of secrets, by where their values are covered."""
        hows = sorted(set(self.told.values()))
        return {how: ", ".join(sorted(name for name, own in self.told.items() if own == how)) for how in hows}

    def text(self, text: str) -> str:
        """The text with every secret redacted."""

        def covered(found: re.Match[str]) -> str:
            before = text[max(0, found.start() - _NAMED_REACH) : found.start()]
            return found[0] if _is_word(found[0]) and _NAMED.search(before) else MASK

        return mask_shapes(self._known.sub(covered, text) if self._known else text)

    def tree(self, data: Any, name: str = "") -> Any:
        """Mappings, lists and texts with every secret redacted; names and the shape stay, all else is left alone.

        `name`: by which these data go, where they have one.
        """
        if name and isinstance(data, str | int | float) and not isinstance(data, bool) and looks_secret(name):
            return data if _PLACEHOLDER.fullmatch(str(data)) else MASK
        if isinstance(data, Mapping):
            return {key: self.tree(value, str(key)) for key, value in data.items()}
        if isinstance(data, list | tuple):
            return [self.tree(item, name) for item, name in _arguments(data)]
        return self.text(data) if isinstance(data, str) else data

    def row(self, row: R) -> R:
        """A row of history with its free text redacted; what the judge reads stays as it is."""
        found = {name: value for name in _FREE_TEXT if (value := getattr(row, name, None))}
        return msgspec.structs.replace(row, **{name: self.tree(value) for name, value in found.items()}) if found else row


def _is_word(value: str) -> bool:
    return len(value) <= _WORD_MAX and _WORD.fullmatch(value) is not None


def gather(trees: Iterable[Any], names: Iterable[str] = (), expand: Callable[[str], str] = str) -> Secrets:
    """The secrets that stand in these data. `names`: what must stay readable; `expand` fills in what a value refers to.

    Each is gathered in the forms in which it may turn up elsewhere: whole, line by line, without its scheme, as single cookies.
    """
    trees = list(trees)
    readable, named = "\n".join(names), {name for tree in trees for name in _names_in(tree, expand)}
    covered: set[str] = set()
    told: dict[str, str] = {}
    for secret, value in (pair for tree in trees for pair in _values(tree, expand)):
        for piece in _pieces(value):
            if piece in readable or piece in named:
                told[secret] = "in its place alone: the same is a name elsewhere"
            elif len(piece) < SHORTEST:
                told.setdefault(secret, f"in its place alone: it is shorter than {SHORTEST} characters")
            else:
                covered.add(piece)
                told[secret] = "as a whole word, but not as a user, a database or a host" if _is_word(piece) else "everywhere"
    return Secrets(frozenset(covered), told)


def _pieces(value: str) -> Iterator[str]:
    """A value in the forms in which it may turn up elsewhere."""
    for line in dict.fromkeys((value, *value.splitlines())):
        if _PLACEHOLDER.fullmatch(line):
            continue
        yield line.strip()
        scheme, _, rest = line.strip().partition(" ")
        if scheme.lower() in ("bearer", "basic", "digest", "token"):
            yield rest.strip()
        if "=" in line:
            yield from (pair.partition("=")[2].strip() for pair in line.split(";"))


def _names_in(data: Any, expand: Callable[[str], str]) -> Iterator[str]:
    """The values that name a user, a database or a host."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            squeezed = re.sub(r"[^a-z0-9]", "", str(name).lower())
            names_one = squeezed.endswith(_OF_NAMES) or str(name).lower().endswith("_db") or squeezed == "db"
            if isinstance(value, str) and names_one and not looks_secret(str(name)):
                yield expand(value)
            yield from _names_in(value, expand)
    elif isinstance(data, list | tuple):
        for item in data:
            yield from _names_in(item, expand)
    elif isinstance(data, str):
        for found in _URL_NAMES.findall(expand(data)):
            yield from filter(None, found)


def _values(data: Any, expand: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Every secret value in a tree, and what it goes by: by its name, or because `mask_shapes` would redact it."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            if looks_secret(str(name)) and isinstance(value, str | int | float):
                yield str(name), expand(str(value))
            yield from _values(value, expand)
    elif isinstance(data, list | tuple):
        for item, name in _arguments(data):
            if looks_secret(name) and isinstance(item, str | int | float):
                yield name, expand(str(item))
            yield from _values(item, expand)
    elif isinstance(data, str):
        text = expand(data)
        yield from (("password in SQL", value) for _, value in _SQL.findall(text))
        for user in _URL_USER.findall(text):
            yield "credentials in a URL", user
            yield "credentials in a URL", user.partition(":")[2]
        for pattern in (_ASSIGNED, _OPTION):
            yield from ((name, value.strip("'\"")) for name, value in pattern.findall(text) if looks_secret(name))
        yield from ((name, value) for _, name, _, value in _QUOTED.findall(text) if looks_secret(name))
        yield from _SCHEME.findall(text)
        yield from ((name, value) for name, _, value in _HEADER.findall(text))
