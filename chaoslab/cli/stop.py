"""`chaoslab stop --all`: the emergency stop."""

from __future__ import annotations

import click

from chaoslab.errors import ExitCode, SpecError


@click.command("stop")
@click.option("--all", "everything", is_flag=True, help="Every run of this user on this machine.")
def stop_command(everything: bool) -> int:
    """End every run at once, heal its faults, and block new runs until `chaoslab resume`.

    Each run is asked to heal and end; one that has not ended after 45 s is killed and undone from its journal.
    Running it twice is safe.
    """
    from chaoslab.cleanup.stop import stop_all

    if not everything:
        raise SpecError(
            "the emergency stop ends every run; confirm it with --all",
            cure="chaoslab stop --all; a single run ends with Ctrl-C",
        )
    count, unclean = 0, False
    for outcome, left in stop_all():
        count, unclean = count + 1, unclean or bool(left)
        click.echo(outcome)
    click.echo(f"{count or 'no'} runs stopped; new ones are blocked until: chaoslab resume")
    return ExitCode.UNCLEAN if unclean else ExitCode.PASS
