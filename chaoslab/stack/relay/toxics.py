"""What each toxic does to one direction of one connection. Callbacks on the event loop, no tasks.

A *stage* takes pieces (`push`) and the end of the stream (`end`) and hands them on to what follows. Stages of one
direction are chained in the order in which the toxics were added; the last one hands on to the pipe.
The behaviour is Toxiproxy's: `tests/relay/test_contract.py` holds the two side by side.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Protocol

from chaoslab.stack.toxiproxy.wire import Attributes, Bandwidth, Latency, LimitData, Noop, ResetPeer, Slicer, SlowClose, Timeout

_SLICE_S = 0.1  # a throttled stream moves in pieces of this duration


class Target(Protocol):
    """What a stage hands on to. `at_s`: when the piece came, on the loop's clock, earlier stages' waits included."""

    def push(self, data: bytes, at_s: float) -> None: ...

    def end(self) -> None: ...


class Stage:
    """Lets everything pass; base of the others. `size`: bytes held back. `window`: bytes worth holding back."""

    window = 0
    attributes: Attributes

    def __init__(self, loop: asyncio.AbstractEventLoop, following: Target, attributes: Attributes) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self.following = following
        self.attributes = attributes
        self.ended = False  # no more pieces are taken
        self.size = 0

    def push(self, data: bytes, at_s: float) -> None:
        if not self.ended:
            self.following.push(data, at_s)

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self.following.end()

    def retune(self, attributes: Attributes) -> None:
        """The toxic's attributes changed."""
        self.attributes = attributes

    def yield_to_successor(self) -> None:
        """Another stage takes this place: hand on what is held, end nothing."""
        self.drop()

    def release(self) -> None:
        """The toxic was taken away."""
        self.yield_to_successor()

    def drop(self) -> None:
        """The connection is gone: forget everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Paced(Stage):
    """Lets one piece after another go, each after its own wait; None stands for the end of the stream."""

    window = 64 * 1024

    def __init__(self, loop: asyncio.AbstractEventLoop, following: Target, attributes: Attributes) -> None:
        super().__init__(loop, following, attributes)
        self._queue: deque[tuple[bytes | None, float]] = deque()
        self._free_at_s = 0.0  # when the line is free for the next piece

    def pieces(self, data: bytes) -> list[bytes]:
        return [data]

    def wait_s(self, piece: bytes | None, at_s: float) -> float | None:
        """How long the head of the queue still has to wait; None: for ever."""
        raise NotImplementedError

    def push(self, data: bytes, at_s: float) -> None:
        if not self.ended:
            self.size += len(data)
            self._enqueue([(piece, at_s) for piece in self.pieces(data)])

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self._enqueue([(None, self._loop.time())])

    def _enqueue(self, items: list[tuple[bytes | None, float]]) -> None:
        idle = not self._queue
        self._queue.extend(items)
        if idle:
            self._advance()

    def _advance(self) -> None:
        self._timer = None
        while self._queue:
            wait_s = self.wait_s(*self._queue[0])
            if wait_s is None:
                return
            if wait_s > 0:
                self._timer = self._loop.call_later(wait_s, self._on_timer)
                return
            self._hand_on()

    def _on_timer(self) -> None:
        self._hand_on()
        self._advance()

    def _hand_on(self) -> None:
        piece, at_s = self._queue.popleft()
        if piece is None:
            self.following.end()
            return
        self.size -= len(piece)
        now_s = self._loop.time()
        self._free_at_s = now_s
        self.following.push(piece, max(at_s, now_s))

    def retune(self, attributes: Attributes) -> None:
        """What waits at the head goes at once, as Toxiproxy does it; the rest waits by the new attributes."""
        super().retune(attributes)
        super().drop()
        if self._queue and self._queue[0][0] is not None:
            self._hand_on()
        self._advance()

    def yield_to_successor(self) -> None:
        super().drop()
        while self._queue:
            self._hand_on()

    def drop(self) -> None:
        super().drop()
        self._queue.clear()
        self.size = 0


class LatencyStage(Paced):
    window = 4 * 1024 * 1024  # a long thick pipe has much under way
    attributes: Latency

    def wait_s(self, piece: bytes | None, at_s: float) -> float:
        if piece is None:
            return 0.0
        jitter = self.attributes.jitter
        delay_ms = self.attributes.latency + (random.uniform(-jitter, jitter) if jitter else 0.0)  # noqa: S311
        return delay_ms / 1000 - (self._loop.time() - at_s)


class BandwidthStage(Paced):
    attributes: Bandwidth

    def pieces(self, data: bytes) -> list[bytes]:
        size = max(1, int(self.attributes.rate * 1000 * _SLICE_S)) if self.attributes.rate else len(data)
        return [data[start : start + size] for start in range(0, len(data), size)]

    def wait_s(self, piece: bytes | None, at_s: float) -> float | None:
        if piece is None:
            return 0.0
        if not self.attributes.rate:
            return None
        now_s = self._loop.time()
        return max(self._free_at_s, min(at_s, now_s)) + len(piece) / (self.attributes.rate * 1000) - now_s


class SlicerStage(Paced):
    attributes: Slicer

    def pieces(self, data: bytes) -> list[bytes]:
        """Halve until a piece is within the variation of the average."""
        todo, done = [data], []
        variation = self.attributes.size_variation
        while todo:
            piece = todo.pop()
            if len(piece) - self.attributes.average_size <= variation or len(piece) < 2:
                done.append(piece)
                continue
            middle = len(piece) // 2 + (random.randrange(-variation, variation) if variation else 0)  # noqa: S311
            middle = min(max(middle, 1), len(piece) - 1)
            todo += [piece[middle:], piece[:middle]]
        return done

    def wait_s(self, piece: bytes | None, at_s: float) -> float:
        return self._free_at_s + self.attributes.delay / 1_000_000 - self._loop.time()


class SlowCloseStage(Paced):
    attributes: SlowClose

    def wait_s(self, piece: bytes | None, at_s: float) -> float:
        return 0.0 if piece is not None else at_s + self.attributes.delay / 1000 - self._loop.time()


class TimeoutStage(Stage):
    """Drops all data. Removing it ends the connection, since what it dropped is lost."""

    attributes: Timeout

    def __init__(self, loop: asyncio.AbstractEventLoop, following: Target, attributes: Attributes) -> None:
        super().__init__(loop, following, attributes)
        self._arm()

    def push(self, data: bytes, at_s: float) -> None:
        self._arm()

    def _arm(self) -> None:
        self.drop()
        if self.attributes.timeout and not self.ended:
            self._timer = self._loop.call_later(self.attributes.timeout / 1000, self.end)

    def retune(self, attributes: Attributes) -> None:
        super().retune(attributes)
        self._arm()

    def release(self) -> None:
        super().release()
        self.end()


class ResetPeerStage(Stage):
    """Drops all data; the first thing that comes, data or the end, starts the countdown to the end of the connection."""

    attributes: ResetPeer

    def push(self, data: bytes, at_s: float) -> None:
        self._count_down()

    def end(self) -> None:
        self._count_down()

    def _count_down(self) -> None:
        if self._timer is None and not self.ended:
            self._timer = self._loop.call_later(self.attributes.timeout / 1000, super().end)

    def release(self) -> None:
        counting_down = self._timer is not None
        super().release()
        if counting_down:
            super().end()


class LimitDataStage(Stage):
    attributes: LimitData

    def __init__(self, loop: asyncio.AbstractEventLoop, following: Target, attributes: Attributes) -> None:
        super().__init__(loop, following, attributes)
        self._passed = 0

    def push(self, data: bytes, at_s: float) -> None:
        if self.ended:
            return
        allowed = data[: max(0, self.attributes.bytes - self._passed)]
        self._passed += len(allowed)
        if allowed:
            self.following.push(allowed, at_s)
        if self._passed >= self.attributes.bytes:
            self.end()


_STAGES: dict[type[Attributes], type[Stage]] = {
    Latency: LatencyStage,
    Bandwidth: BandwidthStage,
    Timeout: TimeoutStage,
    ResetPeer: ResetPeerStage,
    SlowClose: SlowCloseStage,
    LimitData: LimitDataStage,
    Slicer: SlicerStage,
    Noop: Stage,
}


def stage_for(attributes: Attributes, toxicity: float, loop: asyncio.AbstractEventLoop, following: Target) -> Stage:
    """The stage of one toxic on one connection; `toxicity` is the share of connections that it applies to."""
    applies = random.random() < toxicity  # noqa: S311
    return (_STAGES[type(attributes)] if applies else Stage)(loop, following, attributes)
