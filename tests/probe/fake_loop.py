"""An event loop on a FakeClock: waiting moves the clock, and nothing sleeps."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

from chaoslab.clock import NS_PER_S, FakeClock


class _Jumping(selectors.SelectSelector):
    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout=None):
        assert timeout is not None, "the loop would wait for ever"
        self._clock.sleep(max(0.0, timeout))
        return super().select(0)


class _FakeLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: FakeClock) -> None:
        self._fake = clock
        super().__init__(_Jumping(clock))

    def time(self) -> float:
        return self._fake.now_ns() / NS_PER_S


def run_on(clock: FakeClock, main: Coroutine[Any, Any, Any]) -> Any:
    loop = _FakeLoop(clock)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
