"""Another machine, as far as the network goes: a network namespace on the far end of a cable. Needs root and Linux."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from secrets import token_hex

HERE, THERE = "198.18.77.1", "198.18.77.2"  # RFC 2544: for tests between networks, in use nowhere


@dataclass(frozen=True)
class Elsewhere:
    """`here`: the address of this machine on the cable. `run`: the words before a command that is to run over there."""

    name: str
    here: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def run(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.name)


@contextlib.contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    """The cable and its far end go with the block."""
    mark = token_hex(4)  # the kernel removes a cable some time after its namespace: no name is used twice
    name, near, far = f"chaoslab-test-{mark}", f"cl{mark}", f"cr{mark}"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        _ip("address", "add", f"{HERE}/30", "dev", near)
        _ip("link", "set", near, "up")
        _ip("-n", name, "address", "add", f"{THERE}/30", "dev", far)
        _ip("-n", name, "link", "set", far, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield Elsewhere(name, HERE)
    finally:
        _ip("netns", "delete", name)  # and the cable with it


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
