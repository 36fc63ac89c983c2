"""What `init` writes: the place of each replica, the entry, the journeys, and what cannot be known. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from chaoslab.adopt.entry import Entry


class Note(NamedTuple):
    """What cannot be known, or does not work without changes. `line`: what to write, and where."""

    about: str
    text: str
    line: str = ""


@dataclass(frozen=True)
class Placed:
    """A replica and what the overlay adds to it.

    `expose`: ports with reasons. `data`: by the path of a mount, the volume that replaces the user's own data. `extends`: for a
    new service, the one that it extends. `containers`: how many of them are here; None if the user's file says so.
    """

    name: str
    service: str
    site: str
    why: str
    expose: Mapping[int, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    network: str = "default"
    waits_for: tuple[str, ...] = ()
    title: str = ""
    extends: str = ""
    containers: int | None = None


@dataclass(frozen=True)
class Journey:
    """One request at the entry. `status`: what a good answer has."""

    name: str
    service: str
    path: str
    why: str
    host: str = ""
    status: int = 200


@dataclass(frozen=True)
class Plan:
    """Everything that is written, and why. `empty`: requested sites without a replica."""

    sites: tuple[str, ...]
    empty: tuple[str, ...]
    placed: tuple[Placed, ...]
    entry: Entry
    journeys: tuple[Journey, ...]
    rto_s: int
    burns: str  # the site of the first fire; a single service is restarted instead
    burnt: tuple[str, ...]  # services that are measured and have a replica in that site
    alone: tuple[str, ...]  # services that are only in the site that burns
    own_volumes: tuple[str, ...]  # external volumes that a rehearsal replaces by empty ones
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Answers:
    """What the user decides; None where a guess is taken."""

    sites: tuple[str, ...] = ("a", "b")
    entry: str | None = None
    path: str | None = None
    rto_s: int = 30
