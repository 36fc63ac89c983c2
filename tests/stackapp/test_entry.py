"""The entry, with a real Caddy: it spares users a dead or hung replica, and sends no request twice."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout, web
from aiohttp.test_utils import TestServer
from conftest import APP, free_port

from entry import SERVICES, configuration


@dataclass
class Replica:
    """A replica whose readiness and pace a test decides, and which counts what it was asked."""

    ready: dict[str, bool] = field(default_factory=lambda: {"read": True, "write": True})
    delay_s: float = 0.0
    seen: list[str] = field(default_factory=list)
    address: str = ""

    def application(self) -> web.Application:
        async def is_ready(request: web.Request) -> web.Response:
            return web.Response(status=200 if self.ready[request.query["for"]] else 503)

        async def anything(request: web.Request) -> web.Response:
            self.seen.append(f"{request.method} {request.path}")
            await asyncio.sleep(self.delay_s)
            return web.Response(text=request.headers["Host"])

        app = web.Application()
        app.router.add_get("/ready", is_ready)
        app.router.add_route("*", "/{rest:.*}", anything)
        return app


@pytest.fixture
async def site_pair() -> AsyncIterator[tuple[Replica, Replica]]:
    replicas = (Replica(), Replica())
    servers = [TestServer(replica.application()) for replica in replicas]
    for replica, server in zip(replicas, servers, strict=True):
        await server.start_server()
        replica.address = f"127.0.0.1:{server.port}"
    yield replicas
    for server in servers:
        await server.close()


@pytest.fixture
async def users(site_pair: tuple[Replica, Replica], tmp_path) -> AsyncIterator[ClientSession]:
    """Users of an entry in front of both replicas."""
    port, upstreams = free_port(), ",".join(replica.address for replica in site_pair)
    env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path / "home")}
    env |= {
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "LISTEN": f"127.0.0.1:{port}",
        "ANSWER_S": "1.7",
        **{f"{name.upper()}_UPSTREAMS": upstreams for name in SERVICES},
    }
    caddy = subprocess.Popen([sys.executable, "-m", "entry"], cwd=APP, env=env, stderr=subprocess.DEVNULL)
    timeout = ClientTimeout(total=5)
    async with ClientSession(f"http://127.0.0.1:{port}", timeout=timeout) as session:
        await until_status(session, "/pay/anything", 200)
        yield session
    caddy.terminate()
    caddy.wait(10)
    assert not (tmp_path / "home").exists(), "the entry writes to its own folder only"


async def until_status(users: ClientSession, path: str, wanted: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            async with users.get(path) as answer:
                if answer.status == wanted:
                    return
        except OSError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path} never answered {wanted}")


async def status(users: ClientSession, method: str, path: str) -> int:
    async with users.request(method, path) as answer:
        return answer.status


async def test_both_sites_serve(users, site_pair) -> None:
    """Requests are spread over the replicas of both sites."""
    for _ in range(40):
        async with users.post("/talk/messages") as answer:
            assert answer.status == 200
    assert all("POST /talk/messages" in replica.seen for replica in site_pair)


async def test_a_hung_replica_costs_a_bounded_time_and_nothing_is_sent_twice(users, site_pair) -> None:
    """While one replica hangs, a POST that went to it ends within 2 s as unknown, and no replica has seen it a second time."""
    site_pair[0].delay_s = 10.0
    begun, paths = time.monotonic(), [f"/pay/{n}" for n in range(20)]
    statuses = await asyncio.gather(*(status(users, "POST", path) for path in paths))
    assert set(statuses) in ({200, 504}, {200, 502})
    assert time.monotonic() - begun < 2.0
    assert sorted(one for replica in site_pair for one in replica.seen if "POST" in one) == sorted(
        f"POST {path}" for path in paths
    )


async def test_a_dead_replica_costs_nobody_a_request_once_it_is_known(users, site_pair) -> None:
    """Known bad: taking turns, two requests at once push each other on to the dead one again, and get a 503."""
    site_pair[0].ready["read"] = False
    await asyncio.sleep(3.0)
    for _ in range(40):
        assert set(await asyncio.gather(*(status(users, "GET", "/talk/messages") for _ in range(50)))) == {200}


async def test_a_replica_that_lost_the_leader_still_serves_reads(users, site_pair) -> None:
    """Not ready for writes, it gets no more of them after its health check, and goes on with reads."""
    site_pair[0].ready["write"] = False
    await asyncio.sleep(3.0)
    for replica in site_pair:
        replica.seen.clear()
    for _ in range(30):
        async with users.post("/pay/entries") as write, users.get("/pay/balance") as read:
            assert (write.status, read.status) == (200, 200)
    assert "POST /pay/entries" not in site_pair[0].seen
    assert "GET /pay/balance" in site_pair[0].seen


def test_the_entry_never_retries() -> None:
    """Every route of every service says so."""
    env = {"LISTEN": "127.0.0.1:1", **{f"{name.upper()}_UPSTREAMS": "a:1,b:1" for name in SERVICES}}
    routes = configuration(env)["apps"]["http"]["servers"]["entry"]["routes"]
    balancing = [route["handle"][0]["load_balancing"] for route in routes]
    assert len(balancing) == 2 * len(SERVICES)
    assert all(one["retries"] == 0 and "try_duration" not in one for one in balancing)
