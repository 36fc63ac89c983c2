"""Checks of JMESPath, regular expressions and placeholders in texts of a stack. Pure; reports, never raises."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

import jmespath
from jmespath.exceptions import EmptyExpressionError, IncompleteExpressionError, JMESPathError, LexerError, ParseError

from chaoslab.spec.yaml.problems import shorten, suggest
from chaoslab.spec.yaml.report import Report

_FIELD = re.compile(r"\{([A-Za-z_]+)\}")


def check_fields(value: Any, known: Collection[str], report: Report) -> None:
    """Each `{field}` in the strings of a value is one that is filled in."""
    for name in (name for text in texts_in(value) for name in _FIELD.findall(text)):
        if name not in known:
            report((), f"{{{name}}} is not a known placeholder{suggest(name, known)}", "stack.field-unknown")


def check_pattern(text: str, report: Report) -> None:
    """A regular expression."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as broken:
        report((), f"{shorten(text)} is not a valid regular expression: {broken}", "stack.pattern")


def check_expression(text: str, report: Report, key: str) -> None:
    """JMESPath, under a key of what the report is about."""
    try:
        jmespath.compile(text)
        return
    except EmptyExpressionError:
        why = "it is empty"
    except IncompleteExpressionError:
        why = "it ends too early"
    except LexerError as broken:
        why = f"it is invalid from character {broken.lexer_position + 1} on"
    except ParseError as broken:
        why = f"{shorten(str(broken.token_value))} is out of place at character {broken.lex_position + 1}"
    except (JMESPathError, ValueError, RecursionError):
        why = "it is nested too deeply, or has a number out of range"
    report((key,), f"{key} is not a valid JMESPath expression: {why}", "stack.expression")


def texts_in(value: Any) -> Iterator[str]:
    """Every string inside a JSON-like value, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_in(item)
