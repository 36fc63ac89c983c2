"""What an experiment can come to in a test, other than a pass."""

from __future__ import annotations


class ObjectiveMissed(Exception):
    """An objective of an experiment was missed; the text says which, what was measured and where the report is."""


class NotProven(Exception):
    """An experiment could not be judged, so that nothing was proven: an error of pytest, in whatever phase it is raised."""
