"""How plain YAML scalars are read: as in YAML 1.2, and how YAML 1.1 would have read them. Pure."""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

_NULL = ("", "~", "null", "Null", "NULL")
_BOOL = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_BOOL_1_1 = re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_INT = re.compile(r"[-+]?(0|[1-9]\d*)")
_FLOAT = re.compile(r"[-+]?(\.\d+|\d+\.\d*|\d+(?=[eE]))([eE][-+]?\d+)?")
_OCTAL = re.compile(r"[-+]?0o?\d[\d_]*")
_BASED = re.compile(r"[-+]?0[bx][0-9a-fA-F_]+|[-+]?\d+(_\d+)+")
_SEXAGESIMAL = re.compile(r"[-+]?\d+(:[0-5]?\d)+(\.\d*)?")
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?([Tt ].*)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
DIGITS_MAX = 18


def read_plain(text: str) -> Scalar:
    """The value of an unquoted word in YAML 1.2. Numbers that no machine word holds stay text."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text) if len(text) <= DIGITS_MAX else text
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def surprise(text: str) -> str | None:
    """Why an unquoted word is not what it looks like, with the cure; None when it is."""
    quoted, meant = f"or put it in quotes: '{text}'", "true" if text.lower() in ("yes", "on") else "false"
    read_as = f"unquoted {text} is read as"
    for pattern, why in (
        (_BOOL_1_1, f"{read_as} {meant} by many YAML readers; write {meant}, {quoted}"),
        (_SEXAGESIMAL, f"{read_as} a number in base 60 by many YAML readers; write a duration such as 90s, {quoted}"),
        (_OCTAL, f"{read_as} an octal number by many YAML readers; leave out the leading zero, {quoted}"),
        (_BASED, f"unquoted {text} is not a plain decimal number; write it in digits only, {quoted}"),
        (_DATE, f"{read_as} a date by many YAML readers; put it in quotes: '{text}'"),
        (_NOT_FINITE, f"{text} is not a finite number; write a finite one"),
    ):
        if pattern.fullmatch(text):
            return why
    if (_INT.fullmatch(text) or _FLOAT.fullmatch(text)) and isinstance(read_plain(text), str):
        shown = text if len(text) <= 20 else f"{text[:17]}…"
        return f"the number {shown} is too large; a number may have at most {DIGITS_MAX} digits"
    return None
