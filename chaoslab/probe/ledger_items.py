"""The ids, and hashes where there are any, in what a read of a ledger returned. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jmespath

from chaoslab.errors import SpecError
from chaoslab.probe.plan import LedgerTarget

Items = list[tuple[str, str | None]]


class NoLedger(ValueError):
    """What was read holds no list of ids."""


class ItemsReader:
    """Finds the items of one journey's ledger."""

    def __init__(self, ledger: LedgerTarget, journey: str) -> None:
        """Raises SpecError when `items` or `next` is not JMESPath, or `pattern` no regular expression."""
        try:
            self._items = jmespath.compile(ledger.items) if ledger.items else None
            self._next = jmespath.compile(ledger.next) if ledger.next else None
            self._pattern = re.compile(ledger.pattern) if ledger.pattern else None
        except (jmespath.exceptions.JMESPathError, re.error) as error:
            raise SpecError(f"{journey}: ledger items: {error}") from error

    @property
    def wants_text(self) -> bool:
        """Whether ids are taken out of the whole answer as text."""
        return self._items is None and self._pattern is not None

    def items(self, answer: Any) -> Items:
        """Raises NoLedger for anything but a list of texts or objects, or an object of id to hash."""
        try:
            found = self._items.search(answer) if self._items is not None else answer
        except jmespath.exceptions.JMESPathError as error:
            raise NoLedger(str(error)) from error
        if self._pattern is not None:
            matches = [match for text in _texts(found) for match in self._pattern.finditer(text)]
            named = [(match.groupdict(), match[1 if match.re.groups else 0]) for match in matches]
            ids = [(groups.get("id") or first, groups.get("hash")) for groups, first in named]
            if any(id_ is None for id_, _ in ids):
                raise NoLedger("an id is needed, and the pattern matched without one")
            return ids
        if isinstance(found, Mapping):
            return [(str(id_), None if hash_ is None else str(hash_)) for id_, hash_ in found.items()]
        if not isinstance(found, list | tuple):
            raise NoLedger(f"a list or an object of ids is needed, not {type(found).__name__}")
        return [_item(each) for each in found]

    def next_page(self, answer: Any) -> str | None:
        """What leads to the next page; None when this is the last one. Raises NoLedger when that cannot be told."""
        try:
            found = self._next.search(answer) if self._next is not None else None
        except jmespath.exceptions.JMESPathError as error:
            raise NoLedger(f"next: {error}") from error
        return str(found) if found not in (None, "", False) else None


def _item(each: Any) -> tuple[str, str | None]:
    if isinstance(each, str | int):
        return str(each), None
    if isinstance(each, Mapping) and each.get("id") is not None:
        hash_ = each.get("hash")
        return str(each["id"]), None if hash_ is None else str(hash_)
    if isinstance(each, list | tuple) and 1 <= len(each) <= 2:
        return str(each[0]), None if len(each) < 2 or each[1] is None else str(each[1])
    raise NoLedger(f"an id, or an object with an id, is needed, not {each!r:.80}")


def _texts(found: Any) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, Mapping | list | tuple):
        for each in found.values() if isinstance(found, Mapping) else found:
            yield from _texts(each)
    else:
        raise NoLedger(f"text is needed, not {type(found).__name__}")
