"""The user's own folders, files and external volumes: read, copied with owners and modes, never written."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from chaoslab.clock import Deadline
from chaoslab.errors import EnvironmentFault, StackError
from chaoslab.stack.compose.own_data import Copied, with_copies
from chaoslab.stack.compose.stack import ComposeStack

Make = Callable[..., ComposeStack]

BIND = {"type": "bind", "source": "/srv/data", "target": "/data", "bind": {"create_host_path": True}}


def project(*volumes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"services": {"a": {"volumes": list(volumes)}, "b": {}}, **more}


# --- which mounts are replaced


def test_what_is_read_alone_stays(tmp_path: Path) -> None:
    config = project({**BIND, "read_only": True})
    assert with_copies(config, tmp_path) == (config, ())


def test_all_users_of_a_folder_get_the_copy(tmp_path: Path) -> None:
    """Who only reads it, too: they read what the other writes. The given project stays as it was."""
    (tmp_path / "data").mkdir()
    bind = {**BIND, "source": str(tmp_path / "data")}
    config = project(bind)
    config["services"]["b"]["volumes"] = [{**bind, "read_only": True}]
    changed, copies = with_copies(config, tmp_path / "run")
    assert copies == (Copied(str(tmp_path / "data"), "own-data-1"),)
    mount = {"type": "volume", "source": "own-data-1", "target": "/data", "volume": {"nocopy": True}}
    assert changed["services"]["a"]["volumes"] == [mount]
    assert changed["services"]["b"]["volumes"] == [{**mount, "read_only": True}]
    assert changed["volumes"] == {"own-data-1": {}}
    assert config["services"]["a"]["volumes"] == [bind]


def test_what_is_not_there_is_not_made(tmp_path: Path) -> None:
    """Docker would make a folder of the user's; the run gets an empty volume."""
    changed, copies = with_copies(project({**BIND, "source": str(tmp_path / "none")}), tmp_path)
    assert (copies, changed["services"]["a"]["volumes"][0]["source"]) == ((), "own-data-1")


@pytest.mark.parametrize("source", ["/", "/proc", "/sys/fs/cgroup", "/var/run/docker.sock"])
def test_what_is_of_the_system_may_only_be_read(source: str, tmp_path: Path) -> None:
    changed, copies = with_copies(project({**BIND, "source": source}), tmp_path)
    assert copies == ()
    assert changed["services"]["a"]["volumes"][0] == {**BIND, "source": source, "read_only": True}


def test_a_file_that_cannot_be_copied_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "run").touch()  # where its copy would have to be
    with pytest.raises(EnvironmentFault, match="file cannot be copied for the run: Not a directory"):
        with_copies(project({**BIND, "source": str(tmp_path / "file")}), tmp_path / "run")


# --- on the engine


@pytest.fixture
def theirs() -> Iterator[str]:
    """A volume that is not the run's."""
    name = f"theirs-{token_hex(4)}"
    subprocess.run(["docker", "volume", "create", name], check=True, capture_output=True)
    yield name
    subprocess.run(["docker", "volume", "rm", name], check=True, capture_output=True)


def seen(stack: Any, command: str) -> str:
    return str(stack.execute("writer", ["sh", "-c", command], 10).output)


@pytest.mark.docker
@pytest.mark.timeout(120)
def test_a_run_writes_to_copies(make_stack: Make, write_stack: Callable[..., Path], theirs: str, tmp_path: Path) -> None:
    """And with use_binds to the real ones, which are never destroyed. Known bad: that was the default."""
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (data / "deep" / "old").write_text("old")
    (data / "deep" / "old").chmod(0o640)
    (tmp_path / "conf").write_text("conf")
    command = "cat /theirs/* 2>/dev/null; echo new > /data/new; echo new >> /conf; echo new > /theirs/new; sleep 600"
    volumes = ["./data:/data", "./conf:/conf", "theirs:/theirs"]
    writer = {"image": "chaoslab/two-site:latest", "user": "0:0", "command": ["sh", "-c", command], "volumes": volumes}
    file = write_stack({"writer": writer})
    file.write_text(f"{file.read_text()}\nvolumes: {{theirs: {{external: true, name: {theirs}}}}}\n")

    stack = make_stack(file)
    said: list[str] = []
    stack.up(Deadline.after(60), said.append)
    assert seen(stack, "cat /data/deep/old; stat -c %a /data/deep/old; cat /data/new /conf /theirs/new") == (
        "old640\nnew\nconfnew\nnew\n"
    )
    assert sum(line.startswith("copying ") for line in said) == 2
    assert (sorted(path.name for path in data.iterdir()), (tmp_path / "conf").read_text()) == (["deep"], "conf")
    stack.kill(["writer"])
    stack.destroy_disks(["writer"])  # its own copies are lost as disks are
    stack.start(["writer"], Deadline.after(20))
    assert seen(stack, "ls /data") == "new\n"
    assert stack.down() == []

    shared = make_stack(file, use_binds=True)
    shared.up(Deadline.after(60), lambda _: None)
    assert seen(shared, "cat /theirs/new") == "new\n"
    assert sorted(path.name for path in data.iterdir()) == ["deep", "new"]
    shared.kill(["writer"])
    with pytest.raises(StackError, match="was not created by this run"):
        shared.destroy_disks(["writer"])
    assert shared.down() == []


@pytest.mark.docker
@pytest.mark.timeout(60)
def test_a_copy_that_fails_is_told(
    make_stack: Make, write_stack: Callable[..., Path], tmp_path: Path, monkeypatch: Any
) -> None:
    """With what cp said, and the cure."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").touch()
    stack = make_stack(
        write_stack(
            {"w": {"image": "chaoslab/two-site:latest", "command": ["sleep", "9"], "volumes": ["./data:/data:ro", "./data:/d"]}}
        )
    )
    monkeypatch.setattr(
        "chaoslab.stack.compose.containers.Containers.copy_into_volume", lambda *_: "cp: no space left on device"
    )
    with pytest.raises(EnvironmentFault, match="data cannot be copied for the run: cp: no space left"):
        stack.up(Deadline.after(60), lambda _: None)
    assert stack.down() == []
