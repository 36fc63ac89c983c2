"""The only typed wrapper of toxiproxy-python.

That package keeps host and port in its class, sets no timeouts, and treats a 5xx as success. Here each driver has its
own subclass of `APIConsumer`, every call is bounded, every answer that is not 2xx raises, attributes are
checked before they are sent (some values crash the real server), and every change is read back. Its `Toxiproxy` and
`Proxy` classes are not used: they reach for the shared class, so two servers could not be driven from one process.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import requests
from toxiproxy.api import APIConsumer, validate_response
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from chaoslab.errors import LinkError
from chaoslab.stack.toxiproxy.wire import Direction, ProxyView, ToxicView, attributes_of

CALL_TIMEOUT_S = 3.0
_UNCERTAIN = "its state is unknown; if this repeats, the server hangs and must be restarted"

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

    def proxies(self) -> dict[str, ProxyView]:
        return self.call("get", "/proxies", dict[str, ProxyView])

    def proxy(self, name: str) -> ProxyView:
        return self.call("get", f"/proxies/{name}", ProxyView)

    def create(self, name: str, listen: str, upstream: str, **more: Any) -> ProxyView:
        """Create an enabled proxy; `more` are further fields, which only our relay knows."""
        body = {"name": name, "listen": listen, "upstream": upstream, "enabled": True, **more}
        self.call("post", "/proxies", None, body)
        made = self.proxy(name)
        if not made.enabled or made.upstream != upstream:
            raise LinkError(f"{self.address}: proxy {name} should lead to {upstream}, but reads back as {made}")
        return made

    def enable(self, *names: str) -> None:
        self._switch(names, True)

    def disable(self, *names: str) -> None:
        """Every connection ends with FIN, new ones are refused."""
        self._switch(names, False)

    def set_toxics(self, wanted: Mapping[str, Sequence[ToxicView]], *, ours: Callable[[ToxicView], bool]) -> None:
        """Of the toxics of these proxies that are `ours`, leave exactly those that are wanted; others stay.

        One read before and one after, however many proxies there are.
        """
        before = self._named(wanted)
        for name, toxics in wanted.items():
            here = [toxic for toxic in before[name].toxics if ours(toxic)]
            stale = [seen for seen in here if not any(_same(seen, each) for each in toxics)]
            for seen in stale:
                self.call("delete", f"/proxies/{name}/toxics/{seen.name}", None)
            for each in toxics:
                if not any(_same(seen, each) for seen in here):
                    self.call("post", f"/proxies/{name}/toxics", None, msgspec.structs.asdict(each))
        for name, proxy in self._named(wanted).items():
            now = [toxic for toxic in proxy.toxics if ours(toxic)]
            if len(now) != len(wanted[name]) or not all(any(_same(seen, each) for seen in now) for each in wanted[name]):
                raise LinkError(f"{self.address}: proxy {name} should have {wanted[name]}, but reads back with {now}")

    def call(self, method: str, path: str, shape: type[T] | None, body: Any = None) -> T:
        """One bounded call; its answer as `shape` (None: it is ignored). Raises LinkError, never retries."""
        what = f"{self.address}: {method.upper()} {path}"
        try:
            options = {"json": body} if body is not None else {}
            answer = getattr(self._api, method)(path, timeout=self._timeout_s, **options)
        except (ProxyExists, NotFound, InvalidToxic) as refused:
            reason = refused.args[0] if refused.args else b""
            text = reason.decode(errors="replace").strip() if isinstance(reason, bytes) else str(reason)
            raise LinkError(f"{what}: {text}") from refused
        except requests.RequestException as broken:
            raise LinkError(f"{what}: no answer ({broken.__class__.__name__}); {_UNCERTAIN}") from broken
        if not 200 <= answer.status_code < 300:
            uncertain = f"; {_UNCERTAIN}" if answer.status_code == 503 else ""
            raise LinkError(f"{what}: {answer.status_code} {answer.text.strip()[:200]}{uncertain}")
        try:
            return msgspec.json.decode(answer.content, type=shape) if shape is not None else None  # type: ignore[return-value]
        except msgspec.MsgspecError as strange:
            raise LinkError(f"{what}: not an answer of Toxiproxy: {strange}") from strange

    def _switch(self, names: Collection[str], enabled: bool) -> None:
        for name, proxy in self._named(names).items():
            if proxy.enabled is not enabled:
                self.call("post", f"/proxies/{name}", None, {"enabled": enabled})
        wrong = [name for name, proxy in self._named(names).items() if proxy.enabled is not enabled]
        if wrong:
            word = "enabled" if enabled else "disabled"
            raise LinkError(f"{self.address}: {', '.join(wrong)} should be {word}, but reads back otherwise")

    def _named(self, names: Collection[str]) -> dict[str, ProxyView]:
        """These proxies, as they are now."""
        seen = self.proxies()
        missing = sorted(set(names) - seen.keys())
        if missing:
            raise LinkError(f"{self.address}: proxy not found: {', '.join(missing)}")
        return {name: seen[name] for name in names}


def toxic(kind: str, *, stream: Direction, name: str, toxicity: float = 1.0, **attributes: int) -> ToxicView:
    """A toxic to be set. Raises LinkError for a toxicity or an attribute that is out of range."""
    if not 0 <= toxicity <= 1:
        raise LinkError(f"toxicity {toxicity} of {name}: write a share from 0 to 1")
    try:
        checked = msgspec.structs.asdict(attributes_of(kind, attributes))
    except ValueError as wrong:
        raise LinkError(f"toxic {kind} with {attributes}: {wrong}") from wrong
    return ToxicView(name, kind, stream, toxicity, checked)


class _Api(APIConsumer):  # type: ignore[misc]
    """The package's calls, with no proxy or .netrc of the environment; and PUT, which Toxiproxy itself does not know."""

    @classmethod
    def get(cls, url: str, params: Any = None, **kwargs: Any) -> requests.Response:
        return super().get(url, params, **_DIRECT, **kwargs)  # type: ignore[no-any-return]

    @classmethod
    def post(cls, url: str, data: Any = None, json: Any = None, **kwargs: Any) -> requests.Response:
        return super().post(url, data, json, **_DIRECT, **kwargs)  # type: ignore[no-any-return]

    @classmethod
    def delete(cls, url: str, **kwargs: Any) -> requests.Response:
        return super().delete(url, **_DIRECT, **kwargs)  # type: ignore[no-any-return]

    @classmethod
    def put(cls, url: str, **kwargs: Any) -> requests.Response:
        answer = requests.put(f"http://{cls.host}:{cls.port}{url}", **_DIRECT, **kwargs)  # noqa: S113 call() bounds it
        return validate_response(answer)  # type: ignore[no-any-return]


# With an `auth` that does nothing, requests looks for no login in a .netrc.
_DIRECT: Any = {"proxies": {"http": None, "all": None}, "auth": lambda request: request}


def _same(seen: ToxicView, wanted: ToxicView) -> bool:
    """Toxiproxy keeps toxicity as a 32-bit number."""
    close = abs(seen.toxicity - wanted.toxicity) < 1e-6
    return close and (seen.name, seen.type, seen.stream, seen.attributes) == (
        wanted.name,
        wanted.type,
        wanted.stream,
        wanted.attributes,
    )
