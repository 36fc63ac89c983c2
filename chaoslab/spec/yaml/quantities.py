"""The field types of the spec: durations, shares and thresholds, each with its text form and its JSON Schema. Pure.

Every error is a sentence with what would be right; a value serialises to text that reads back as the same value.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from chaoslab.units import Operator, Threshold, Unit, parse_duration_s, parse_ratio, parse_threshold

LONGEST_S = 7 * 24 * 3600.0
_DURATION = r"(\d+(\.\d+)?(ms|s|m|h))+"
_PERCENT = r"\d+(\.\d+)?%"
_CONFUSED = "write a number with its unit, such as 250ms, 30s, 2m or 1m30s"


def duration_s(raw: Any) -> float:
    """Seconds in what a person wrote. Raises ValueError."""
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise ValueError(f"a duration is needed here; {_CONFUSED}")
    if isinstance(raw, str):
        if raw.strip().startswith("-"):
            raise ValueError(f"{raw!r} is negative; a duration counts forward, such as 30s")
        seconds = parse_duration_s(raw)
        if not seconds <= LONGEST_S:
            raise ValueError(f"{_shown(raw)} is longer than a week")
        return seconds
    if raw == 0:
        return 0.0
    raise ValueError(
        f"{raw} has no unit; {_CONFUSED}" if raw > 0 else f"{raw} is negative; a duration counts forward, such as 30s"
    )


def duration_text(seconds: float) -> str:
    """Text that reads as exactly these seconds."""
    return f"{Decimal(repr(float(seconds))):f}".removesuffix(".0") + "s"


def _shown(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 40 else f"{text[:37]}...'"


def _ratio(raw: Any) -> float:
    if raw == 0 or (isinstance(raw, float) and 0 <= raw <= 1):  # a whole 1 could mean 1% or all of it
        return float(raw)
    if isinstance(raw, str):
        return parse_ratio(raw)
    raise ValueError("a percentage from 0% to 100% is needed here, such as 15%")


class _ThresholdReader:
    """Reads a threshold of one unit that limits from above (`<`) or from below (`>`)."""

    def __init__(self, unit: Unit, side: Literal["<", ">"]) -> None:
        self.unit, self.side = unit, side
        self.example = {"s": f"{side} 45s", "ratio": f"{side} 99.9%", "count": f"{side} 10"}[unit]

    def __call__(self, raw: Any) -> Threshold:
        if isinstance(raw, Threshold):
            return raw
        if isinstance(raw, bool) or not isinstance(raw, str | int | float) or not str(raw).strip():
            raise ValueError(f"a comparison is needed here, such as '{self.example}'")
        default: Operator = "<=" if self.side == "<" else ">="
        read = parse_threshold(raw, unit=self.unit, default=default)
        if not read.operator.startswith(self.side):
            raise ValueError(f"{read.text!r} points the wrong way; write a comparison such as '{self.example}'")
        if read.operator == "<" and read.value == 0:
            raise ValueError(f"{read.text!r} can never hold; write 0 to allow none at all")
        if read.operator == ">" and read.value == 1 and self.unit == "ratio":
            raise ValueError(f"{read.text!r} can never hold; write '>= 100%'")
        if self.unit == "count" and not read.value.is_integer():
            raise ValueError(f"{_shown(read.text)} is not a whole number")
        if not math.isfinite(read.value) or (self.unit == "s" and read.value > LONGEST_S):
            raise ValueError(f"{_shown(read.text)} is out of range; nothing here lasts longer than a week")
        return read


_AS_TEXT = PlainSerializer(str, return_type=str, when_used="json")
_ZERO = {"const": 0}


def _schema(*options: dict[str, Any], examples: list[Any], description: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": list(options), "examples": examples, "description": description})


def _text(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{pattern}$"}


Seconds = Annotated[
    float,
    BeforeValidator(duration_s),
    PlainSerializer(duration_text, return_type=str, when_used="json"),
    _schema(_text(_DURATION), _ZERO, examples=["250ms", "30s", "1m30s"], description="A duration: a number with its unit."),
]
RECOVERED: Final = "recovered"


def _heal_after(raw: Any) -> float | str:
    if raw == RECOVERED:
        return RECOVERED
    try:
        return duration_s(raw)
    except ValueError as wrong:
        is_word = isinstance(raw, str) and raw[:1].isalpha()
        raise ValueError(f"{wrong}; or write {RECOVERED}" if is_word else str(wrong)) from None


HealAfter = Annotated[
    float | Literal["recovered"],
    BeforeValidator(_heal_after),
    PlainSerializer(lambda value: value if value == RECOVERED else duration_text(value), return_type=str, when_used="json"),
    _schema(
        _text(_DURATION),
        _ZERO,
        {"const": RECOVERED},
        examples=["30s", RECOVERED],
        description="A duration, or `recovered`: once every service with an RTO is back, or has missed it.",
    ),
]
Ratio = Annotated[
    float,
    BeforeValidator(_ratio),
    _schema(
        _text(_PERCENT),
        {"type": "number", "minimum": 0, "maximum": 1},
        examples=["15%"],
        description="A share, as a percentage.",
    ),
]
UnderSeconds = Annotated[
    Threshold,
    BeforeValidator(_ThresholdReader("s", "<")),
    _AS_TEXT,
    _schema(
        _text(rf"\s*(<=?)?\s*(0|{_DURATION})\s*"),
        _ZERO,
        examples=["< 45s", 0],
        description="A limit from above on a duration.",
    ),
]
UnderCount = Annotated[
    Threshold,
    BeforeValidator(_ThresholdReader("count", "<")),
    _AS_TEXT,
    _schema(
        _text(r"\s*(<=?)?\s*\d+\s*"),
        {"type": "integer", "minimum": 0},
        examples=[0, "< 10"],
        description="A limit from above on a number.",
    ),
]
OverRatio = Annotated[
    Threshold,
    BeforeValidator(_ThresholdReader("ratio", ">")),
    _AS_TEXT,
    _schema(_text(rf"\s*(>=?)?\s*{_PERCENT}\s*"), examples=["> 99.9%"], description="A limit from below on a share."),
]


def _unaffected(raw: Any) -> bool | Literal["allowed"]:
    if isinstance(raw, bool):
        return raw
    if raw == "allowed":
        return "allowed"
    raise ValueError(f"true (a claim), allowed (either is accepted) or false is needed here, not {_shown(raw)}")


Unaffected = Annotated[
    bool | Literal["allowed"],
    BeforeValidator(_unaffected),
    WithJsonSchema({"enum": [True, False, "allowed"], "description": "Whether the service is meant not to notice a fault."}),
]
Texts = BeforeValidator(lambda raw: [raw] if isinstance(raw, str) else raw)
