"""Which services of a project are replicas of one service. Pure.

Replicas run the same image, and their names differ by a number or by a word such as `primary`; or they run the same image with
the same command and settings, or name each other as members of a cluster do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile

from chaoslab.adopt.facts import Project, Service
from chaoslab.adopt.servers import server_of

# Words that distinguish replicas, the leader first.
_ROLES = (
    "primary",
    "master",
    "leader",
    "main",
    "active",
    "first",
    "secondary",
    "standby",
    "replica",
    "slave",
    "follower",
    "passive",
)
_PLACES = ("a", "b", "c", "d", "left", "right", "east", "west", "north", "south", "blue", "green", "one", "two", "three")
_ARBITERS = ("witness", "arbiter", "tiebreaker", "quorum")
_DATABASE = re.compile(r"(POSTGRES|POSTGRESQL|MYSQL|MARIADB)_(DB|DATABASE)|MONGO_INITDB_DATABASE")
_TOKENS = re.compile(r"[-_.]")


@dataclass(frozen=True)
class Group:
    """Replicas of one service, in the order in which they are spread over sites. Alone: `members` has one name."""

    name: str
    members: tuple[str, ...]
    why: str = ""


def groups_of(project: Project, places: Iterable[str] = ()) -> list[Group]:
    """Every service, in groups, in the order of the file. `places`: names of sites, which also distinguish replicas."""
    marks = {*_ROLES, *_PLACES, *_ARBITERS, *places}
    by_name: dict[tuple[str, tuple[str, str]], list[Service]] = {}
    for service in project.services.values():
        by_name.setdefault((_stem(service.name, marks), service.likeness), []).append(service)
    groups = []
    for members in by_name.values():  # databases of different names are not one service
        databases = {value for one in members for key, value in one.environment.items() if _DATABASE.fullmatch(key)}
        if len(members) > 1 and len(databases) <= 1:
            groups.append(members)
    grouped = {member.name for members in groups for member in members}
    own = re.compile("|".join(re.escape(name) for name in sorted(project.services, key=len, reverse=True)) or "$^")
    rest: dict[object, list[Service]] = {}  # by what replicas without a common name share, apart from the names in it
    for one in project.services.values():
        if one.name not in grouped:
            settings = tuple(sorted((key, own.sub("*", value)) for key, value in one.environment.items()))
            mounts = tuple(sorted(mount.target for mount in one.mounts))
            setup = (one.likeness, own.sub("*", one.command), settings, mounts, one.check, tuple(one.texts.values()))
            rest.setdefault(setup, []).append(one)
    for members in rest.values():
        first = members[0]  # two servers with the same image, such as two databases, need not be replicas
        holds_data = server_of(first) is not None or not (first.build or first.environment or first.command)
        if len(members) > 1 and (not holds_data or _name_each_other(members)):
            groups.append(members)
            grouped |= {member.name for member in members}
    found = [_named(members, project, marks) for members in groups]
    found += [Group(name, (name,)) for name in project.services if name not in grouped]
    order = {name: number for number, name in enumerate(project.services)}
    return sorted(found, key=lambda group: min(order[member] for member in group.members))


def _stem(name: str, marks: Iterable[str]) -> str:
    """The name without what distinguishes replicas; the name itself if nothing would be left."""
    kept = [re.sub(r"\d+$", "", token) for token in _TOKENS.split(name.lower()) if token not in marks]
    return "-".join(token for token in kept if token) or name


def _name_each_other(members: list[Service]) -> bool:
    """Whether every member's settings name another member, as in a cluster."""
    return all(
        any(
            re.search(rf"(?<![\w.-]){re.escape(other.name)}(?![\w-])", text)
            for other in members
            if other != one
            for _, text in one.words()
        )
        for one in members
    )


def _named(members: list[Service], project: Project, marks: Iterable[str]) -> Group:
    """The group, ordered by role, then by number or name, with a name that no other service has."""
    names = {member.name for member in members}
    stems = {_stem(name, marks) for name in names}
    why = "the same image, and names that differ by a number or a role" if len(stems) == 1 else "the same image and settings"
    columns = zip(*(_TOKENS.split(name) for name in names), strict=False)
    shared = "-".join(tokens[0] for tokens in takewhile(lambda tokens: len(set(tokens)) == 1, columns))
    name = next(iter(stems)) if len(stems) == 1 else shared or min(names)
    while name in project.services.keys() - names:
        name += "-group"
    return Group(name, tuple(sorted(names, key=_rank)), why)


def _rank(name: str) -> tuple[object, ...]:
    """Leaders first, witnesses last; numbers as numbers."""
    tokens = _TOKENS.split(name.lower())
    last = any(token in _ARBITERS for token in tokens)
    role = min((_ROLES.index(token) for token in tokens if token in _ROLES), default=0)
    parts = tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name.lower()) if part)
    return (last, role, parts)


def spread(group: Group, sites: tuple[str, ...], *, quorum: bool, witness: str) -> Mapping[str, str]:
    """The place of each member: sites in turn, and the last of an odd quorum in two sites with the witness."""
    members = group.members
    apart = members[-1:] if quorum and len(sites) == 2 and len(members) % 2 and len(members) >= 3 else ()
    placed = {name: sites[number % len(sites)] for number, name in enumerate(members) if name not in apart}
    for name in members:  # a name that contains a site's name is in that site
        said = [site for site in sites if site in _TOKENS.split(name.lower())]
        if len(said) == 1 and name not in apart:
            placed[name] = said[0]
    return {**placed, **dict.fromkeys(apart, witness)}
