"""`--set load.users=5`: change one value of a spec from the command line, before anything is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaoslab.spec.yaml.problems import KeyPath, Place, Problem, SpecErrors, shorten
from chaoslab.spec.yaml.source import Document, Span, parse_value

_PARTS_MAX = 12


def apply_overrides(document: Document, overrides: Mapping[str, str]) -> None:
    """Put the values into the document; what is wrong with one is added to its problems and names `--set`.

    Keys are dotted paths, items of lists by number from 0; values are YAML. Relative paths mean what they mean in the file.
    """
    for dotted, text in overrides.items():
        source = f"--set {shorten(f'{dotted}={text}', 80)[1:-1]}"
        try:
            value, place = parse_value(text, source) if text.strip() else None, Place(source)
            words = dotted.split(".")
            if not all(words) or len(words) > _PARTS_MAX:
                raise _wrong(place, "write a dotted path and a value, such as --set load.users=5")
            holder: Any = document.data
            path: KeyPath = ()
            for word in words[:-1]:
                step = _step(holder, word, path, place)
                found = holder.get(step) if isinstance(holder, dict) else holder[step]
                if not isinstance(found, dict | list):
                    holder[step] = {}
                    document.spans[*path, step] = Span(place, place)
                path, holder = (*path, step), holder[step]
            last = _step(holder, words[-1], path, place)
        except SpecErrors as refused:
            document.problems.extend(refused.problems)
            continue
        holder[last], path = value, (*path, last)
        replaced = [known for known in document.spans if known[: len(path)] == path]  # with what was wrong there
        places = {document.spans.pop(known).value for known in replaced}
        document.problems[:] = [problem for problem in document.problems if problem.place not in places]
        document.spans[path] = Span(place, place)


def _step(holder: Any, word: str, path: KeyPath, place: Place) -> str | int:
    if isinstance(holder, dict):
        return word
    name = ".".join(str(part) for part in path)
    if word.isascii() and word.isdigit() and len(word) < 6 and int(word) < len(holder):
        return int(word)
    count = f"it has items 0 to {len(holder) - 1}" if holder else "it has no items"
    raise _wrong(place, f"{name} is a list and has no item {shorten(word)}; {count}")


def _wrong(place: Place, message: str) -> SpecErrors:
    return SpecErrors([Problem.at(place, message, "set.path")])
