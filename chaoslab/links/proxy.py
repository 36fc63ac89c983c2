"""One proxy of the relay: its listener, its toxics, its connections, and what a fence does to them."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from chaoslab.links.dialer import Dial
from chaoslab.links.lane import Connection, Lane
from chaoslab.links.listener import Listener
from chaoslab.links.wire import Attributes, Direction, Link, ProxyView, ResetPeer, ToxicView

_RST_ON_CLOSE = struct.pack("ii", 1, 0)
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
_SWEEP_S = 0.5

Hold = frozenset[tuple[str, str]]


@dataclass
class Toxic:
    """A toxic as set on a proxy. `stream` is echoed as it was written, `direction` is what it means."""

    name: str
    type: str
    stream: str
    direction: Direction
    toxicity: float
    attributes: Attributes

    def view(self) -> ToxicView:
        return ToxicView(self.name, self.type, self.stream, self.toxicity, msgspec.structs.asdict(self.attributes))


class Proxy:
    """Takes connections at `listen`, and from fronts, and joins them with `upstream`.

    While either way of its link is held, nobody is let in: connect() hangs. Who gets in all the same (from a front that
    others share, or where the platform cannot keep a door shut) waits, and counts in `let_in`.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, name: str, listen: str, upstream: str, link: Link | None = None
    ) -> None:
        self._loop = loop
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.link = link
        self.enabled = False
        self.toxics: list[Toxic] = []
        self._listener: Listener | None = None
        self._connections: set[Connection] = set()
        self._dials: dict[socket.socket, Dial] = {}
        self._waiting: dict[socket.socket, None] = {}  # behind a fence, in order of arrival
        self._sweep: asyncio.TimerHandle | None = None
        self._up_held = self._down_held = False
        self.let_in = 0  # connections that the fence which stands could not keep out

    def view(self) -> ProxyView:
        return ProxyView(
            self.name, self.listen, self.upstream, self.enabled, [toxic.view() for toxic in self.in_order()], self.link
        )

    def in_order(self) -> list[Toxic]:
        """Upstream toxics first, each direction in the order of adding."""
        return [*self._of("upstream"), *self._of("downstream")]

    def _of(self, direction: Direction) -> list[Toxic]:
        return [toxic for toxic in self.toxics if toxic.direction == direction]

    @property
    def open_connections(self) -> int:
        return len(self._connections) + len(self._dials) + len(self._waiting)

    @property
    def held(self) -> bool:
        """Whether a fence stands across the link: a connection needs both ways."""
        return self._up_held or self._down_held

    # --- on and off

    def start(self) -> None:
        """Listen. Raises ValueError or OSError when that cannot be."""
        if not self.enabled:
            self._listen()
            self.enabled = True
            self._set_door()

    def start_without_listening(self) -> None:
        """Take connections from a front only."""
        self.enabled = True

    def stop(self) -> None:
        """Refuse, and end every connection. Behind a fence nobody learns of it: ends are held, connect() goes on hanging."""
        self.enabled = False
        self._set_door()
        for client, dial in [*self._dials.items()]:
            dial.cancel()
            client.close()
        self._dials.clear()
        for connection in [*self._connections]:
            connection.cut()

    def close(self) -> None:
        """Stop for good: nothing is held any more, everything ends now."""
        self.stop()
        self.hold(frozenset())

    def move(self, listen: str, upstream: str) -> None:
        """Stop, and be at another address from the next start on."""
        self.stop()
        self._unlisten()
        self.listen, self.upstream = listen, upstream

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = Listener(self._loop, self.listen, self.adopt)
            self.listen = self._listener.address

    def _unlisten(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _set_door(self) -> None:
        """Behind a fence nobody learns whether anybody listens: not of who does, and not of a stopped proxy that refuses."""
        if self.held:
            with contextlib.suppress(OSError, ValueError):  # a stopped proxy's port may be another's by now
                self._listen()
        if self._listener is None:
            return
        if not self.held and not self.enabled:
            self._unlisten()
        elif not self.held:
            self._listener.open()
        else:
            for client in self._listener.shut():
                self._wait(client)

    # --- new connections

    def adopt(self, client: socket.socket) -> None:
        """Take over a connection that was accepted here or at a front."""
        if self.held:
            self.let_in += 1
            self._wait(client)
        elif not self.enabled:
            reset(client)
        else:
            self._dial(client)

    def _wait(self, client: socket.socket) -> None:
        self._waiting[client] = None
        self._sweep_later()

    def _dial(self, client: socket.socket) -> None:
        dial = Dial(self._loop, self.upstream, lambda upstream: self._dialled(client, upstream))
        self._dials[client] = dial
        dial.start()

    def _dialled(self, client: socket.socket, upstream: socket.socket | None) -> None:
        del self._dials[client]
        if upstream is None:
            client.close()
            return
        connection = Connection(self._loop, client, upstream, self._connections.discard)
        self._connections.add(connection)
        if self.toxics:
            self._poison(connection, (client, upstream))
        if self.held:
            self._fence(connection)
        connection.start()

    def _poison(self, connection: Connection, sockets: Iterable[socket.socket]) -> None:
        for toxic in self.toxics:
            _lane(connection, toxic).add_stage(toxic.attributes, toxic.toxicity)
        if any(isinstance(toxic.attributes, ResetPeer) for toxic in self.toxics):
            for each in sockets:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)

    # --- the fence

    def hold(self, held: Hold) -> None:
        """Hold or let go each way of the link, according to the whole fence."""
        if self.link is None:
            return
        self._up_held = (self.link.source, self.link.to) in held
        self._down_held = (self.link.to, self.link.source) in held
        for connection in [*self._connections]:
            self._fence(connection)
        self._set_door()
        if not self.held:
            self._dial_waiting()
            self.let_in = 0

    def _fence(self, connection: Connection) -> None:
        connection.up.set_fenced(self._up_held)
        connection.down.set_fenced(self._down_held)

    def _dial_waiting(self) -> None:
        """What knocked at the fence and still waits gets through; who gave up never knocked, as with a lost SYN."""
        self._drop_gone()
        waiting, self._waiting = self._waiting, {}
        for client in waiting:
            self.adopt(client)

    def _drop_gone(self) -> None:
        for client in gone(self._waiting):
            del self._waiting[client]
            client.close()

    def _sweep_later(self) -> None:
        """Clients behind a fence give up and try again: without sweeping, their sockets would pile up."""
        if self._sweep is None:
            self._sweep = self._loop.call_later(_SWEEP_S, self._sweep_now)

    def _sweep_now(self) -> None:
        self._sweep = None
        self._drop_gone()
        if self._waiting:
            self._sweep_later()

    # --- toxics

    def toxic(self, name: str) -> Toxic | None:
        return next((toxic for toxic in self.toxics if toxic.name == name), None)

    def add_toxic(self, toxic: Toxic) -> None:
        """At once, on established connections too."""
        self.toxics.append(toxic)
        for connection in [*self._connections]:
            _lane(connection, toxic).add_stage(toxic.attributes, toxic.toxicity)

    def change_toxic(self, toxic: Toxic, attributes: Attributes, toxicity: float) -> None:
        toxic.attributes, toxic.toxicity = attributes, toxicity
        index = self._of(toxic.direction).index(toxic)
        for connection in [*self._connections]:
            _lane(connection, toxic).change_stage(index, attributes, toxicity)

    def remove_toxic(self, toxic: Toxic) -> None:
        index = self._of(toxic.direction).index(toxic)
        self.toxics.remove(toxic)
        for connection in [*self._connections]:
            _lane(connection, toxic).remove_stage(index)

    def remove_toxics(self) -> None:
        for toxic in self.in_order():
            self.remove_toxic(toxic)


def _lane(connection: Connection, toxic: Toxic) -> Lane:
    return connection.up if toxic.direction == "upstream" else connection.down


def reset(client: socket.socket) -> None:
    """Close with RST rather than FIN."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    client.close()


def gone(clients: Iterable[socket.socket]) -> list[socket.socket]:
    """Those whose other end has closed, whatever they sent before that."""
    by_fd = {client.fileno(): client for client in clients}
    watcher = select.poll()
    for fd in by_fd:
        watcher.register(fd, _GONE)
    return [by_fd[fd] for fd, _ in watcher.poll(0)]
