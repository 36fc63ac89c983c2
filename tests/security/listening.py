"""Who listens where."""

from __future__ import annotations

from collections.abc import Collection

import psutil


def listening(processes: Collection[psutil.Process]) -> set[tuple[str, str]]:
    """The addresses that these processes wait at, TCP and UDP, each with the name of the program."""
    names = {process.pid: process.name() for process in processes}
    found = [one for one in psutil.net_connections("inet") if one.pid in names and not one.raddr]
    return {(one.laddr.ip, names[one.pid or 0]) for one in found}
