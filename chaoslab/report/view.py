"""The display of a run in progress: the interface that every kind of view implements."""

from __future__ import annotations

from typing import Protocol

from chaoslab.history.rows import AnyRow
from chaoslab.report.status import Status


class View(Protocol):
    """Shows a run. `close` comes last, whatever happened, and may come twice; no method raises."""

    def row(self, row: AnyRow) -> None:
        """A row went into the history."""

    def message(self, text: str) -> None:
        """One line of progress, such as a service that became healthy."""

    def tick(self, status: Status) -> None:
        """The current status; called a few times a second."""

    def close(self) -> None:
        """Restore the terminal."""


class JsonView:
    """Shows nothing: standard output is for the final result alone."""

    def row(self, row: AnyRow) -> None:
        """Not shown."""

    def message(self, text: str) -> None:
        """Not shown."""

    def tick(self, status: Status) -> None:
        """Not shown."""

    def close(self) -> None:
        """Nothing to restore."""
