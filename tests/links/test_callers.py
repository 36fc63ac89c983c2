"""Who owns a connection's other end: two ways of finding out that must agree."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil
import pytest

from chaoslab.links import callers
from chaoslab.links.callers import Callers


@pytest.fixture
def pair():
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as client:
        served, _ = listening.accept()
        with served:
            yield client, served.getpeername(), served.getsockname()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="socket diagnostics are Linux's")
def test_the_kernel_names_the_inode(pair):
    """The very inode of the client's descriptor; nobody's where there is no such connection, or its owner has left it."""
    client, peer, here = pair
    assert callers._inode(peer, here) == os.fstat(client.fileno()).st_ino
    assert callers._inode(("127.0.0.1", 1), here) == callers._NOBODY
    client.close()
    assert callers._inode(peer, here) == callers._NOBODY


@pytest.mark.parametrize("diagnostics", [True, False])
def test_an_unmarked_process_is_of_no_site(pair, diagnostics, monkeypatch):
    """Neither way takes a stranger for one of the run."""
    _, peer, here = pair
    if not diagnostics:
        monkeypatch.setattr(callers, "_inode", lambda *_: None)
    assert Callers("tests-callers").site_of(peer, here) is None


@pytest.mark.parametrize("diagnostics", [True, False])
def test_both_ways_find_the_site(diagnostics, monkeypatch):
    """With the kernel's diagnostics, and with psutil alone as on other systems."""
    if not diagnostics:
        monkeypatch.setattr(callers, "_inode", lambda *_: None)
    code = "import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); c.recv(1)"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        environment = {**os.environ, "CHAOSLAB_RUN": "tests-callers", "CHAOSLAB_SITE": "anyang"}
        command = [sys.executable, "-c", code, str(listening.getsockname()[1])]
        with subprocess.Popen(command, env=environment), listening.accept()[0] as served:
            assert Callers("tests-callers").site_of(served.getpeername(), served.getsockname()) == "anyang"


def test_a_wrong_answer_is_not_remembered_between_fork_and_exec(monkeypatch):
    """A process that shows no marks while it is young is looked at again."""
    found = Callers("tests-callers")
    me = psutil.Process()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as young:
        process = psutil.Process(young.pid)
        assert found._site(process) is None
        monkeypatch.setattr(
            psutil.Process,
            "environ",
            lambda self: {"CHAOSLAB_RUN": "tests-callers", "CHAOSLAB_SITE": "x"} if self != me else {},
        )
        assert found._site(process) == "x"
