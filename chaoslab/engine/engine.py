"""The engine: one run, as a generator of events that always ends with exactly one `Finished`. One session, one trial."""

from __future__ import annotations

from collections.abc import Iterator

from chaoslab.engine.events import Event
from chaoslab.engine.stack_session import StackSession
from chaoslab.engine.trial import Trial, TrialPlan


class Engine:
    """Runs one trial on its own stack, once."""

    def __init__(self, session: StackSession, plan: TrialPlan) -> None:
        self._session = session
        self._trial = Trial(session, plan)

    def stop(self, reason: str) -> None:
        """Ask the run to heal, clean up and end. May be called from a signal handler at any time."""
        self._session.stop(reason)

    def events(self) -> Iterator[Event]:
        """Carry out the run. The last event, whatever happens, is `Finished`."""
        yield from self._trial.events()
