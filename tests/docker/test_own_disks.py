"""Volumes whose power can be cut, in containers: which they are, and what stands in the project for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from test_project import CONFIG, rendered

from chaoslab.errors import EnvironmentFault, SpecError
from chaoslab.stack.compose import own_disks
from chaoslab.stack.compose.engine import Engine
from chaoslab.stack.compose.own_disks import with_own_volumes
from chaoslab.stack.compose.project import DISK_TARGET, ROLE_LABEL

DATA = {"type": "volume", "source": "data", "target": "/data"}


def config(volumes: dict[str, Any] | None = None, **mounts: list[dict[str, Any]]) -> dict[str, Any]:
    services = {name: {"image": "any", "volumes": listed} for name, listed in mounts.items()}
    return {"name": "shop", "services": services, "volumes": {"data": {}} if volumes is None else volumes}


def test_volumes_of_every_kind_are_found() -> None:
    """With a name, without one, declared by the image; what is mounted to be read alone and what is in memory are left."""
    mounts = [
        DATA,
        {"type": "volume", "target": "/cache"},
        {"type": "volume", "source": "theirs", "target": "/read", "read_only": True},
        {"type": "tmpfs", "target": "/tmp"},
        {"type": "bind", "source": "/run/file", "target": "/file"},
    ]
    before = config(db=mounts, web=[DATA])
    changed, volumes = with_own_volumes(before, ["db"], {"db": ["/data/", "/var/lib/db"]})
    assert volumes == {"data": ("db",), "db-volume-1": ("db",), "db-volume-5": ("db",)}
    assert changed["volumes"].keys() == {"data", "db-volume-1", "db-volume-5"}
    assert changed["services"]["db"]["volumes"][5] == {"type": "volume", "source": "db-volume-5", "target": "/var/lib/db"}
    assert changed["services"]["web"] == before["services"]["web"]
    assert before["services"]["db"]["volumes"][1] == {"type": "volume", "target": "/cache"}


def test_a_volume_of_two_replicas_is_one() -> None:
    assert with_own_volumes(config(a=[DATA], b=[DATA]), ["b", "a"], {})[1] == {"data": ("a", "b")}


@pytest.mark.parametrize(
    ("volume", "why"),
    [
        ({"external": True}, "volume data is external"),
        ({"driver": "nfs"}, "a driver or options of its own"),
        ({"driver_opts": {"type": "tmpfs"}}, "a driver or options of its own"),
    ],
)
def test_a_volume_that_is_not_the_runs_own_is_refused(volume: dict[str, Any], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        with_own_volumes(config({"data": volume}, db=[DATA]), ["db"], {})
    with_own_volumes(config({"data": {"driver": "local"}}, db=[DATA]), ["db"], {})


def test_a_folder_of_the_users_own_is_refused() -> None:
    """With --use-binds; without it a copy stands in its place."""
    mount = {"type": "bind", "source": "/home/me/data", "target": "/data"}
    with pytest.raises(SpecError, match=r"/home/me/data of db is yours \(--use-binds\)"):
        with_own_volumes(config(db=[mount]), ["db"], {}, use_binds=True)


def test_a_volume_on_a_device_has_a_watch() -> None:
    """The engine mounts the device; the watch mounts the volume, too, may cut its power, and can reach nobody."""
    project = rendered(devices={"data": "/dev/loop7"})
    assert project["volumes"]["data"]["driver_opts"] == {"type": "ext4", "device": "/dev/loop7", "o": "noinit_itable"}
    assert project["volumes"]["data"]["name"] == "run-1_data"
    watch = project["services"]["watch-data"]
    assert watch["volumes"] == [{"type": "volume", "source": "data", "target": DISK_TARGET, "volume": {"nocopy": True}}]
    assert (watch["cap_add"], watch["network_mode"], watch["labels"][ROLE_LABEL]) == (["SYS_ADMIN"], "none", "watch")
    assert "watch-data" not in rendered(CONFIG)["services"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["name=seccomp,profile=default", "name=rootless"], "the Docker engine runs without root"),
        (["name=userns"], "the Docker engine runs with user namespaces"),
        (["name=seccomp,profile=default"], None),
        (None, None),
    ],
)
def test_an_engine_that_cannot_mount_is_named(options: list[str] | None, why: str | None, monkeypatch: Any) -> None:
    """Before anything starts; one that is not there is reported by others."""
    client = SimpleNamespace(info=lambda: {"SecurityOptions": options})
    monkeypatch.setattr(own_disks, "connect", lambda: Engine(client, "unix:///x", "20.10"))
    said = own_disks.why_no_cut()
    assert said is None if why is None else (said is not None and said.startswith(why))


def test_an_engine_that_does_not_answer_is_not_asked(monkeypatch: Any) -> None:
    def nobody() -> Engine:
        raise EnvironmentFault("no Docker engine answers")

    monkeypatch.setattr(own_disks, "connect", nobody)
    assert own_disks.why_no_cut() is None
