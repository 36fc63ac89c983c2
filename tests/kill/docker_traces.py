"""What a run leaves on a Docker engine, found by the name of its stack and not by chaoslab's own marks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

_LISTS = {
    "container": ["ps", "--all", "--format", "{{.Names}}"],
    "network": ["network", "ls", "--format", "{{.Name}}"],
    "volume": ["volume", "ls", "--format", "{{.Name}}"],
}
_REMOVE = {"container": ["rm", "--force", "--volumes"], "network": ["network", "rm"], "volume": ["volume", "rm"]}


def things(stack: str) -> list[str]:
    """Its containers, networks and volumes, as `kind name`."""
    return [f"{kind} {name}" for kind, words in _LISTS.items() for name in _say(*words, "--filter", f"name={stack}")]


def remove(stack: str) -> None:
    for thing in things(stack):
        kind, _, name = thing.partition(" ")
        subprocess.run(["docker", *_REMOVE[kind], name], capture_output=True, check=False)


def containers(stack: str) -> set[str]:
    """The ids of those that run, in full."""
    return set(_say("ps", "--quiet", "--no-trunc", "--filter", f"name={stack}"))


def ports(stack: str) -> set[int]:
    """Where the machine listens for them."""
    published = _say("ps", "--format", "{{.Ports}}", "--filter", f"name={stack}")
    return {int(port) for line in published for port in re.findall(r":(\d+)->", line)}


def processes_of(containers: Collection[str]) -> list[int]:
    """The processes that stand in a control group of one of these."""
    groups = {int(path.parent.name): _read(path) for path in Path("/proc").glob("[0-9]*/cgroup")}
    return [pid for pid, group in groups.items() if any(id_ in group for id_ in containers)]


def rules(ports: Collection[int]) -> list[str]:
    """Packet rules of this machine about these ports; only root may ask."""
    if os.geteuid() != 0 or not shutil.which("iptables-save"):
        return []
    saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in saved if (found := re.search(r"--dport (\d+)", line)) and int(found[1]) in ports]


def _say(*words: str) -> list[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout.split()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
