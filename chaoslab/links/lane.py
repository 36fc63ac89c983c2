"""One proxied connection: two lanes, each carrying bytes one way. The hot path of the relay.

Bare non-blocking sockets on the event loop rather than asyncio transports, for two reasons. It costs about half,
and half of all traffic comes in fresh connections. And a fence must be able to look away from a socket altogether,
so that a FIN or RST stays unseen in the kernel, while the other direction of the same socket goes on.

As in Toxiproxy, the end of the stream one way ends the connection once everything before it was delivered, and a
reset reads as an end.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from chaoslab.links.toxics import Stage, Target, stage_for
from chaoslab.links.wire import Attributes

_READ_BYTES = 64 * 1024


class Lane:
    """Carries bytes from `source` to `sink`, through the stages of the toxics set on this direction."""

    __slots__ = (
        "_ended",
        "_finishing",
        "_loop",
        "_on_done",
        "_out",
        "_out_bytes",
        "_reading",
        "_started",
        "_writing",
        "broken",
        "done",
        "fenced",
        "sink",
        "source",
        "stages",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, source: socket.socket, sink: socket.socket, on_done: Callable[[Lane], None]
    ) -> None:
        self._loop = loop
        self._on_done = on_done
        self._out: deque[bytes] = deque()  # handed on, not yet taken by the sink
        self._out_bytes = 0
        self._started = self._reading = self._writing = False
        self._ended = False  # the source has nothing more
        self._finishing = False  # nothing more will be handed on
        self.broken = False  # the sink is dead
        self.done = False  # the sink has everything, or is dead
        self.fenced = False
        self.source = source
        self.sink = sink
        self.stages: list[Stage] = []

    # --- what comes from the source

    def start(self) -> None:
        self._started = True
        self._heed()

    def _readable(self) -> None:
        try:
            data = self.source.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.source_ended()
        elif self.stages:
            self.stages[0].push(data, self._loop.time())
            self._heed()
        else:
            self.push(data, 0.0)

    def source_ended(self) -> None:
        """The source said that nothing more comes, or is closed."""
        if not self._ended:
            self._ended = True
            self._heed()
            self._head.end()

    def _heed(self) -> None:
        """Read from the source exactly while what comes may travel on."""
        wanted = self._started and not (self.fenced or self._ended or self._finishing or self._congested)
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._loop.add_reader(self.source.fileno(), self._readable)
            else:
                self._loop.remove_reader(self.source.fileno())

    @property
    def _head(self) -> Target:
        return self.stages[0] if self.stages else self

    @property
    def _congested(self) -> bool:
        if not self.stages:
            return bool(self._out)
        held = self._out_bytes + sum(stage.size for stage in self.stages)
        return held > max(stage.window for stage in self.stages)

    # --- what goes to the sink: the lane is the target of its last stage

    def push(self, data: bytes, at_s: float) -> None:
        if self._finishing:
            return
        if self._out or self.fenced:
            self._keep(data)
            return
        sent = self._send(data)
        if sent is not None and sent < len(data):
            self._keep(data[sent:])
        elif self.stages:
            self._heed()

    def end(self) -> None:
        if not self._finishing:
            self._finishing = True
            self._heed()
            self._settle()

    def _keep(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        self._watch_sink()
        self._heed()

    def _send(self, data: bytes) -> int | None:
        """Bytes taken by the sink; None when the sink is dead."""
        try:
            return self.sink.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._abandon()
            return None

    def _abandon(self) -> None:
        self._finishing = self.broken = True
        self._forget()
        self._heed()
        self._settle()

    def _forget(self) -> None:
        for stage in self.stages:
            stage.drop()
        self._out.clear()
        self._out_bytes = 0
        self._watch_sink()

    def _watch_sink(self) -> None:
        """Wait for room in the sink exactly while something may go there."""
        wanted = bool(self._out) and not self.fenced
        if wanted != self._writing:
            self._writing = wanted
            if wanted:
                self._loop.add_writer(self.sink.fileno(), self._writable)
            else:
                self._loop.remove_writer(self.sink.fileno())

    def _writable(self) -> None:
        while self._out:
            sent = self._send(self._out[0])
            if sent is None:
                return
            self._out_bytes -= sent
            if sent < len(self._out[0]):
                self._out[0] = self._out[0][sent:]
                return
            self._out.popleft()
        self._watch_sink()
        self._heed()
        self._settle()

    def _settle(self) -> None:
        """Done once the end has come and everything before it was taken; never while fenced: a FIN is held too."""
        if self._finishing and not (self._out or self.fenced or self.done):
            self.done = True
            self._on_done(self)

    # --- what the proxy asks for

    def set_fenced(self, fenced: bool) -> None:
        """Hold everything that travels this way, or let it go again in order."""
        if fenced == self.fenced:
            return
        self.fenced = fenced
        self._watch_sink()
        self._heed()
        self._settle()

    def cut(self) -> None:
        """End this way now, losing what is under way; behind a fence the end is held as well."""
        self._ended = self._finishing = True
        self._forget()
        self._heed()
        self._settle()

    def close(self) -> None:
        """Let go of both sockets' events."""
        self._ended = self._finishing = self.done = True
        self._forget()
        self._heed()

    def add_stage(self, attributes: Attributes, toxicity: float) -> None:
        """A toxic was added at the end of the chain."""
        stage = stage_for(attributes, toxicity, self._loop, self)
        stage.ended = self._finishing
        if self.stages:
            self.stages[-1].following = stage
        self.stages.append(stage)

    def change_stage(self, index: int, attributes: Attributes, toxicity: float) -> None:
        """A toxic was changed; whether it strikes this connection is drawn again."""
        old = self.stages[index]
        new = stage_for(attributes, toxicity, self._loop, old.following)
        if type(new) is type(old):
            new.drop()
            old.retune(attributes)
            return
        old.yield_to_successor()
        new.ended = old.ended
        self._replace(index, [new])

    def remove_stage(self, index: int) -> None:
        """A toxic was taken away."""
        stage = self.stages[index]
        stage.release()
        self._replace(index, [])

    def _replace(self, index: int, by: list[Stage]) -> None:
        following = self.stages[index].following
        self.stages[index : index + 1] = by
        if index > 0:
            self.stages[index - 1].following = by[0] if by else following
        self._heed()


class Connection:
    """A client and its upstream, joined by two lanes. Toxiproxy's words: `up` carries requests, `down` answers."""

    __slots__ = ("_on_closed", "closed", "down", "up")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: socket.socket,
        upstream: socket.socket,
        on_closed: Callable[[Connection], None],
    ) -> None:
        self.up = Lane(loop, client, upstream, self._lane_done)
        self.down = Lane(loop, upstream, client, self._lane_done)
        self.closed = False
        self._on_closed = on_closed

    def start(self) -> None:
        self.up.start()
        self.down.start()

    def cut(self) -> None:
        """End both ways now; each end is held by its fence."""
        self.up.cut()
        self.down.cut()

    def _lane_done(self, lane: Lane) -> None:
        other = self.down if lane is self.up else self.up
        if other.done:
            self._close()
        elif lane.broken:
            return  # the other lane reads what the dead peer left behind, and then its end
        elif other.fenced:
            _half_close(lane.sink)  # what the other way holds must survive
        else:
            other.source_ended()
            lane.sink.close()

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            self.up.close()
            self.down.close()
            self.up.source.close()
            self.up.sink.close()
            self._on_closed(self)


def _half_close(sink: socket.socket) -> None:
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return  # it is dead already
