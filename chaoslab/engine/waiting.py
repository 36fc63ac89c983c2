"""How a trial waits: in ticks, in which it reads new rows, and always with a deadline."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from chaoslab.background import in_thread
from chaoslab.clock import NS_PER_S, Clock, Deadline
from chaoslab.engine.events import Events, Progress, T
from chaoslab.errors import NotReady

TICK_S = 0.1
SHORT_TICK_S = 0.02  # while the trial waits for other work


class Waiting:
    """Waits as a generator of events. `on_tick` runs after each tick; an error in it ends the wait."""

    def __init__(self, clock: Clock, on_tick: Callable[[], Events[None]]) -> None:
        self._clock = clock
        self._on_tick = on_tick
        self._messages: SimpleQueue[str] = SimpleQueue()
        self._last_message = "nothing"

    def on_progress(self, text: str) -> None:
        """Take a line of progress for people, from any thread."""
        self._messages.put(text)

    def progress(self) -> Events[None]:
        """The lines that came since the last call."""
        with contextlib.suppress(Empty):
            while True:
                self._last_message = self._messages.get_nowait()
                yield Progress(self._last_message)

    def for_work(self, work: Callable[[], T], what: str, timeout_s: float) -> Events[T]:
        """Do something in a separate thread and return its result. Raises its error; NotReady after `timeout_s`."""
        return (yield from self.for_future(in_thread(work, what), what, timeout_s))

    def for_future(self, future: Future[T], what: str, timeout_s: float) -> Events[T]:
        """As `for_work`, for work that was started before."""
        deadline = Deadline.after(timeout_s, self._clock)
        while not future.done():
            if deadline.passed:
                raise NotReady(f"waited {timeout_s:.0f} s for {what}; last message: {self._last_message}")
            yield from self.tick(SHORT_TICK_S)
        return future.result()

    def until(self, at_ns: int) -> Events[None]:
        """Wait until that instant (monotonic)."""
        while (left_s := (at_ns - self._clock.now_ns()) / NS_PER_S) > 0:
            yield from self.tick(min(TICK_S, left_s))

    def tick(self, seconds: float = TICK_S) -> Events[None]:
        """Wait for that much time."""
        self._clock.sleep(seconds)
        yield from self._on_tick()
