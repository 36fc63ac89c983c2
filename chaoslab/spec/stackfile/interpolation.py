"""Compose's `${VAR:-default}` interpolation, with addresses and folders filled in by meaning. Pure.

An interpolation whose default reads `replica:port`, `0.0.0.0:port` or a folder of a volume names what it stands for;
Compose uses the default, the embedded runtime puts the local value there. Everything else is expanded as usual.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from expandvars import ExpandvarsException, expand

from chaoslab.errors import StackError

Resolve = Callable[[str], str | None]  # the default of an interpolation -> what to put there, or None to leave it

_WITH_DEFAULT = re.compile(r"(?<!\$)\$\{\w+:-([^${}]*)\}")


def defaults_in(text: str) -> list[str]:
    """The defaults of all interpolations of a text, in order."""
    return _WITH_DEFAULT.findall(text)


def interpolate(text: str, resolve: Resolve, environ: Mapping[str, str]) -> str:
    """Fill in what `resolve` knows, then expand the rest from `environ`. `$$` is a literal dollar.

    Raises StackError when a required variable is missing or the syntax is broken.
    """

    def fill(match: re.Match[str]) -> str:
        value = resolve(match.group(1))
        return match.group(0) if value is None else value

    filled = _WITH_DEFAULT.sub(fill, text)
    try:
        return "$".join(str(expand(part, environ=dict(environ))) for part in filled.split("$$"))
    except ExpandvarsException as broken:
        raise StackError(f"cannot interpolate {text!r}: {broken}") from broken
