"""Shells that stay open, over a socket framed as Docker's. Needs no engine: the shell is one of this machine."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chaoslab.clock import Deadline, wait_until
from chaoslab.errors import StackError
from chaoslab.stack.compose.shells import Shells


class LocalContainers:
    """Attaches to shells of this machine, made by `command`."""

    def __init__(self) -> None:
        self.shells: list[subprocess.Popen[bytes]] = []
        self.ends: list[socket.socket] = []
        self.command = ["sh"]

    def attach(self, container: str, command: list[str]) -> socket.socket:
        assert command == ["sh"]
        ours, theirs = socket.socketpair()
        shell = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.shells.append(shell)
        self.ends.append(theirs)
        threading.Thread(target=self._in, args=(theirs, shell), daemon=True).start()
        threading.Thread(target=self._out, args=(theirs, shell), daemon=True).start()
        return ours

    def at_once(self, do, what):
        return [do(one) for one in what]

    def _in(self, end: socket.socket, shell: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(OSError):
            while said := end.recv(4096):
                shell.stdin.write(said)
        shell.stdin.close()

    def _out(self, end: socket.socket, shell: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(OSError):
            while said := shell.stdout.read(1000):
                end.sendall(struct.pack(">BxxxL", 1, len(said)) + said)
            end.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        for end, shell in zip(self.ends, self.shells, strict=True):
            shell.kill()
            shell.wait()
            end.close()


@pytest.fixture
def containers() -> Iterator[LocalContainers]:
    made = LocalContainers()
    yield made
    made.end()


@pytest.fixture
def shells(containers: LocalContainers) -> Iterator[Shells]:
    made = Shells(containers)
    yield made
    made.close()


def test_what_is_said_comes_back(shells: Shells, containers: LocalContainers) -> None:
    """Both outputs, whole, from one shell for all scripts."""
    shells.open(["wan"])
    assert shells.run("wan", "echo one; echo two >&2") == "one\ntwo\n"
    assert shells.run("wan", "printf %s 'no newline'") == "no newline"
    assert len(shells.run("wan", "head -c 300000 /dev/zero | tr '\\0' x")) == 300_000
    assert len(containers.shells) == 1


def test_a_script_that_reads_takes_no_other_script(shells: Shells) -> None:
    assert shells.run("wan", "cat") == ""
    assert shells.run("wan", "echo next") == "next\n"


def test_a_script_that_fails_is_an_error(shells: Shells) -> None:
    """With its container, its status and its output; the shell goes on, even after `exit`."""
    with pytest.raises(StackError, match=r"wan: .*exit status 3: no such table"):
        shells.run("wan", "echo no such table; exit 3")
    assert shells.run("wan", "echo next") == "next\n"


def test_a_shell_that_ended_is_opened_anew(shells: Shells, containers: LocalContainers) -> None:
    """And the script runs."""
    shells.open(["wan"])
    containers.shells[0].kill()
    containers.shells[0].wait()
    assert shells.run("wan", "echo there") == "there\n"
    assert len(containers.shells) == 2


def test_where_no_shell_stays_open_is_told(shells: Shells, containers: LocalContainers) -> None:
    """Known bad: it is tried once more, and no more."""
    containers.command = ["false"]
    with pytest.raises(StackError, match="wan: no shell could be kept open there"):
        shells.run("wan", "true")
    assert len(containers.shells) == 2


def test_a_script_that_does_not_end_is_an_error(
    shells: Shells, containers: LocalContainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known bad: it is not run again, and the next script does not get its answer."""
    monkeypatch.setattr("chaoslab.stack.compose.shells._ANSWER_S", 0.2)
    with pytest.raises(StackError, match="no end within"):
        shells.run("wan", "sleep 0.4; echo late")
    monkeypatch.setattr("chaoslab.stack.compose.shells._ANSWER_S", 5.0)
    assert shells.run("wan", "echo next") == "next\n"
    assert len(containers.shells) == 2


def test_closing_ends_the_shells(shells: Shells, containers: LocalContainers) -> None:
    """The end of its input is the end of a shell, so none outlives the harness."""
    shells.open(["wan", "gate"])
    shells.close()
    assert [shell.wait(5) for shell in containers.shells] == [0, 0]


def test_closed_while_one_speaks(shells: Shells, tmp_path: Path) -> None:
    """Taken down while it starts: the script that was cut off is run again, as any whose shell broke."""
    begun = tmp_path / "begun"
    with ThreadPoolExecutor() as pool:
        said = pool.submit(shells.run, "wan", f"test -e {begun} && echo again || {{ touch {begun}; sleep 30; }}")
        wait_until("the script", lambda: (begun.exists(), None), Deadline.after(10), poll_s=0.01)
        shells.close()
        assert said.result(timeout=10) == "again\n"
