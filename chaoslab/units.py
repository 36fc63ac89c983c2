"""Quantities as people write them: "30s", "250ms", "1m30s", "99.9%", "< 45s".

Pure; everything raises ValueError with a sentence that says what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Unit = Literal["s", "ratio", "count"]
Operator = Literal["<", "<=", ">", ">=", "=="]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_THRESHOLD = re.compile(r"^\s*(<=|>=|==|<|>)?\s*(.+?)\s*$")
_HOLDS: dict[Operator, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
}


def parse_duration_s(text: str) -> float:
    """Seconds in a duration such as "250ms", "30s" or "1m30s"; zero may go without a unit."""
    stripped = text.strip()
    if stripped == "0":
        return 0.0
    parts = list(_DURATION_PART.finditer(stripped))
    if not parts or "".join(part.group(0) for part in parts) != stripped:
        raise ValueError(f"{text!r} is not a duration; write a number with its unit, such as 250ms, 30s, 2m or 1m30s")
    return sum(float(part.group(1)) * _SECONDS[part.group(2)] for part in parts)


def parse_ratio(text: str) -> float:
    """Share between 0 and 1 in a percentage such as "99.9%"."""
    stripped = text.strip()
    try:
        percent = float(stripped.removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not stripped.endswith("%") or not 0 <= percent <= 100:
        raise ValueError(f"{text!r} is not a percentage from 0% to 100%, such as 99.9%")
    return percent / 100


def format_s(seconds: float) -> str:
    """A duration for people: `24.1 s`, `250 ms`."""
    return f"{seconds * 1000:.0f} ms" if 0 < abs(seconds) < 1 else f"{seconds:.1f} s"


@dataclass(frozen=True)
class Threshold:
    """A comparison with a quantity, such as "< 45s": `value` is in seconds, a share from 0 to 1, or a plain number."""

    operator: Operator
    value: float
    unit: Unit
    text: str

    def holds(self, measured: float) -> bool:
        """Whether `measured`, in the same unit, satisfies the comparison."""
        return _HOLDS[self.operator](measured, self.value)

    def __str__(self) -> str:
        return self.text


def parse_threshold(raw: str | float, *, unit: Unit, default: Operator) -> Threshold:
    """Read "< 45s", "> 99.9%", "0"; without an operator `default` applies."""
    match = _THRESHOLD.match(str(raw))
    if match is None:
        raise ValueError("empty; write a comparison such as '< 45s'")
    operator: Operator = match.group(1) or default  # type: ignore[assignment]
    text = match.group(2)
    if unit == "count":
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a number") from None
    else:
        value = parse_duration_s(text) if unit == "s" else parse_ratio(text)
    return Threshold(operator, value, unit, f"{operator} {text}")
