"""`chaoslab relay`: the embedded relay alone."""

from __future__ import annotations

import click

from chaoslab.stack.relay.__main__ import serve
from chaoslab.stack.relay.listener import loopback


@click.command("relay")
@click.option("--api", default="127.0.0.1:8474", show_default=True, help="Where the HTTP API listens.")
def relay_command(api: str) -> int:
    """Serve Toxiproxy's HTTP API on a machine that has no toxiproxy-server.

    Any Toxiproxy client can use it. Ctrl-C ends it.
    """
    try:
        loopback(api)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong), param_hint="--api") from None
    return serve(api)
