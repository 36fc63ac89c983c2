"""One proxied connection: two pipes, each of which carries bytes one way. The hot path of the relay.

Bare non-blocking sockets on the event loop rather than asyncio transports, for two reasons. It costs about half,
and half of all traffic comes in fresh connections. And a fence must be able to leave a socket alone altogether, so
that a FIN or RST stays in the kernel, while the other direction of the same socket goes on.

As in Toxiproxy, the end of the stream one way ends the connection once everything before it was delivered, and a
reset reads as an end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable

from chaoslab.stack.relay.toxics import Stage, stage_for
from chaoslab.stack.toxiproxy.wire import Attributes

_READ_BYTES = 64 * 1024


class Pipe:
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
        self, loop: asyncio.AbstractEventLoop, source: socket.socket, sink: socket.socket, on_done: Callable[[Pipe], None]
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
        self._update_reading()

    def _on_readable(self) -> None:
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
            self._update_reading()
        else:
            self.push(data, 0.0)

    def source_ended(self) -> None:
        """The source will send nothing more, or is closed."""
        if not self._ended:
            self._ended = True
            self._update_reading()
            if self.stages:
                self.stages[0].end()
            else:
                self.end()

    def _update_reading(self) -> None:
        """Read from the source exactly while what comes may travel on."""
        if self.stages:
            pending = self._out_bytes + sum(stage.size for stage in self.stages)
            congested = pending > max(stage.window for stage in self.stages)
        else:
            congested = bool(self._out)
        wanted = self._started and not (self.fenced or self._ended or self._finishing or congested)
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._loop.add_reader(self.source.fileno(), self._on_readable)
            else:
                self._loop.remove_reader(self.source.fileno())

    # --- what goes to the sink: the pipe is the target of its last stage

    def push(self, data: bytes, at_s: float) -> None:
        if self._finishing:
            return
        if self._out or self.fenced:
            self._queue(data)
            return
        sent = self._send(data)
        if sent is not None and sent < len(data):
            self._queue(data[sent:])
        elif self.stages:
            self._update_reading()

    def end(self) -> None:
        if not self._finishing:
            self._finishing = True
            self._update_reading()
            self._finish_if_delivered()

    def _queue(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        self._update_writing()
        self._update_reading()

    def _send(self, data: bytes) -> int | None:
        """Bytes taken by the sink; None when the sink is dead."""
        try:
            return self.sink.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._finishing = self.broken = True
            self._discard_pending()
            self._update_reading()
            self._finish_if_delivered()
            return None

    def _discard_pending(self) -> None:
        for stage in self.stages:
            stage.drop()
        self._out.clear()
        self._out_bytes = 0
        self._update_writing()

    def _update_writing(self) -> None:
        """Wait for room in the sink exactly while something may be written there."""
        wanted = bool(self._out) and not self.fenced
        if wanted != self._writing:
            self._writing = wanted
            if wanted:
                self._loop.add_writer(self.sink.fileno(), self._on_writable)
            else:
                self._loop.remove_writer(self.sink.fileno())

    def _on_writable(self) -> None:
        while self._out:
            sent = self._send(self._out[0])
            if sent is None:
                return
            self._out_bytes -= sent
            if sent < len(self._out[0]):
                self._out[0] = self._out[0][sent:]
                return
            self._out.popleft()
        self._update_writing()
        self._update_reading()
        self._finish_if_delivered()

    def _finish_if_delivered(self) -> None:
        """Done once the end has come and everything before it was taken; never while fenced: a FIN is held too."""
        if self._finishing and not (self._out or self.fenced or self.done):
            self.done = True
            self._on_done(self)

    # --- what the proxy asks for

    def set_fenced(self, fenced: bool) -> None:
        """Hold everything that travels this way, or let it travel again in order."""
        if fenced == self.fenced:
            return
        self.fenced = fenced
        self._update_writing()
        self._update_reading()
        self._finish_if_delivered()

    def cut(self) -> None:
        """End this way now, losing what is pending; behind a fence the end is held as well."""
        self._ended = self._finishing = True
        self._discard_pending()
        self._update_reading()
        self._finish_if_delivered()

    def close(self) -> None:
        """Stop watching both sockets."""
        self._ended = self._finishing = self.done = True
        self._discard_pending()
        self._update_reading()

    def add_stage(self, attributes: Attributes, toxicity: float) -> None:
        """A toxic was added at the end of the chain."""
        stage = stage_for(attributes, toxicity, self._loop, self)
        stage.ended = self._finishing
        if self.stages:
            self.stages[-1].following = stage
        self.stages.append(stage)

    def change_stage(self, index: int, attributes: Attributes, toxicity: float) -> None:
        """A toxic was changed; whether it applies to this connection is drawn again."""
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
        self._update_reading()


class Connection:
    """A client and its upstream, joined by two pipes. Toxiproxy's words: `up` carries requests, `down` answers."""

    __slots__ = ("_on_closed", "closed", "down", "up")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: socket.socket,
        upstream: socket.socket,
        on_closed: Callable[[Connection], None],
    ) -> None:
        self.up = Pipe(loop, client, upstream, self._pipe_done)
        self.down = Pipe(loop, upstream, client, self._pipe_done)
        self.closed = False
        self._on_closed = on_closed

    def start(self) -> None:
        self.up.start()
        self.down.start()

    def cut(self) -> None:
        """End both ways now; a fenced way holds its end."""
        self.up.cut()
        self.down.cut()

    def _pipe_done(self, pipe: Pipe) -> None:
        other = self.down if pipe is self.up else self.up
        if self.closed:
            return
        if other.done:
            self.closed = True
            for each in (self.up, self.down):
                each.close()
                each.source.close()
            self._on_closed(self)
        elif pipe.broken:
            return  # the other pipe reads what the dead peer left behind, and then its end
        elif other.fenced:
            with contextlib.suppress(OSError):  # it is dead already
                pipe.sink.shutdown(socket.SHUT_WR)  # what the other way holds must survive
        else:
            other.source_ended()
            pipe.sink.close()
