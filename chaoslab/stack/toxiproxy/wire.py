"""The messages of the relay's HTTP API: those of Toxiproxy 2.12 and chaoslab's additions. Pure.

Decoding is strict: everything that Toxiproxy would accept and then fail on (a slicer with `average_size` 0, a
bandwidth of -1) is refused here with a ValueError that says what would have been right.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

import msgspec

Direction = Literal["upstream", "downstream"]
ToxicType = Literal["latency", "bandwidth", "timeout", "reset_peer", "slow_close", "limit_data", "slicer", "noop"]

# A day in milliseconds: longer waits are mistakes, and sums of them would leave the range of timers.
_Millis = Annotated[int, msgspec.Meta(ge=0, le=86_400_000)]
_Rate = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
_Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Place = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Attributes(msgspec.Struct, frozen=True):
    """Base of the attributes of a toxic. Unknown keys are ignored, as Toxiproxy does."""


class Latency(Attributes, frozen=True):
    """Milliseconds, each way separately; the delay of a piece is latency ± jitter, the order stays."""

    latency: _Millis = 0
    jitter: _Millis = 0


class Bandwidth(Attributes, frozen=True):
    """Kilobytes (1000 bytes) a second; 0 lets nothing pass."""

    rate: _Rate = 0


class Timeout(Attributes, frozen=True):
    """Drops all data; ends the connection after `timeout` milliseconds of silence, or never when 0."""

    timeout: _Millis = 0


class ResetPeer(Attributes, frozen=True):
    """Ends the connection `timeout` milliseconds after the first data, with RST on those opened under the toxic."""

    timeout: _Millis = 0


class SlowClose(Attributes, frozen=True):
    """The end of the stream arrives `delay` milliseconds late."""

    delay: _Millis = 0


class LimitData(Attributes, frozen=True):
    """Ends the connection once `bytes` have passed."""

    bytes: _Bytes = 0


class Slicer(Attributes, frozen=True):
    """Cuts data into pieces of about `average_size` ± `size_variation` bytes, `delay` microseconds apart."""

    average_size: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    size_variation: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0
    delay: Annotated[int, msgspec.Meta(ge=0, le=86_400_000_000)] = 0

    def __post_init__(self) -> None:
        if self.size_variation >= self.average_size:
            raise ValueError("size_variation must be smaller than average_size")


class Noop(Attributes, frozen=True):
    """Lets everything pass."""


ATTRIBUTES: dict[ToxicType, type[Attributes]] = {
    "latency": Latency,
    "bandwidth": Bandwidth,
    "timeout": Timeout,
    "reset_peer": ResetPeer,
    "slow_close": SlowClose,
    "limit_data": LimitData,
    "slicer": Slicer,
    "noop": Noop,
}


def attributes_of(kind: str, given: dict[str, Any], base: Attributes | None = None) -> Attributes:
    """Check `given` against what a toxic of this kind takes; keys that are missing keep the value of `base`.

    Raises ValueError for an unknown kind and for every value that is not in range.
    """
    if kind not in get_args(ToxicType):
        raise ValueError(f"invalid toxic type {kind!r}; there are {', '.join(ATTRIBUTES)}")
    before = msgspec.structs.asdict(base) if base is not None else {}
    return msgspec.convert({**before, **given}, type=ATTRIBUTES[kind])  # type: ignore[index]


class Link(msgspec.Struct, frozen=True):
    """The places that a proxy joins: connections are opened travelling `source` → `to`."""

    source: _Place = msgspec.field(name="from")
    to: _Place


class ProxyInput(msgspec.Struct, frozen=True):
    """Body of a proxy's creation; `link` is ours."""

    name: str = ""
    listen: str = ""
    upstream: str = ""
    enabled: bool = True
    link: Link | None = None


class ProxyPatch(msgspec.Struct, frozen=True):
    """Body of a proxy's change; what is missing stays as it is."""

    listen: str | None = None
    upstream: str | None = None
    enabled: bool | None = None


class ToxicInput(msgspec.Struct, frozen=True):
    """Body of a toxic's creation. `stream` is checked apart, since Toxiproxy answers it apart."""

    name: str = ""
    type: str = ""
    stream: str = "downstream"
    toxicity: _Share = 1.0
    attributes: dict[str, Any] = {}


class ToxicPatch(msgspec.Struct, frozen=True):
    """Body of a toxic's change; attributes that are missing stay as they are."""

    toxicity: _Share | None = None
    attributes: dict[str, Any] = {}


class ToxicView(msgspec.Struct, frozen=True):
    """A toxic as the API shows it."""

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: dict[str, Any]


class ProxyView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A proxy as the API shows it; `link` only where it was given."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: list[ToxicView]
    link: Link | None = None


class Fence(msgspec.Struct, frozen=True, omit_defaults=True):
    """The flows that are held: [source, to] pairs. Always a full replacement.

    `let_in`, only in the answer to one: by proxy, how many connections a fence that ended now could not keep out.
    """

    hold: list[tuple[_Place, _Place]]
    let_in: dict[str, int] = {}


class Vacant(msgspec.Struct, frozen=True):
    """The places in which no process of the run is alive. Always a full replacement."""

    places: list[_Place]


class RouterInput(msgspec.Struct, frozen=True):
    """One advertised address for all clients: those from a site in `routes` go through that proxy."""

    name: _Name
    listen: str
    upstream: Annotated[str, msgspec.Meta(min_length=1)]
    routes: dict[_Place, _Name] = {}


How = Literal["refused", "silent"]


class UnansweredCount(msgspec.Struct, frozen=True):
    """How often a replica connected to a proxy or a router and got no answer: refused behind it, or silence."""

    client: str
    proxy: str
    how: How
    times: int


class RelayState(msgspec.Struct, frozen=True):
    """What a relay is and does now. `connections`: open ones for each proxy and router, pending ones included."""

    pid: int
    started_ns: int
    hold: list[tuple[str, str]]
    connections: dict[str, int]
    VERSION: ClassVar[str] = "2.12.0"
