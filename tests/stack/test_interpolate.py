"""Interpolation fills addresses and folders in by meaning and leaves the rest to Compose's rules."""

import pytest

from chaoslab.errors import StackError
from chaoslab.spec.stackfile.interpolation import defaults_in, interpolate

KNOWN = {"pg:5432": "127.0.0.1:9", "/data/x": "/tmp/run/x"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("postgresql://${PG:-pg:5432}/talk", "postgresql://127.0.0.1:9/talk"),
        ("${A:-pg:5432},${B:-pg:5432}", "127.0.0.1:9,127.0.0.1:9"),
        ("${DIR:-/data/x}/file", "/tmp/run/x/file"),
        ("${LEVEL:-warn}", "warn"),
        ("${SET:-warn}", "loud"),
        ("$SET and ${SET}", "loud and loud"),
        ("costs 5$$", "costs 5$"),
        ("$${PG:-pg:5432}", "${PG:-pg:5432}"),
        ("${PG:-other:1}", "other:1"),
    ],
)
def test_fills_what_it_knows_and_expands_the_rest(text: str, filled: str) -> None:
    """Defaults that mean an address or a folder get the local value; all else is standard interpolation."""
    assert interpolate(text, KNOWN.get, {"SET": "loud"}) == filled


def test_an_address_wins_over_the_callers_environment() -> None:
    """A variable of the user's shell cannot redirect traffic past a link."""
    assert interpolate("${PG:-pg:5432}", KNOWN.get, {"PG": "elsewhere:1"}) == "127.0.0.1:9"


@pytest.mark.parametrize("text", ["${MISSING:?say it}", "${OPEN"])
def test_broken_text_is_an_error_that_shows_it(text: str) -> None:
    """A required variable that is missing, or broken syntax, names the text."""
    with pytest.raises(StackError, match="cannot interpolate"):
        interpolate(text, KNOWN.get, {})


def test_defaults_are_listed_in_order() -> None:
    """The wiring asks which addresses a text speaks of."""
    assert defaults_in("${A:-pg:1} ${B:-x} $${C:-no}") == ["pg:1", "x"]
