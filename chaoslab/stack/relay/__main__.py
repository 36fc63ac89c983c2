"""The relay of the embedded runtime: a process that carries all traffic between sites, controlled by Toxiproxy's API.

    python -m chaoslab.stack.relay --api 127.0.0.1:8474 --run ID

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
from chaoslab.stack.ports import LOOPBACK
from chaoslab.stack.relay.api import application
from chaoslab.stack.relay.listener import loopback, show_address
from chaoslab.stack.relay.registry import ProxyRegistry

_FILES_MAX = 65_536  # two sockets a connection, and clients that wait behind a fence
_SWITCH_S = 0.001  # the lookup of a client's site, in its thread, may hold up traffic for this long


def serve(api: str, run: str | None = None, *, watch_asks: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status. `api` is host:port on loopback; port 0 takes a free one.

    `run`: the CHAOSLAB_RUN whose processes routers tell apart. `watch_asks`: count who gets no answer. Raises EnvironmentFault
    when it cannot listen there.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_MAX if hard == resource.RLIM_INFINITY else min(_FILES_MAX, hard)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    sys.setswitchinterval(_SWITCH_S)
    asyncio.run(_serve(api, run, watch_asks))
    return ExitCode.PASS


async def _serve(api: str, run: str | None, watch_asks: bool) -> None:
    loop = asyncio.get_running_loop()
    registry = ProxyRegistry(loop, run, watch_asks=watch_asks)
    # A request that is no HTTP gets its 400; the traceback that aiohttp logs would look like an error of the relay.
    logging.getLogger("aiohttp.server").addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
    )
    runner = web.AppRunner(application(registry), access_log=None, shutdown_timeout=1.0)
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
        print(f"listening on http://{show_address(*runner.addresses[0][:2])}", flush=True)  # noqa: T201
        await stop.wait()
    finally:
        registry.close()
        await runner.cleanup()


@click.command()
@click.option("--api", default=f"{LOOPBACK}:8474", show_default=True, help="Where the HTTP API listens, on loopback.")
@click.option("--run", default=None, help="CHAOSLAB_RUN of the processes whose sites routers tell apart.")
@click.option("--watch-asks", is_flag=True, help="Count the connections that get no answer, by replica.")
def main(api: str, run: str | None, watch_asks: bool) -> None:
    """Carry the traffic between sites, with the faults that are set through Toxiproxy's API."""
    try:
        sys.exit(serve(api, run, watch_asks=watch_asks))
    except EnvironmentFault as fault:
        raise click.ClickException(str(fault)) from fault


if __name__ == "__main__":
    main()
