"""Shells that stay open in containers, so that a command costs one write and one read instead of three calls of the engine."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterable
from contextlib import suppress
from secrets import token_hex
from typing import Any

from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.errors import StackError
from chaoslab.stack.docker_containers import Containers

_ANSWER_S = 10.0
_HEADER = struct.Struct(">BxxxL")  # of each piece of an attached container's output: which stream, how long


class Shell:
    """One `docker exec sh` whose standard input is kept. Raises OSError when it is gone, TimeoutError when it is late."""

    def __init__(self, attached: Any) -> None:
        """`attached`: what the SDK returns for an exec that is started with `socket=True`."""
        self._attached = attached
        self._socket = getattr(attached, "_sock", attached)  # the SDK's own is for reading only, on Unix sockets and TCP

    def run(self, script: str, deadline: Deadline) -> tuple[str, int]:
        """What a script said on both outputs, and its exit status."""
        mark = token_hex(8)
        end = re.compile(rf"{mark} (\d+)\n\Z")
        self._socket.settimeout(max(deadline.left_s, 0.001))
        self._socket.sendall(f"( {script}\n) 2>&1 </dev/null; echo {mark} $?\n".encode())
        said = b""
        while (ended := end.search(said.decode(errors="replace"))) is None:
            said += self._piece(deadline)
        return ended.string[: ended.start()], int(ended[1])

    def _piece(self, deadline: Deadline) -> bytes:
        _, length = _HEADER.unpack(self._read(_HEADER.size, deadline))
        return self._read(length, deadline)

    def _read(self, length: int, deadline: Deadline) -> bytes:
        read = b""
        while len(read) < length:
            self._socket.settimeout(max(deadline.left_s, 0.001))
            piece = self._socket.recv(length - len(read))
            if not piece:
                raise ConnectionResetError("the shell ended")
            read += piece
        return read

    def close(self) -> None:
        """The end of its input ends the shell."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._attached.close()


class Shells:
    """A shell in each of the harness's own containers, opened when it is first needed. Safe to use from several threads.

    Scripts have to be safe to run twice: one whose shell broke meanwhile is run again, once, by a new shell.
    """

    def __init__(self, containers: Containers, clock: Clock = SYSTEM) -> None:
        self._containers = containers
        self._clock = clock
        self._open: dict[str, Shell] = {}
        self._locks: dict[str, threading.Lock] = {}

    def open(self, names: Iterable[str]) -> None:
        """Have these shells at hand, all at once."""
        self._containers.at_once(lambda name: self.say(name, "true"), list(names))

    def say(self, name: str, script: str) -> str:
        """Run a script in a container of the run; returns what it said. Raises StackError when it fails or does not end."""
        with self._locks.setdefault(name, threading.Lock()):
            try:
                said, status = self._run(name, script)
            except TimeoutError as late:
                raise StackError(f"{name}: no end within {_ANSWER_S:.0f} s: {script}") from late
            except OSError:
                said, status = self._run_anew(name, script)
        if status:
            raise StackError(f"{name}: {script}: exit status {status}: {said.strip()[-500:]}")
        return said

    def _run_anew(self, name: str, script: str) -> tuple[str, int]:
        try:
            return self._run(name, script)
        except OSError as gone:
            raise StackError(f"{name}: no shell stays open there: {gone}") from gone

    def _run(self, name: str, script: str) -> tuple[str, int]:
        shell = self._open.get(name) or self._open.setdefault(name, Shell(self._containers.attach(name, ["sh"])))
        try:
            return shell.run(script, Deadline.after(_ANSWER_S, self._clock))
        except OSError:
            self._open.pop(name, None)  # `close` may have been first
            shell.close()
            raise

    def close(self) -> None:
        """End all of them."""
        while self._open:
            with suppress(KeyError):  # its own thread may have been first
                self._open.popitem()[1].close()
