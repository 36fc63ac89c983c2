"""Where slots go: the host, port and path of a URL, and how its certificate is checked. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import urlsplit

from chaoslab.errors import SpecError
from chaoslab.probe.plan import EntryTarget

_PORTS: Final = {"http": 80, "https": 443, "tcp": 0}


class Endpoint(NamedTuple):
    """A parsed URL. `prefix` is its path and query. `ca`, `server_name`: as in EntryTarget."""

    scheme: str
    host: str
    port: int
    prefix: str
    ca: str | None = None
    server_name: str | None = None

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Raises SpecError unless this is http://…, https://… or tcp://host:port."""
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError as wrong:
            raise SpecError(f"{url!r} is not a URL: {wrong}") from None
        if parts.scheme not in _PORTS:
            raise SpecError(f"{url!r} is not a URL that can be probed", cure="start it with http://, https:// or tcp://")
        if not parts.hostname or not port:
            raise SpecError(f"{url!r} does not say where to connect", cure="write http://host/path or tcp://host:port")
        if parts.username is not None:
            raise SpecError(f"{url!r} holds a user name or password, which would end up in reports")
        return cls(parts.scheme, parts.hostname, port, parts.path + (f"?{parts.query}" if parts.query else ""))

    @classmethod
    def of(cls, entry: EntryTarget) -> Endpoint:
        """Raises SpecError as `parse` does."""
        return cls.parse(entry.url)._replace(ca=entry.ca, server_name=entry.server_name)
