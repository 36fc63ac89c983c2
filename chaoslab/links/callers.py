"""Which site a connection on this machine comes from, told by the process that owns its other end.

A run's processes carry two environment variables: CHAOSLAB_RUN, the run's id, and CHAOSLAB_SITE. Children that
rewrote their environment (PostgreSQL's backends) count as where the nearest marked ancestor stands.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from chaoslab.clock import utc_now

RUN_VARIABLE = "CHAOSLAB_RUN"
SITE_VARIABLE = "CHAOSLAB_SITE"

_SETTLED_S = 5.0  # between fork and exec a process still shows its parent's environment: do not remember that

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR = 2
_NOBODY = 0
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_INODE_AT = 16 + 4 + 48 + 16  # behind the header, four bytes of state, the socket's id, and four counters
_NO_COOKIE = b"\xff" * 8

Peer = tuple[str, int]


class Callers:
    """Looks up sites. Blocking, a millisecond or so; call it in a thread. Safe for one thread at a time."""

    def __init__(self, run: str | None) -> None:
        self._run = run
        self._sites: dict[tuple[int, float], str | None] = {}  # by pid and start time: pids come again
        self._recent: dict[int, psutil.Process] = {}  # who called before calls again, mostly

    def site_of(self, peer: Peer, here: Peer) -> str | None:
        """The site of the process whose socket `peer` is connected to `here`; None when no process of the run has it."""
        if self._run is None:
            return None
        inode = _inode(peer, here)
        if inode == _NOBODY:
            return None
        owned = _owners_by_table(peer, here, self._members()) if inode is None else _owners_by_inode(inode, self._members())
        for process in owned:
            site = self._site(process)
            if site is not None:
                self._recent = {process.pid: process, **self._recent}
                return site
        return None

    def _members(self) -> Iterator[psutil.Process]:
        """Processes of the run: who called before, then the others."""
        self._recent = {pid: process for pid, process in self._recent.items() if process.is_running()}
        yield from self._recent.values()
        for process in psutil.process_iter():
            if process.pid not in self._recent and self._site(process) is not None:
                yield process

    def _site(self, process: psutil.Process) -> str | None:
        """Site of a process of the run; None for every other process."""
        with contextlib.suppress(psutil.Error):
            key = (process.pid, process.create_time())
            if key in self._sites:
                return self._sites[key]
            site = self._read_site(process)
            if site is not None or utc_now().timestamp() - key[1] > _SETTLED_S:
                self._sites[key] = site
            return site
        return None

    def _read_site(self, process: psutil.Process) -> str | None:
        environment: dict[str, str] = {}
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ()
        if environment.get(RUN_VARIABLE) == self._run:
            return environment.get(SITE_VARIABLE)
        parent = process.parent()
        return self._site(parent) if parent is not None else None


def _inode(peer: Peer, here: Peer) -> int | None:
    """Inode of the socket at `peer`: one message to the kernel, however many sockets there are.

    0 when no process has that socket any more, None where the kernel cannot be asked.
    """
    if not sys.platform.startswith("linux"):
        return None
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    ends = b"".join(socket.inet_pton(family, host).ljust(16, b"\0") for host in (peer[0], here[0]))
    ask = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    ask += struct.pack("!HH", peer[1], here[1]) + ends + struct.pack("=I", 0) + _NO_COOKIE
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.settimeout(1.0)
            kernel.send(_HEADER.pack(_HEADER.size + len(ask), _SOCK_DIAG_BY_FAMILY, 1, 1, 0) + ask)
            answer = kernel.recv(4096)
    except OSError:
        return None
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _NLMSG_ERROR and -struct.unpack_from("=i", answer, _HEADER.size)[0] == errno.ENOENT:
        return _NOBODY
    if kind != _SOCK_DIAG_BY_FAMILY or len(answer) < _INODE_AT + 4:
        return None
    return int(struct.unpack_from("=I", answer, _INODE_AT)[0])


def _owners_by_inode(inode: int, members: Iterator[psutil.Process]) -> Iterator[psutil.Process]:
    wanted = f"socket:[{inode}]"
    for process in members:
        with contextlib.suppress(OSError):
            folder = f"/proc/{process.pid}/fd"
            if any(_target(folder, fd) == wanted for fd in os.listdir(folder)):  # noqa: PTH208 hot, and names are enough
                yield process


def _target(folder: str, fd: str) -> str:
    try:
        return str(Path(folder, fd).readlink())
    except OSError:
        return ""


def _owners_by_table(peer: Peer, here: Peer, members: Iterator[psutil.Process]) -> Iterator[psutil.Process]:
    """Where the kernel cannot be asked about one socket: through all sockets of the run's processes."""
    for process in members:
        with contextlib.suppress(psutil.Error, OSError):
            if any(tuple(c.laddr) == peer and tuple(c.raddr) == here for c in process.net_connections("tcp") if c.raddr):
                yield process
