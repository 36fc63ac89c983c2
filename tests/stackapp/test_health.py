"""The health check, run as the Compose file runs it."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from conftest import APP


def health(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", "health.py", *arguments]
    return subprocess.run(command, cwd=APP, capture_output=True, text=True, timeout=10, check=False)


async def fine(_: web.Request) -> web.Response:
    return web.Response()


@pytest.fixture
async def served():
    """host:port of a server that is fine at /fine and nowhere else."""
    app = web.Application()
    app.router.add_get("/fine", fine)
    server = TestServer(app)
    await server.start_server()
    yield f"127.0.0.1:{server.port}"
    await server.close()


async def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(health, *arguments)


async def test_passes_only_when_every_url_is_fine(served) -> None:
    """One bad URL of several is a failure that names it."""
    assert (await run(f"{served}/fine", f"{served}/fine")).returncode == 0
    bad = await run(f"{served}/fine", f"{served}/gone")
    assert (bad.returncode, bad.stderr.strip()) == (1, f"{served}/gone: status 404")


def test_nobody_there_is_a_failure() -> None:
    """A refused connection fails, in words."""
    result = health("127.0.0.1:9/fine")
    assert result.returncode == 1
    assert "127.0.0.1:9/fine" in result.stderr


def test_a_file_may_stand_in(tmp_path) -> None:
    """`--or FILE` passes when the file is there, and changes nothing when it is not."""
    mark = tmp_path / "mark"
    assert health("127.0.0.1:9/fine", "--or", str(mark)).returncode == 1
    mark.touch()
    assert health("127.0.0.1:9/fine", "--or", str(mark)).returncode == 0
