"""Compose projects made from a seed, with random names and the truth about them: which services are replicas, and the entry."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

_SYLLABLES = ("ba", "ko", "ri", "mo", "ta", "sel", "nu", "vi", "dor", "pex", "lun", "gar")
_TRAPS = (
    "auth0",
    "s3",
    "web3",
    "oauth2",
    "k8s",
    "main-site",
    "one",
    "left-pad",
    "primary-care",
)  # not replicas, for all their names
_MARKS: tuple[Callable[[int], str], ...] = (
    lambda number: f"-{number + 1}",
    lambda number: f"{number + 1}",
    lambda number: f"_{number:02}",
    lambda number: f"-{'abc'[number]}",
    lambda number: f"-{('primary', 'replica', 'standby')[number]}",
    lambda number: f".{('east', 'west', 'north')[number]}",
)
_CLUSTERS = {
    "etcd": "quay.io/coreos/etcd:v3.5",
    "kafka": "apache/kafka:3.7",
    "mongo": "mongo:7",
    "redis": "redis:7",
    "pg": "bitnami/postgresql:16",
}
_PROXIES = ("nginx:1.27", "haproxy:2.9", "caddy:2", "traefik:v3")


@dataclass
class Made:
    """`groups`: by service, the name of what it is a replica of; its own for a service that stands alone."""

    text: str
    groups: dict[str, str] = field(default_factory=dict)
    entry: str = ""


def made(seed: int) -> Made:
    """The same project for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - names, not secrets
    services: dict[str, Any] = {}
    groups: dict[str, str] = {}

    def new_name() -> str:
        while (name := "".join(chance.sample(_SYLLABLES, 2)) + chance.choice(["", "-api", "-svc"])) in services:
            pass
        return name

    def add(name: str, entry: dict[str, Any], group: str) -> None:
        services[name], groups[name] = entry, group

    for _ in range(chance.randint(1, 3)):  # applications, alone or with replicas
        base, image, port = new_name(), f"registry.local/{new_name()}:1", chance.randint(3000, 9000)
        count, style, numbered = chance.randint(1, 3), chance.choice([*_MARKS, None]), chance.random() < 0.3
        for number in range(count):
            name = base if count == 1 else new_name() if style is None else base + style(number)
            settings = {"PORT": str(port), "KEY": base} | ({"NODE": str(number)} if numbered else {})
            add(name, {"image": image, "environment": settings}, base)
        second = f"{base}22"
        if chance.random() < 0.3:  # another service with its image, which no file says
            add(second, {"image": image, "environment": {"PORT": str(port), "KEY": base}}, second)
    for kind in chance.sample(sorted(_CLUSTERS), chance.randint(0, 2)):  # known servers, alone, twice, or as a cluster
        style, count = chance.choice(_MARKS), chance.choice([1, 3])
        names = [kind] if count == 1 else [kind + style(number) for number in range(count)]
        for name in names:
            add(name, {"image": _CLUSTERS[kind], "environment": {"MEMBERS": ",".join(names)}}, kind)
    for name in chance.sample(_TRAPS, 2):
        add(name, {"image": f"registry.local/{name}:1"}, name)
    if chance.random() < 0.5:  # two databases that have nothing but their image in common
        for name in (f"{new_name()}-db", f"{new_name()}-db"):
            add(name, {"image": "postgres:16", "environment": {"POSTGRES_PASSWORD": "x"}}, name)
    inner = [name for name, entry in services.items() if "PORT" in entry.get("environment", {})]
    if chance.random() < 0.7:
        entry = new_name()
        add(entry, {"image": chance.choice(_PROXIES), "ports": ["8080:8080"], "depends_on": inner[:2]}, entry)
    else:
        entry = new_name()
        add(entry, {"image": "registry.local/front:1", "ports": ["8080:3000"], "depends_on": inner}, entry)
    if chance.random() < 0.4:
        services[inner[0]]["ports"] = ["9999:9999"]  # something else is published, too
    order = list(services)
    chance.shuffle(order)
    return Made(yaml.safe_dump({"services": {name: services[name] for name in order}}, sort_keys=False), groups, entry)
