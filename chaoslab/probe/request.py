"""A journey's request as bytes. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import msgspec

from chaoslab import __version__
from chaoslab.errors import SpecError
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.payload import Values, fill, fill_path, is_template
from chaoslab.probe.plan import HttpCall

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f]")
_FORBIDDEN_IN_PATH = re.compile(r"\s")


def varies(call: HttpCall) -> bool:
    """Whether two slots can differ."""
    return any(map(is_template, (call.path, call.headers, call.body, call.form)))


def render(endpoint: Endpoint, call: HttpCall, values: Values, *, fresh: bool, cookie: str = "") -> bytes:
    """A whole request, the path of `endpoint` in front of the call's; `fresh` asks for the connection to be closed.

    Raises SpecError when a value would break the request line or a header.
    """
    method, payload, kind = call.method, b"", None
    if call.form is not None:
        payload, kind = urlencode(fill(call.form, values)).encode(), "application/x-www-form-urlencoded"
    elif call.body is not None:
        payload, kind = msgspec.json.encode(fill(call.body, values)), "application/json"
    lines = {"Host": endpoint.authority, "User-Agent": f"chaoslab-probe/{__version__}", "Accept": "*/*"}
    if kind is not None:
        lines["Content-Type"] = kind
    if kind is not None or method not in ("GET", "HEAD"):
        lines["Content-Length"] = str(len(payload))
    if cookie:
        lines["Cookie"] = cookie
    if fresh:
        lines["Connection"] = "close"
    lines.update((name, str(fill(value, values))) for name, value in call.headers.items())
    where = endpoint.prefix.rstrip("/") + fill_path(call.path, values) or "/"
    head = [f"{method} {where} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
    if _FORBIDDEN.search("".join(head)) or _FORBIDDEN_IN_PATH.search(where):
        raise SpecError(f"{method} {where!r}: a path or a header holds a character that no request may hold")
    return "\r\n".join([*head, "", ""]).encode("latin-1", "replace") + payload
