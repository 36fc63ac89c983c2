"""Shells that stay open in the harness's own containers: `docker exec sh` processes that receive one script after another.

A script thus costs one write and one read instead of three calls to the engine.
"""

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
from chaoslab.files import last_lines
from chaoslab.stack.compose.containers import Containers

_ANSWER_S = 10.0
_HEADER = struct.Struct(">BxxxL")  # of each frame of an attached container's output: which stream, how long


class Attached:
    """The input and output of a `docker exec` process. Raises OSError when it has ended, TimeoutError when it is late."""

    def __init__(self, attached: Any) -> None:
        """`attached`: what the SDK returns for an exec that is started with `socket=True`."""
        self._attached = attached
        self._socket = getattr(attached, "_sock", attached)  # the SDK's own is for reading only, on Unix sockets and TCP

    def send(self, text: str, deadline: Deadline) -> None:
        """Write to its input."""
        self._socket.settimeout(max(deadline.left_s, 0.001))
        self._socket.sendall(text.encode())

    def receive(self, deadline: Deadline) -> bytes:
        """What it wrote next, to either output."""
        _, length = _HEADER.unpack(self._read(_HEADER.size, deadline))
        return self._read(length, deadline)

    def _read(self, length: int, deadline: Deadline) -> bytes:
        """So many bytes. The SDK's readers of this stream (docker.utils.socket) wait without a time-out."""
        read = b""
        while len(read) < length:
            self._socket.settimeout(max(deadline.left_s, 0.001))
            piece = self._socket.recv(length - len(read))
            if not piece:
                raise ConnectionResetError("the process ended")
            read += piece
        return read

    def close(self) -> None:
        """Close its input, which ends it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._attached.close()


class Shell(Attached):
    """One `docker exec sh` whose standard input is kept."""

    def run(self, script: str, deadline: Deadline) -> tuple[str, int]:
        """The output of a script on both streams, and its exit status."""
        mark = token_hex(8)
        end = re.compile(rf"{mark} (\d+)\n\Z")
        self.send(f"( {script}\n) 2>&1 </dev/null; echo {mark} $?\n", deadline)
        output = b""
        while (ended := end.search(output.decode(errors="replace"))) is None:
            output += self.receive(deadline)
        return ended.string[: ended.start()], int(ended[1])


class Program(Attached):
    """A program that stays open in one of the harness's own containers and writes lines."""

    def line(self, deadline: Deadline, question: str | None = None) -> str:
        """The next line that it writes; with `question`, after it has read that. Raises StackError instead of OSError."""
        output = b""
        try:
            if question is not None:
                self.send(f"{question}\n", deadline)
            while not output.endswith(b"\n"):
                output += self.receive(deadline)
        except OSError as gone:
            said = f": {last_lines(output.decode(errors='replace'), 3)}" if output else ""
            raise StackError(f"no answer: {gone}{said}") from gone
        return output.decode(errors="replace").strip()


class Shells:
    """A shell in each of the harness's own containers, opened when it is first needed. Safe to use from several threads.

    Scripts have to be safe to run twice: when its shell breaks, a script is run again, once, by a new shell.
    """

    def __init__(self, containers: Containers, clock: Clock = SYSTEM) -> None:
        self._containers = containers
        self._clock = clock
        self._open: dict[str, Shell] = {}
        self._locks: dict[str, threading.Lock] = {}

    def open(self, names: Iterable[str]) -> None:
        """Open these shells, all at once."""
        self._containers.at_once(lambda name: self.run(name, "true"), list(names))

    def run(self, name: str, script: str) -> str:
        """Run a script in a container of the run; returns its output. Raises StackError when it fails or does not end."""
        with self._locks.setdefault(name, threading.Lock()):
            try:
                output, status = self._run_once(name, script)
            except TimeoutError as late:
                raise StackError(f"{name}: no end within {_ANSWER_S:.0f} s: {script}") from late
            except OSError:  # its shell broke
                try:
                    output, status = self._run_once(name, script)
                except OSError as gone:
                    raise StackError(f"{name}: no shell could be kept open there: {gone}") from gone
        if status:
            raise StackError(f"{name}: {script}: exit status {status}: {output.strip()[-500:]}")
        return output

    def _run_once(self, name: str, script: str) -> tuple[str, int]:
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
