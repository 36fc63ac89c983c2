"""`chaoslab resume`: the end of an emergency stop."""

from __future__ import annotations

import click

from chaoslab.errors import ExitCode


@click.command("resume")
def resume_command() -> int:
    """Allow new runs again after `chaoslab stop --all`."""
    from chaoslab.cleanup import active_runs

    click.echo("new runs are allowed again" if active_runs.unblock() else "runs were not blocked")
    return ExitCode.PASS
