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

from chaoslab.stack.relay.asks import Asks
from chaoslab.stack.relay.dialer import Dial
from chaoslab.stack.relay.listener import Listener
from chaoslab.stack.relay.pipe import Connection, Pipe
from chaoslab.stack.toxiproxy.wire import Attributes, Direction, Link, ProxyView, ResetPeer, ToxicView

_RST_ON_CLOSE = struct.pack("ii", 1, 0)
_CLOSED = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
_CLOSED_CHECK_S = 0.5

Held = frozenset[tuple[str, str]]


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
    """Takes connections at `listen`, and from routers, and joins them with `upstream`.

    While either way of its link is fenced, connect() hangs. A connection that gets through all the same (from a router that
    other clients share, or where the platform cannot stall connects) is parked, and counts in `let_in`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        listen: str,
        upstream: str,
        link: Link | None = None,
        asks: Asks | None = None,
    ) -> None:
        self._loop = loop
        self._asks = asks
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.link = link
        self.enabled = False
        self.toxics: list[Toxic] = []
        self._listener: Listener | None = None
        self._connections: set[Connection] = set()
        self._dials: dict[socket.socket, Dial] = {}
        self._parked: dict[socket.socket, None] = {}  # connections behind a fence, in order of arrival
        self._closed_check: asyncio.TimerHandle | None = None
        self._up_fenced = self._down_fenced = False
        self.let_in = 0  # connections that the present fence could not keep out

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
        return len(self._connections) + len(self._dials) + len(self._parked)

    @property
    def fenced(self) -> bool:
        """Whether either way of the link is fenced: a connection needs both."""
        return self._up_fenced or self._down_fenced

    # --- on and off

    def start(self) -> None:
        """Listen. Raises ValueError for an address that is not valid, OSError for one that is taken."""
        if not self.enabled:
            self._listen()
            self.enabled = True
            self._update_listener()

    def start_without_listening(self) -> None:
        """Take connections from a router only."""
        self.enabled = True

    def stop(self) -> None:
        """Refuse, and end every connection. Behind a fence no client notices: FINs are held, connect() goes on hanging."""
        self.enabled = False
        self._update_listener()
        for client, dial in [*self._dials.items()]:
            dial.cancel()
            client.close()
        self._dials.clear()
        for connection in [*self._connections]:
            connection.cut()

    def close(self) -> None:
        """Stop for good: nothing is fenced any more, every connection ends now."""
        self.stop()
        self.set_fence(frozenset())

    def move(self, listen: str, upstream: str) -> None:
        """Stop, and use another address from the next start on."""
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

    def _update_listener(self) -> None:
        """Listen, stall or refuse. Behind a fence no client notices whether the proxy listens or is stopped."""
        if self.fenced:
            with contextlib.suppress(OSError, ValueError):  # a stopped proxy's port may be taken by now
                self._listen()
        if self._listener is None:
            return
        if not self.fenced and not self.enabled:
            self._unlisten()
        elif not self.fenced:
            self._listener.resume()
        else:
            for client in self._listener.stall():
                self._park(client)

    # --- new connections

    def adopt(self, client: socket.socket) -> None:
        """Take over a connection that was accepted here or at a router."""
        if self.fenced:
            self.let_in += 1
            self._park(client)
            if self._asks is not None:
                self._asks.held(self.name, client)
        elif not self.enabled:
            reset(client)
        else:
            dial = Dial(self._loop, self.upstream, lambda upstream: self._dialled(client, upstream))
            self._dials[client] = dial
            dial.start()

    def _park(self, client: socket.socket) -> None:
        self._parked[client] = None
        if self._closed_check is None:
            self._closed_check = self._loop.call_later(_CLOSED_CHECK_S, self._drop_closed)

    def _dialled(self, client: socket.socket, upstream: socket.socket | None) -> None:
        del self._dials[client]
        if upstream is None:
            if self._asks is not None:
                self._asks.refused(self.name, client)
            else:
                client.close()
            return
        connection = Connection(self._loop, client, upstream, self._connections.discard)
        self._connections.add(connection)
        for toxic in self.toxics:
            _pipe(connection, toxic).add_stage(toxic.attributes, toxic.toxicity)
        if any(isinstance(toxic.attributes, ResetPeer) for toxic in self.toxics):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
            upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        if self.fenced:
            self._fence(connection)
        connection.start()

    # --- the fence

    def set_fence(self, held: Held) -> None:
        """Fence or free each way of the link. `held`: the flows of the whole fence."""
        if self.link is None:
            return
        self._up_fenced = (self.link.source, self.link.to) in held
        self._down_fenced = (self.link.to, self.link.source) in held
        for connection in [*self._connections]:
            self._fence(connection)
        self._update_listener()
        if not self.fenced:
            self._drop_closed()  # as with a lost SYN, a client that gave up never connected
            parked, self._parked = self._parked, {}
            for client in parked:
                self.adopt(client)
            self.let_in = 0

    def _fence(self, connection: Connection) -> None:
        connection.up.set_fenced(self._up_fenced)
        connection.down.set_fenced(self._down_fenced)

    def _drop_closed(self) -> None:
        """Close parked sockets whose clients gave up, again and again: clients retry, and the sockets would pile up."""
        if self._closed_check is not None:
            self._closed_check.cancel()
        for client in closed_by_peer(self._parked):
            del self._parked[client]
            client.close()
        self._closed_check = self._loop.call_later(_CLOSED_CHECK_S, self._drop_closed) if self._parked else None

    # --- toxics

    def toxic(self, name: str) -> Toxic | None:
        return next((toxic for toxic in self.toxics if toxic.name == name), None)

    def add_toxic(self, toxic: Toxic) -> None:
        """Add a toxic at once, on established connections too."""
        self.toxics.append(toxic)
        for connection in [*self._connections]:
            _pipe(connection, toxic).add_stage(toxic.attributes, toxic.toxicity)

    def change_toxic(self, toxic: Toxic, attributes: Attributes, toxicity: float) -> None:
        toxic.attributes, toxic.toxicity = attributes, toxicity
        index = self._of(toxic.direction).index(toxic)
        for connection in [*self._connections]:
            _pipe(connection, toxic).change_stage(index, attributes, toxicity)

    def remove_toxic(self, toxic: Toxic) -> None:
        index = self._of(toxic.direction).index(toxic)
        self.toxics.remove(toxic)
        for connection in [*self._connections]:
            _pipe(connection, toxic).remove_stage(index)

    def remove_toxics(self) -> None:
        for toxic in self.in_order():
            self.remove_toxic(toxic)


def _pipe(connection: Connection, toxic: Toxic) -> Pipe:
    return connection.up if toxic.direction == "upstream" else connection.down


def reset(client: socket.socket) -> None:
    """Close with RST rather than FIN."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    client.close()


def closed_by_peer(clients: Iterable[socket.socket]) -> list[socket.socket]:
    """Those whose peer has closed the connection, whatever it sent before that."""
    by_fd = {client.fileno(): client for client in clients}
    watcher = select.poll()
    for fd in by_fd:
        watcher.register(fd, _CLOSED)
    return [by_fd[fd] for fd, _ in watcher.poll(0)]
