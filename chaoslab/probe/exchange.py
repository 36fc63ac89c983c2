"""How one exchange ended, whatever its protocol."""

from __future__ import annotations

from typing import Any, NamedTuple


class Exchange(NamedTuple):
    """How one exchange ended. `error` None: the answer was read whole; else it says why it was not, or what it refused.

    `end_ns`: monotonic. `sent` False is proof that no byte of the request left. `pooled`: over a reused connection.
    `status`, `body`: of HTTP. `code`: by which another server named its refusal. `value`: what another answer holds.
    `cookies`: that an HTTP answer set.
    """

    end_ns: int
    sent: bool
    pooled: bool = False
    status: int | None = None
    body: bytes = b""
    error: str | None = None
    code: str | None = None
    value: Any = None
    cookies: tuple[str, ...] = ()
