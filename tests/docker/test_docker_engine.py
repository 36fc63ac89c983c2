"""Which engine is taken, and the message when there is none. Needs none."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from chaoslab import process
from chaoslab.errors import EnvironmentFault
from chaoslab.stack.compose.engine import connect, engine_errors, is_remote, require_compose, same_engine


@pytest.mark.parametrize(
    ("url", "remote"),
    [
        ("unix:///var/run/docker.sock", False),
        ("npipe:////./pipe/docker_engine", False),
        ("tcp://127.0.0.1:2375", False),
        ("tcp://localhost:2375", False),
        ("tcp://10.1.2.3:2376", True),
        ("ssh://me@build.example.org", True),
    ],
)
def test_an_engine_elsewhere_is_told_from_one_here(url: str, remote: bool):
    """Faults are injected where the engine stands."""
    assert is_remote(url) is remote


def test_a_remote_engine_is_refused_before_it_is_called(monkeypatch: pytest.MonkeyPatch):
    """The error names it, and says where to run instead: no port of a run is published to a network."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2376")
    with pytest.raises(EnvironmentFault, match=r"192\.0\.2\.1.*another machine[\s\S]*cure: run chaoslab on that machine"):
        connect()


def test_no_engine_is_one_error_with_a_cure(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """Exit status 5, not a traceback of a library."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EnvironmentFault, match=r"no Docker engine answers[\s\S]*cure: ") as raised:
        connect()
    assert raised.value.exit_code == 5
    assert "none.sock: No such file or directory\n" in str(raised.value)
    assert "a clone of chaoslab has .ci/docker-up" in str(raised.value)  # known bad: named as if it were in everybody's project


def test_a_user_who_may_not_use_the_engine_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """Known bad: the cure was to start Docker, which ran."""
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(f"{tmp_path}/engine.sock")
        engine.listen()
        (tmp_path / "engine.sock").chmod(0)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
        user = os.geteuid()
        with pytest.raises(
            EnvironmentFault, match=r"this user may not use the Docker engine at .*: Permission denied"
        ) as raised:
            try:
                os.seteuid(65534 if user == 0 else user)  # root may use any
                connect()
            finally:
                os.seteuid(user)
    assert "cure: as root: usermod -aG docker" in str(raised.value)


def test_who_takes_a_call_and_never_answers_is_no_engine(monkeypatch: pytest.MonkeyPatch):
    """Known bad: it held up a run on `auto`, which needs no engine, for a minute."""
    monkeypatch.setattr("chaoslab.stack.compose.engine._FIRST_ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(EnvironmentFault, match=r"no Docker engine answers[\s\S]*cure: "):
            connect()


@pytest.mark.parametrize(
    "choice",
    [
        {"DOCKER_HOST": "tcp://[::1"},
        {"DOCKER_HOST": "tcp://127.0.0.1:99999"},
        {"DOCKER_HOST": "tcp://127.0.0.1:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nonexistent"},
        {"DOCKER_CONFIG": "broken"},
    ],
)
def test_a_choice_that_makes_no_sense_is_one_error_with_a_cure(monkeypatch: pytest.MonkeyPatch, tmp_path, choice):
    """Known bad, all of them: a traceback of a library, and no run without containers either."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"currentContext": "gone"}')
    for key in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(key, raising=False)
    for key, value in choice.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(EnvironmentFault, match=r"cure: "):
        connect()


def test_an_unknown_context_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """DOCKER_CONTEXT is honoured, and so its typing errors are reported."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONTEXT", "no-such-context")
    with pytest.raises(EnvironmentFault, match="no-such-context"):
        connect()


def test_a_command_for_later_reaches_the_same_engine(monkeypatch: pytest.MonkeyPatch):
    """Whatever is chosen where it is run: a host stays that host, a context that context, and nothing else speaks."""
    code = "import os; print(os.environ.get('DOCKER_HOST'), os.environ.get('DOCKER_CONTEXT'))"
    monkeypatch.setenv("DOCKER_HOST", "unix:///then.sock")
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    by_host = [*same_engine(), sys.executable, "-c", code]
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setenv("DOCKER_CONTEXT", "lab")
    by_context = [*same_engine(), sys.executable, "-c", code]
    now = {**os.environ, "DOCKER_HOST": "unix:///now.sock", "DOCKER_CONTEXT": "now"}
    assert process.run(by_host, timeout_s=10, env=now).stdout == "unix:///then.sock None\n"
    assert process.run(by_context, timeout_s=10, env=now).stdout == "None lab\n"


def test_no_compose_is_one_error_with_a_cure(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """`docker` without its plugin, or no `docker` at all."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFault, match="docker"):
        require_compose()
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\necho \"docker: 'compose' is not a docker command.\" >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(EnvironmentFault, match=r"is not a docker command[\s\S]*cure: install the Compose v2 plugin"):
        require_compose()


def test_an_engine_that_dies_is_told_from_one_that_refuses():
    """A lost connection is the machine's fault, a refusal the operation's."""
    import requests
    from docker.errors import APIError

    from chaoslab.errors import StackError

    with pytest.raises(EnvironmentFault, match="no longer answers"), engine_errors("pausing x"):
        raise requests.ConnectionError("gone")
    with pytest.raises(StackError, match="pausing x: no such container"), engine_errors("pausing x"):
        raise APIError("409", explanation="no such container")
