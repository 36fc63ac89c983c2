"""The relay of the embedded runtime: a process that all traffic between sites passes, run by Toxiproxy's API.

    python -m chaoslab.links.relay --api 127.0.0.1:8474 --run ID

prints `listening on http://127.0.0.1:PORT` once it does, and ends on SIGTERM or SIGINT.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import sys

import click
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from chaoslab.errors import EnvironmentFault, ExitCode
from chaoslab.links.listener import loopback
from chaoslab.links.relay_api import application
from chaoslab.links.switchboard import Switchboard

_FILES_MAX = 65_536  # two sockets a connection, and clients that wait behind a fence
_SWITCH_S = 0.001  # a lookup of a caller, in its thread, may hold up traffic for this long


def serve(api: str, run: str | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status. `api` is host:port on loopback; port 0 takes a free one.

    `run`: the CHAOSLAB_RUN whose processes fronts tell apart. Raises EnvironmentFault when the address cannot be had.
    """
    _raise_file_limit()
    sys.setswitchinterval(_SWITCH_S)
    asyncio.run(_serve(api, run))
    return ExitCode.PASS


async def _serve(api: str, run: str | None) -> None:
    loop = asyncio.get_running_loop()
    switchboard = Switchboard(loop, run)
    logging.getLogger("aiohttp.server").addFilter(_is_ours)
    runner = web.AppRunner(application(switchboard), access_log=None, shutdown_timeout=1.0)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await runner.setup()
    try:
        try:
            host, port = loopback(api)
            await web.TCPSite(runner, host, port).start()
        except (OSError, ValueError) as broken:
            raise EnvironmentFault(f"the relay cannot serve its API at {api}: {broken}") from broken
        print(f"listening on http://{_shown(*runner.addresses[0][:2])}", flush=True)  # noqa: T201
        await stop.wait()
    finally:
        switchboard.close()
        await runner.cleanup()


def _is_ours(record: logging.LogRecord) -> bool:
    """A client that speaks no HTTP has its 400; a traceback of it would only look like a fault of the relay."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_MAX if hard == resource.RLIM_INFINITY else min(_FILES_MAX, hard)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@click.command()
@click.option("--api", default="127.0.0.1:8474", show_default=True, help="Where the HTTP API listens, on loopback.")
@click.option("--run", default=None, help="CHAOSLAB_RUN of the processes whose sites fronts tell apart.")
def main(api: str, run: str | None) -> None:
    """Carry the traffic between sites, and do to it what Toxiproxy's API says."""
    try:
        sys.exit(serve(api, run))
    except EnvironmentFault as fault:
        raise click.ClickException(str(fault)) from fault


if __name__ == "__main__":
    main()
