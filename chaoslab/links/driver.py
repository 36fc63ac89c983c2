"""The one typed seam over toxiproxy-python.

That package keeps host and port in its class, sets no timeouts, and takes a 5xx for success. Here each driver has a
class of its own below `APIConsumer`, every call is bounded, every answer that is not 2xx raises, attributes are
checked before they are sent (some values crash the real server), and every change is read back. Its `Toxiproxy` and
`Proxy` classes are not used: they reach for the shared class, so two servers could not be driven from one process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import requests
from toxiproxy.api import APIConsumer, validate_response
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from chaoslab.errors import LinkError
from chaoslab.links.wire import Direction, ProxyView, ToxicView, attributes_of

CALL_TIMEOUT_S = 3.0
_UNCERTAIN = "its state is unknown; if this repeats, the server is wedged and only a restart of it helps"

T = TypeVar("T")


class ToxiproxyDriver:
    """Drives one server that speaks Toxiproxy's API at `address` (host:port). Safe to use from several threads.

    Every verb raises LinkError when the answer is not 2xx, does not come within three seconds (what happened is then
    unknown), or when reading back does not show the change.
    """

    def __init__(self, address: str, *, timeout_s: float = CALL_TIMEOUT_S) -> None:
        host, _, port = address.rpartition(":")
        self._api = type("BoundApi", (_Api,), {"host": host, "port": int(port)})
        self._timeout_s = timeout_s
        self.address = address

    def version(self) -> str:
        return str(self.call("get", "/version", dict[str, str]).get("version"))

    def proxies(self) -> dict[str, ProxyView]:
        return self.call("get", "/proxies", dict[str, ProxyView])

    def proxy(self, name: str) -> ProxyView:
        return self.call("get", f"/proxies/{name}", ProxyView)

    def create(self, name: str, listen: str, upstream: str, **more: Any) -> ProxyView:
        """Create an enabled proxy; `more` are further fields, which only our relay knows."""
        body = {"name": name, "listen": listen, "upstream": upstream, "enabled": True, **more}
        self.call("post", "/proxies", None, body)
        return self._verified(name, lambda proxy: proxy.enabled and proxy.upstream == upstream, "created")

    def delete(self, name: str) -> None:
        """Delete a proxy; one that is not there is deleted already."""
        if name in self.proxies():
            self.call("delete", f"/proxies/{name}", None)
            if name in self.proxies():
                raise LinkError(f"{self.address}: proxy {name} is still there after its deletion")

    def enable(self, name: str) -> None:
        self._switch(name, True)

    def disable(self, name: str) -> None:
        """Every connection ends with FIN, new ones are refused."""
        self._switch(name, False)

    def recycle(self, name: str) -> None:
        """Disable and enable: ends what hangs in a proxy whose upstream was unreachable."""
        self.disable(name)
        self.enable(name)

    def add_toxic(
        self, proxy: str, kind: str, *, stream: Direction, name: str, toxicity: float = 1.0, **attributes: int
    ) -> ToxicView:
        """Set a toxic, replacing one of the same name. `toxicity`: the share of connections struck, 0 to 1."""
        self.remove_toxic(proxy, name)
        wanted = ToxicView(name, kind, stream, toxicity, _checked(kind, attributes))
        if not 0 <= toxicity <= 1:
            raise LinkError(f"toxicity {toxicity} of {name}: write a share from 0 to 1")
        self.call("post", f"/proxies/{proxy}/toxics", None, msgspec.structs.asdict(wanted))
        self._verified(proxy, lambda seen: any(_same(toxic, wanted) for toxic in seen.toxics), f"given toxic {name}")
        return wanted

    def remove_toxic(self, proxy: str, name: str) -> None:
        """Take a toxic away; one that is not there is away already."""
        if any(toxic.name == name for toxic in self.proxy(proxy).toxics):
            self.call("delete", f"/proxies/{proxy}/toxics/{name}", None)
            self._verified(proxy, lambda seen: all(toxic.name != name for toxic in seen.toxics), f"freed of {name}")

    def reset(self) -> None:
        """Enable every proxy and take every toxic away."""
        self.call("post", "/reset", None)
        stuck = [name for name, seen in self.proxies().items() if seen.toxics or not seen.enabled]
        if stuck:
            raise LinkError(f"{self.address}: after a reset these are not as new: {', '.join(stuck)}")

    def call(self, method: str, path: str, shape: type[T] | None, body: Any = None) -> T:
        """One bounded call; its answer as `shape` (None: whatever it says). Raises LinkError, never retries."""
        what = f"{self.address}: {method.upper()} {path}"
        try:
            options = {"json": body} if body is not None else {}
            answer = getattr(self._api, method)(path, timeout=self._timeout_s, **options)
        except (ProxyExists, NotFound, InvalidToxic) as refused:
            raise LinkError(f"{what}: {_words(refused)}") from refused
        except requests.RequestException as broken:
            raise LinkError(f"{what}: no answer ({broken.__class__.__name__}); {_UNCERTAIN}") from broken
        if not 200 <= answer.status_code < 300:
            uncertain = f"; {_UNCERTAIN}" if answer.status_code == 503 else ""
            raise LinkError(f"{what}: {answer.status_code} {answer.text.strip()[:200]}{uncertain}")
        try:
            return msgspec.json.decode(answer.content, type=shape) if shape is not None else None  # type: ignore[return-value]
        except msgspec.MsgspecError as strange:
            raise LinkError(f"{what}: an answer that is not Toxiproxy's: {strange}") from strange

    def _switch(self, name: str, enabled: bool) -> None:
        self.call("post", f"/proxies/{name}", None, {"enabled": enabled})
        self._verified(name, lambda proxy: proxy.enabled is enabled, "enabled" if enabled else "disabled")

    def _verified(self, name: str, holds: Callable[[ProxyView], bool], what: str) -> ProxyView:
        seen = self.proxy(name)
        if not holds(seen):
            raise LinkError(f"{self.address}: proxy {name} was to be {what}, but reads back as {seen}")
        return seen


class _Api(APIConsumer):  # type: ignore[misc]
    """The package's calls, never through a proxy of the environment; and PUT, which Toxiproxy itself does not know."""

    @classmethod
    def get(cls, url: str, params: Any = None, **kwargs: Any) -> requests.Response:
        return super().get(url, params, proxies=_DIRECT, **kwargs)  # type: ignore[no-any-return]

    @classmethod
    def post(cls, url: str, data: Any = None, json: Any = None, **kwargs: Any) -> requests.Response:
        return super().post(url, data, json, proxies=_DIRECT, **kwargs)  # type: ignore[no-any-return]

    @classmethod
    def delete(cls, url: str, **kwargs: Any) -> requests.Response:
        return super().delete(url, proxies=_DIRECT, **kwargs)  # type: ignore[no-any-return]

    @classmethod
    def put(cls, url: str, **kwargs: Any) -> requests.Response:
        answer = requests.put(f"http://{cls.host}:{cls.port}{url}", proxies=_DIRECT, **kwargs)  # noqa: S113 call() bounds it
        return validate_response(answer)  # type: ignore[no-any-return]


_DIRECT: Any = {"http": None, "all": None}


def _checked(kind: str, attributes: dict[str, int]) -> dict[str, Any]:
    try:
        return msgspec.structs.asdict(attributes_of(kind, attributes))
    except ValueError as wrong:
        raise LinkError(f"toxic {kind} with {attributes}: {wrong}") from wrong


def _same(seen: ToxicView, wanted: ToxicView) -> bool:
    """Toxiproxy keeps toxicity as a 32-bit number."""
    close = abs(seen.toxicity - wanted.toxicity) < 1e-6
    return close and (seen.name, seen.type, seen.stream, seen.attributes) == (
        wanted.name,
        wanted.type,
        wanted.stream,
        wanted.attributes,
    )


def _words(refused: Exception) -> str:
    said = refused.args[0] if refused.args else b""
    return said.decode(errors="replace").strip() if isinstance(said, bytes) else str(said)
