"""The base of all models that users write, and their plain values.

Durations are seconds (`_s`), shares run from 0 to 1, thresholds are `units.Threshold`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Strict

Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Flag = Annotated[bool, Strict()]
Status = Annotated[int, Strict(), Field(ge=100, le=599)]


class Model(BaseModel):
    """Base of everything a person writes: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
