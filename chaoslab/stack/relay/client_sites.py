"""The site, and the replica, that a connection on this machine comes from: of the process that owns the client's socket.

A run's processes carry environment variables: CHAOSLAB_RUN, the run's id, CHAOSLAB_SITE and CHAOSLAB_REPLICA. Children that
rewrote their environment (PostgreSQL's backends) count to the site of their nearest marked ancestor; those that write a title
there (Redis) are known by the run's roster: see `process.remember`.

The kernel is queried with a hand-written netlink message, which takes 0.2 ms for each connection: pyroute2 takes 2 to 10 ms,
and more than a second to import.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import psutil

from chaoslab.clock import utc_now
from chaoslab.process import Leader, began, remembered
from chaoslab.stack.reach import REPLICA_VARIABLE, RUN_VARIABLE, SITE_VARIABLE, data_folder, roster_in

_SETTLED_S = 5.0  # between fork and exec a process still shows its parent's environment: do not remember that

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR = 2
_NO_OWNER = 0
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_INODE_AT = 16 + 4 + 48 + 16  # behind the header, four bytes of state, the socket's id, and four counters
_NO_COOKIE = b"\xff" * 8

Peer = tuple[str, int]


class ClientSites:
    """Looks up sites. Blocks for a millisecond or so: call it in a thread. Safe for one thread at a time."""

    def __init__(self, run: str | None) -> None:
        self._run = run
        self._roster = None if run is None else roster_in(data_folder(run))
        self._leaders: dict[int, Leader] = {}  # by pid, as far as the roster was read
        self._read_bytes = 0
        self._sites: dict[tuple[int, float], str | None] = {}  # by pid and start time: pids come again
        self._recent: dict[int, psutil.Process] = {}  # most clients have connected before

    def site_of(self, peer: Peer, here: Peer) -> str | None:
        """The site of the process whose socket `peer` is connected to `here`; None when no process of the run has it."""
        owner = self._owner(peer, here, _inode(peer, here))
        return None if owner is None else self._site(owner)

    def replica_of(self, peer: Peer, here: Peer, inode: int | None = None) -> str | None:
        """The replica of the process whose socket `peer` is connected to `here`, or whose has that inode; None for others."""
        process = self._owner(peer, here, inode if inode is not None else _inode(peer, here))
        while process is not None:
            marks = self._marks(process)
            if marks.get(RUN_VARIABLE) == self._run and REPLICA_VARIABLE in marks:
                return marks[REPLICA_VARIABLE].partition("/")[2]
            try:
                process = process.parent()
            except psutil.Error:
                return None
        return None

    def _owner(self, peer: Peer, here: Peer, inode: int | None) -> psutil.Process | None:
        """The process of the run that has this socket."""
        if self._run is None or inode == _NO_OWNER:
            return None
        # Those that connected before come first, then the other processes of the run.
        self._recent = {pid: process for pid, process in self._recent.items() if process.is_running()}
        others = (one for one in psutil.process_iter() if one.pid not in self._recent and self._site(one) is not None)
        for process in chain(self._recent.values(), others):
            if _owns(process, inode, peer, here) and self._site(process) is not None:
                self._recent = {process.pid: process, **self._recent}
                return process
        return None

    def _marks(self, process: psutil.Process) -> Mapping[str, str]:
        """Its environment; where that shows no run, what was written down before a title overwrote it."""
        environment: dict[str, str] = {}
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ()
        if RUN_VARIABLE in environment or self._roster is None:
            return environment
        with contextlib.suppress(OSError):
            if (size_bytes := self._roster.stat().st_size) != self._read_bytes:
                self._leaders = {leader.pid: leader for leader in remembered(self._roster)}
                self._read_bytes = size_bytes
        leader = self._leaders.get(process.pid)
        return leader.marks if leader is not None and leader.began == began(process.pid) else environment

    def _site(self, process: psutil.Process) -> str | None:
        """Site of a process of the run; None for every other process."""
        with contextlib.suppress(psutil.Error):
            key = (process.pid, process.create_time())
            if key in self._sites:
                return self._sites[key]
            marks = self._marks(process)
            if marks.get(RUN_VARIABLE) == self._run:
                site = marks.get(SITE_VARIABLE)
            else:
                parent = process.parent()
                site = self._site(parent) if parent is not None else None
            if site is not None or utc_now().timestamp() - key[1] > _SETTLED_S:
                self._sites[key] = site
            return site
        return None


def _inode(peer: Peer, here: Peer) -> int | None:
    """Inode of the socket at `peer`: one message to the kernel, however many sockets there are.

    0 when no process has that socket any more, None where the kernel cannot be asked.
    """
    if not sys.platform.startswith("linux"):
        return None
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    addresses = b"".join(socket.inet_pton(family, host).ljust(16, b"\0") for host in (peer[0], here[0]))
    ask = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    ask += struct.pack("!HH", peer[1], here[1]) + addresses + struct.pack("=I", 0) + _NO_COOKIE
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.settimeout(1.0)
            kernel.send(_HEADER.pack(_HEADER.size + len(ask), _SOCK_DIAG_BY_FAMILY, 1, 1, 0) + ask)
            answer = kernel.recv(4096)
    except OSError:
        return None
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _NLMSG_ERROR and -struct.unpack_from("=i", answer, _HEADER.size)[0] == errno.ENOENT:
        return _NO_OWNER
    if kind != _SOCK_DIAG_BY_FAMILY or len(answer) < _INODE_AT + 4:
        return None
    return int(struct.unpack_from("=I", answer, _INODE_AT)[0])


def _owns(process: psutil.Process, inode: int | None, peer: Peer, here: Peer) -> bool:
    """Whether a process has the socket with this inode; by its table of connections where the kernel cannot be asked for it."""
    with contextlib.suppress(psutil.Error, OSError):
        if inode is None:
            return any(tuple(c.laddr) == peer and tuple(c.raddr) == here for c in process.net_connections("tcp") if c.raddr)
        folder = f"/proc/{process.pid}/fd"
        for number in os.listdir(folder):  # noqa: PTH208 hot, and names are enough
            with contextlib.suppress(OSError):  # closed meanwhile
                if str(Path(folder, number).readlink()) == f"socket:[{inode}]":
                    return True
    return False
