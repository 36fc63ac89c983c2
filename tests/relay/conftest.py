"""Servers to test: a relay process, and Toxiproxy itself where it is found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from wire_ends import Api, Upstream, relay_process, toxiproxy_process


@pytest.fixture(scope="module")
def relay_api() -> Iterator[Api]:
    with relay_process("--run", "tests") as (_, address):
        yield Api(address, "relay")


@pytest.fixture(scope="module", params=["relay", "toxiproxy"])
def any_server(request: pytest.FixtureRequest) -> Iterator[Api]:
    """The relay, and Toxiproxy itself where CHAOSLAB_TOXIPROXY or the PATH has it."""
    if request.param == "relay":
        with relay_process() as (_, address):
            yield Api(address, "relay")
        return
    binary = os.environ.get("CHAOSLAB_TOXIPROXY") or shutil.which("toxiproxy-server")
    if not binary:
        pytest.skip("no toxiproxy-server on the PATH, and CHAOSLAB_TOXIPROXY is not set")
    with toxiproxy_process(binary) as address:
        yield Api(address, "toxiproxy")


@pytest.fixture
def api(any_server: Api) -> Iterator[Api]:
    any_server.clear()
    yield any_server
    any_server.clear()


@pytest.fixture
def relay(relay_api: Api) -> Iterator[Api]:
    relay_api.clear()
    relay_api("PUT", "/chaoslab/fence", {"hold": []})
    relay_api("PUT", "/chaoslab/vacant", {"places": []})
    yield relay_api
    relay_api("PUT", "/chaoslab/fence", {"hold": []})
    relay_api("PUT", "/chaoslab/vacant", {"places": []})
    for name in relay_api("GET", "/chaoslab/routers").json():
        relay_api("DELETE", f"/chaoslab/routers/{name}")
    relay_api.clear()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    yield made
    made.listening.close()
