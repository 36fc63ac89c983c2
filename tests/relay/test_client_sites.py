"""Which process owns the client's socket of a connection: two ways of finding out that must agree."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil
import pytest

from chaoslab.process import remember
from chaoslab.stack.reach import roster_in
from chaoslab.stack.relay import client_sites
from chaoslab.stack.relay.client_sites import ClientSites


@pytest.fixture
def pair():
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as client:
        served, _ = listening.accept()
        with served:
            yield client, served.getpeername(), served.getsockname()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="socket diagnostics are Linux's")
def test_the_kernel_names_the_inode(pair):
    """The very inode of the client's descriptor; none where there is no such connection, or its owner has left it."""
    client, peer, here = pair
    assert client_sites._inode(peer, here) == os.fstat(client.fileno()).st_ino
    assert client_sites._inode(("127.0.0.1", 1), here) == client_sites._NO_OWNER
    client.close()
    assert client_sites._inode(peer, here) == client_sites._NO_OWNER


@pytest.mark.parametrize("diagnostics", [True, False])
def test_an_unmarked_process_is_of_no_site(pair, diagnostics, monkeypatch):
    """Neither way takes a stranger for a process of the run."""
    _, peer, here = pair
    if not diagnostics:
        monkeypatch.setattr(client_sites, "_inode", lambda *_: None)
    assert ClientSites("tests-sites").site_of(peer, here) is None


@pytest.mark.parametrize("diagnostics", [True, False])
def test_both_ways_find_the_site(diagnostics, monkeypatch):
    """With the kernel's diagnostics, and with psutil alone as on other systems."""
    if not diagnostics:
        monkeypatch.setattr(client_sites, "_inode", lambda *_: None)
    code = "import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); c.recv(1)"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        environment = {**os.environ, "CHAOSLAB_RUN": "tests-sites", "CHAOSLAB_SITE": "anyang"}
        command = [sys.executable, "-c", code, str(listening.getsockname()[1])]
        with subprocess.Popen(command, env=environment), listening.accept()[0] as served:
            assert ClientSites("tests-sites").site_of(served.getpeername(), served.getsockname()) == "anyang"


def test_a_wrong_answer_is_not_remembered_between_fork_and_exec(monkeypatch):
    """A process that shows no marks while it is young is looked at again."""
    found = ClientSites("tests-sites")
    me = psutil.Process()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as young:
        process = psutil.Process(young.pid)
        assert found._site(process) is None
        monkeypatch.setattr(
            psutil.Process,
            "environ",
            lambda self: {"CHAOSLAB_RUN": "tests-sites", "CHAOSLAB_SITE": "x"} if self != me else {},
        )
        assert found._site(process) == "x"


def test_a_process_whose_title_covers_its_environment_is_found(monkeypatch, tmp_path):
    """Known bad: replicas of Redis, which write their title there, were strangers, so their links were never slowed or cut."""
    monkeypatch.setattr(client_sites, "data_folder", lambda run: tmp_path / run)
    code = "import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); c.recv(1)"
    found = ClientSites("tests-sites")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        command = [sys.executable, "-c", code, str(listening.getsockname()[1])]
        with subprocess.Popen(command) as child, listening.accept()[0] as served:
            ends = served.getpeername(), served.getsockname()
            assert found.site_of(*ends) is None
            marks = {"CHAOSLAB_RUN": "tests-sites", "CHAOSLAB_SITE": "anyang", "CHAOSLAB_REPLICA": "tests-sites/valkey"}
            remember(child.pid, marks, roster_in(tmp_path / "tests-sites"))
            assert found.site_of(*ends) == "anyang"
            assert found.replica_of(*ends) == "valkey"
