"""`chaoslab stop --all` and `chaoslab resume`: the emergency stop, and its end."""

from __future__ import annotations

import click

from chaoslab.errors import ExitCode, SpecError


@click.command("stop")
@click.option("--all", "everything", is_flag=True, help="Every run of this user on this machine.")
def stop_command(everything: bool) -> int:
    """End every run at once, heal what they did, and let no new one begin until `chaoslab resume`.

    Each run is asked to heal and end; one that does not within 45 s is killed and undone from its journal. Safe to call twice.
    """
    from chaoslab.stopping import stop_all

    if not everything:
        raise SpecError(
            "say --all: the emergency stop ends every run", cure="chaoslab stop --all; a single run ends with Ctrl-C"
        )
    count, unclean = 0, False
    for said, left in stop_all():
        count, unclean = count + 1, unclean or bool(left)
        click.echo(said)
    click.echo(f"{count or 'no'} runs stopped; new ones are blocked until: chaoslab resume")
    return ExitCode.UNCLEAN if unclean else ExitCode.PASS


@click.command("resume")
def resume_command() -> int:
    """Let runs begin again after `chaoslab stop --all`."""
    from chaoslab import registry

    click.echo("runs may begin again" if registry.unblock() else "runs were not blocked")
    return ExitCode.PASS
