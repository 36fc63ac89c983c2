"""What a stack consists of, independent of any runtime. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chaoslab.spec.stackfile.model import OUTSIDE, StackSpec


class Address(NamedTuple):
    """Where something listens. Ask a stack for it; never build one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Flow(NamedTuple):
    """Packets that travel from one place to another; a place is a site, the witness's, or `outside`."""

    source: str
    to: str

    def __str__(self) -> str:
        return f"{self.source}→{self.to}"


@dataclass(frozen=True)
class Healthcheck:
    """A Compose health check. `test` is an argument list; durations are seconds."""

    test: tuple[str, ...]
    interval_s: float = 1.0
    timeout_s: float = 5.0
    retries: int = 30
    start_period_s: float = 0.0


@dataclass(frozen=True)
class Replica:
    """One entry under `services:` of the Compose file: an instance of a service in a site."""

    name: str
    service: str  # the logical service; `chaoslab.service` label, or the name
    site: str  # `chaoslab.site` label, or outside
    ports: tuple[int, ...] = ()
    depends_on: tuple[str, ...] = ()
    healthcheck: Healthcheck | None = None
    volumes: tuple[str, ...] = ()  # volumes and folders that it may write; one without a name by where it is mounted


@dataclass(frozen=True)
class Topology:
    """The replicas of a stack and where each stands."""

    project: str
    replicas: tuple[Replica, ...]
    spec: StackSpec
    places: tuple[str, ...] = field(default=())  # every site, the witness's place and outside

    def replica(self, name: str) -> Replica:
        """Raises KeyError when there is no such replica."""
        return {replica.name: replica for replica in self.replicas}[name]

    def in_site(self, site: str) -> tuple[Replica, ...]:
        return tuple(replica for replica in self.replicas if replica.site == site)

    def of_service(self, service: str, site: str | None = None) -> tuple[Replica, ...]:
        """The replicas of a logical service, in one site or in all."""
        return tuple(r for r in self.replicas if r.service == service and site in (None, r.site))

    def flows_around(self, site: str) -> tuple[Flow, ...]:
        """Every flow into and out of a site."""
        others = [place for place in self.places if place != site]
        return tuple(flow for other in others for flow in (Flow(site, other), Flow(other, site)))

    @property
    def entry(self) -> tuple[str, int]:
        """Replica and port that users reach."""
        name, _, port = self.spec.entry_named(None).address.partition(":")
        return name, int(port)


def places_of(replicas: Sequence[Replica]) -> tuple[str, ...]:
    """Every place that has a replica, and outside, in order of appearance."""
    return tuple(dict.fromkeys([*(replica.site for replica in replicas), OUTSIDE]))
