"""The mini stack on each runtime, with what the contract has to look at from beside it."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Protocol

import psutil
from fake_stack import FakeLine, FakeStack, Outcome
from mini_stack import MINI

from chaoslab import process
from chaoslab.clock import Deadline, wait_until
from chaoslab.kill import kill
from chaoslab.spec.stackfile.compose import ComposeFile, load_stack
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Address
from chaoslab.stack.compose.containers import Containers
from chaoslab.stack.compose.engine import Engine
from chaoslab.stack.compose.stack import ComposeStack
from chaoslab.stack.embedded.stack import EmbeddedStack
from chaoslab.stack.protocol import CanBlock, CanConnect, CanCutDisks, CanDestroyDisks, CanExecute, CanStop, CanThrottle, Stack
from chaoslab.stack.reach import RUN_VARIABLE

HERE = Path(__file__).parent
DEAF = "store"  # its overlay gives it a stop signal that it ignores
_DIAL_S = 1.0
_START_S = 10.0


class AbleStack(Stack, CanConnect, CanStop, CanExecute, CanThrottle, CanBlock, CanDestroyDisks, CanCutDisks, Protocol):
    """What all of our runtimes can do."""


class Line(Protocol):
    """An established connection to a replica."""

    def ask(self) -> None: ...

    def hear(self, timeout_s: float = 3.0) -> Outcome: ...


class Client(Protocol):
    """A client in a place that connects once. The kernel of that place knows when it is connected."""

    def hear(self, timeout_s: float) -> str:
        """The next that it says: connected, answered, ended, refused; or silent."""

    def close(self) -> None: ...


@dataclasses.dataclass
class Rig:
    """A stack that is up, and ways to look at it that are not its own.

    `dial` opens a connection from a place and raises what a socket would; `call` has a process there do it.
    `left`: what is there of the run, in words. `mark`, `marked`: a file on a volume. `write`: append to a file there, by its
    name, and sync it or not; `read`: what is in it, nothing where there is none.
    `listening`: the addresses of this machine on which anything of the run listens.
    """

    stack: AbleStack
    dial: Callable[[str, str, int], Line]
    call: Callable[[str, str, int], Client]
    mark: Callable[[str], None]
    marked: Callable[[str], bool]
    write: Callable[[str, str, str, bool], None]
    read: Callable[[str, str], str]
    end_relay: Callable[[], None]
    start_relay: Callable[[], None]
    listening: Callable[[], set[str]]
    left: Callable[[], list[str]]
    over: bool = False  # past healing, since a test took the runtime itself away


def contract_stack(*more: str) -> ComposeFile:
    """The mini stack, with the overlays of the contract."""
    return load_stack([MINI / "compose.yaml", HERE / "contract.yaml", *(HERE / name for name in more)])


# --- in memory


@dataclasses.dataclass
class SpokenFake:
    line: FakeLine

    def ask(self) -> None:
        """Nothing is kept: a fake line answers whoever listens."""

    def hear(self, timeout_s: float = 3.0) -> Outcome:
        return self.line.hear()


@dataclasses.dataclass
class FakeClient:
    stack: FakeStack
    place: str
    replica: str
    line: FakeLine | None = None

    def hear(self, timeout_s: float) -> str:
        if self.line is not None:
            return self.line.hear()
        try:
            self.line = self.stack.dial(self.place, self.replica)
        except TimeoutError:
            return "silent"
        except ConnectionRefusedError:
            return "refused"
        return "connected"

    def close(self) -> None:
        """There is no process to end."""


@contextlib.contextmanager
def fake_rig() -> Iterator[Rig]:
    stack = FakeStack(contract_stack().topology(), deaf=[DEAF])
    stack.up(Deadline.after(1), lambda _: None)

    def end_relay() -> None:
        stack.relay_runs = False

    def start_relay() -> None:
        stack.relay_runs, stack.relay_life = True, stack.relay_life + 1

    yield Rig(
        stack,
        dial=lambda place, replica, _: SpokenFake(stack.dial(place, replica)),
        call=lambda place, replica, _: FakeClient(stack, place, replica),
        mark=lambda replica: stack.disks[replica].add("mark"),
        marked=lambda replica: "mark" in stack.disks[replica],
        write=stack.write,
        read=lambda replica, file: stack.files[replica].get(file, ""),
        end_relay=end_relay,
        start_relay=start_relay,
        listening=lambda: {stack.address("entry", 8080).host},
        left=lambda: [name for name, state in stack.states().items() if state != "absent"],
    )


# --- over the wire


@dataclasses.dataclass
class Spoken:
    """A connection to an HTTP server; answers to what was asked before come first."""

    connection: socket.socket

    def ask(self) -> None:
        with contextlib.suppress(OSError):  # the end is noticed by `hear`
            self.connection.sendall(b"GET /where HTTP/1.1\r\nHost: contract\r\n\r\n")

    def hear(self, timeout_s: float = 3.0) -> Outcome:
        self.connection.settimeout(timeout_s)
        try:
            return "answered" if self.connection.recv(65_536) else "ended"
        except TimeoutError:
            return "silent"
        except OSError:
            return "ended"


def spoken(address: Address) -> Spoken:
    return Spoken(socket.create_connection(address, timeout=_DIAL_S))


CALL = """
import socket, sys
def say(word): print(word, flush=True)
say("calling")
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as line:
        say("connected")
        line.sendall(b"GET /where HTTP/1.1\\r\\nHost: contract\\r\\n\\r\\n")
        say("answered" if line.recv(1) else "ended")
except ConnectionRefusedError:
    say("refused")
except TimeoutError:
    say("timed out")
"""


class ProcessClient:
    """A process that calls; `python` is how to start one in its place."""

    def __init__(self, python: list[str], address: Address) -> None:
        command = [*python, "-c", CALL, address.host, str(address.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)
        assert self.hear(_START_S) == "calling"

    def hear(self, timeout_s: float) -> str:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            return "silent"
        return self._process.stdout.readline().decode().strip()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def embedded_rig() -> Iterator[Rig]:
    run_id, folder = token_hex(4), Path(tempfile.mkdtemp(prefix="chaoslab-test-"))
    stack = EmbeddedStack(contract_stack(), run_id, folder / "data", folder / "logs")

    def end_relay() -> None:
        assert stack._relay is not None
        kill([stack._relay.pid], Deadline.after(5))

    def start_relay() -> None:
        assert stack._relay is not None
        command = [str(word) for word in stack._relay.args]
        process.spawn(command, log=folder / "again.log", env=stack._launcher.own_environment("relay"))
        wait_until("the relay", lambda: _answers(stack), Deadline.after(10))

    if stack.why_no_cut() is None:
        stack.ready_to_cut(["store"])
    try:
        stack.up(Deadline.after(30), lambda _: None)
        yield Rig(
            stack,
            dial=lambda place, replica, port: spoken(stack.address(replica, port, seen_from=place)),
            call=lambda place, replica, port: ProcessClient([sys.executable], stack.address(replica, port, seen_from=place)),
            mark=lambda replica: (stack.volume(replica, "/data") / "mark").touch(),
            marked=lambda replica: (stack.volume(replica, "/data") / "mark").exists(),
            write=lambda replica, file, text, synced: write(stack.volume(replica, "/data") / file, text, synced),
            read=lambda replica, file: read(stack.volume(replica, "/data") / file),
            end_relay=end_relay,
            start_relay=start_relay,
            listening=lambda: {
                c.laddr.ip for p in process.marked(RUN_VARIABLE, run_id) for c in p.net_connections() if _listens(c)
            },
            left=lambda: [str(p) for p in process.marked(RUN_VARIABLE, run_id)],
        )
    finally:
        stack.down()
        shutil.rmtree(folder)


def write(file: Path, text: str, synced: bool) -> None:
    """Append; synced, with the folder that it stands in."""
    with file.open("a") as opened:
        opened.write(text)
        opened.flush()
        if synced:
            os.fsync(opened.fileno())
    if synced:
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)


def read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def _answers(stack: EmbeddedStack) -> tuple[bool, str]:
    try:
        return True, stack.links.epoch()
    except Exception as not_yet:
        return False, str(not_yet)


def _listens(connection: psutil._common.pconn) -> bool:
    return connection.status == psutil.CONN_LISTEN


@contextlib.contextmanager
def compose_rig(engine: Engine) -> Iterator[Rig]:
    run_id, folder = token_hex(4), Path(tempfile.mkdtemp(prefix="chaoslab-test-"))
    stack = ComposeStack(contract_stack("contract-images.yaml"), run_id, folder / "data", folder / "logs")
    containers = Containers(engine, run_id)

    def relay() -> str:
        return containers.of(["wan-outside-west"])[0].id

    def dial(place: str, replica: str, port: int) -> Spoken:
        address = stack.address(replica, port, seen_from=place)
        return spoken(address) if place == OUTSIDE else through(stack._gates[place], address)

    def call(place: str, replica: str, port: int) -> ProcessClient:
        beside = containers.of([stack.topology.in_site(place)[0].name])[0].id
        return ProcessClient(["docker", "exec", beside, "python"], stack.address(replica, port, seen_from=place))

    def in_disk(replica: str, *command: str) -> str:
        return containers.execute_in(containers.of([replica])[0].id, ["sh", "-c", " ".join(command)])

    def write_there(replica: str, file: str, text: str, synced: bool) -> None:
        program = f"import os\nfrom pathlib import Path\n{inspect.getsource(write)}\n"
        call = f"write(Path('/data/{file}'), {text!r}, {synced})"
        containers.execute_in(containers.of([replica])[0].id, ["python", "-c", program + call])

    stack.ready_to_cut(["store"])
    try:
        stack.up(Deadline.after(60), lambda _: None)
        yield Rig(
            stack,
            dial=dial,
            call=call,
            mark=lambda replica: (in_disk(replica, "touch /data/mark"), None)[1],
            marked=lambda replica: "yes" in in_disk(replica, "test -e /data/mark && echo yes || echo no"),
            write=write_there,
            read=lambda replica, file: in_disk(replica, f"cat /data/{file} 2>/dev/null || true"),
            end_relay=lambda: containers.kill(relay()),
            start_relay=lambda: containers.start(relay()),
            listening=lambda: published_on(engine, run_id),
            left=containers.left,
        )
    finally:
        stack.down()
        shutil.rmtree(folder)


def published_on(engine: Engine, run_id: str) -> set[str]:
    found = engine.client.api.containers(filters={"label": f"chaoslab.run={run_id}"})
    return {port["IP"] for one in found for port in one["Ports"] if "PublicPort" in port}


def through(gate: Address, target: Address) -> Spoken:
    """A connection from beside a gate, by SOCKS 5."""
    connection = socket.create_connection(gate, timeout=_DIAL_S)
    connection.sendall(b"\x05\x01\x00")
    assert connection.recv(2) == b"\x05\x00"
    name = target.host.encode()
    connection.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + struct.pack(">H", target.port))
    status = connection.recv(10)[1]
    if status:
        connection.close()
        raise ConnectionRefusedError(f"{target}: SOCKS status {status}")
    return Spoken(connection)
