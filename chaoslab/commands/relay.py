"""`chaoslab relay`: the embedded relay alone."""

from __future__ import annotations

import click

from chaoslab.links.relay import serve


@click.command("relay")
@click.option("--api", default="127.0.0.1:8474", show_default=True, help="Where the HTTP API listens.")
def relay_command(api: str) -> int:
    """Speak Toxiproxy's HTTP API on a machine that has no toxiproxy-server.

    Point any Toxiproxy client at it. It ends with Ctrl-C.
    """
    return serve(api)
