"""The payload of a write, and how a request template becomes one request. Pure and deterministic.

Templates may hold placeholders such as {id} {writer} {seq} {payload} {hash} {after} inside any string; a string that is a
number's placeholder and nothing else becomes that number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
Values = Mapping[str, str | int]


def write_id(writer: str, seq: int) -> str:
    """The unique name of one write."""
    return f"{writer}-{seq}"


def payload_of(id_: str) -> str:
    """What the write with this id carries: text that no other write has."""
    return f"{id_}:{hashlib.sha256(id_.encode()).hexdigest()}"


def hash_of(payload: str) -> str:
    """SHA-256 of a payload as stored, in hex."""
    return hashlib.sha256(payload.encode()).hexdigest()


def write_values(writer: str, seq: int) -> Values:
    """All that a write's template may refer to."""
    payload = payload_of(write_id(writer, seq))
    return {"id": write_id(writer, seq), "writer": writer, "seq": seq, "payload": payload, "hash": hash_of(payload)}


def is_template(template: Any) -> bool:
    """Whether some string inside holds a placeholder."""
    if isinstance(template, str):
        return _PLACEHOLDER.search(template) is not None
    if isinstance(template, Mapping):
        return any(is_template(part) for item in template.items() for part in item)
    return isinstance(template, list) and any(is_template(part) for part in template)


def fill(template: Any, values: Values) -> Any:
    """The template with its placeholders replaced, also inside objects and lists. A placeholder without a value stays."""
    if isinstance(template, str):
        return _fill_text(template, values)
    if isinstance(template, Mapping):
        return {str(_fill_text(str(key), values)): fill(part, values) for key, part in template.items()}
    return [fill(part, values) for part in template] if isinstance(template, list) else template


def fill_path(path: str, values: Values) -> str:
    """A path or query with its placeholders replaced, percent-encoded."""
    return _PLACEHOLDER.sub(lambda match: quote(str(values.get(match[1], match[0])), safe=""), path)


def fill_texts(texts: Sequence[str], values: Values) -> list[str]:
    """Each of these with its placeholders replaced, as text."""
    return [str(_fill_text(text, values)) for text in texts]


def parameters(statement: str, values: Values, mark: Callable[[int, str], str]) -> tuple[str, list[str]]:
    """A statement whose placeholders are marks of parameters, and the names of these in the order of their numbers, from 1.

    `mark`: by its number and its name. Placeholders without a value stay.
    """
    names: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        if match[1] not in values:
            return match[0]
        if match[1] not in names:
            names.append(match[1])
        return mark(names.index(match[1]) + 1, match[1])

    return _PLACEHOLDER.sub(replaced, statement), names


def _fill_text(text: str, values: Values) -> str | int:
    whole = _PLACEHOLDER.fullmatch(text)
    if whole:
        return values.get(whole[1], text)
    return _PLACEHOLDER.sub(lambda match: str(values.get(match[1], match[0])), text)
