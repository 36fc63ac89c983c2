"""`chaoslab analyze`: judge a stored run again."""

from __future__ import annotations

import contextlib
import sys
import traceback
from pathlib import Path

import click

from chaoslab.cli.options import stored_run
from chaoslab.errors import exit_code_of


@click.command("analyze")
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the result, as JSON.")
def analyze_command(run: str, as_json: bool) -> int:
    """Judge a stored run again from its history; the result is the same as that of the run. Nothing is written.

    RUN is a run folder, an experiment's name (its latest run), or a bundle made by `chaoslab export`, packed or unpacked. The
    checksums of a bundle are verified first; one that was changed is not judged (exit 5).
    """
    from chaoslab.history.bundle import check, is_bundle, unpacked
    from chaoslab.history.result import result_json
    from chaoslab.redact import mask_shapes
    from chaoslab.report.terminal import make_console, print_verdict
    from chaoslab.run.stored import judge_stored

    def print_crash(bug: Exception) -> None:
        """On standard error: nothing is written into a stored run."""
        click.echo(mask_shapes("".join(traceback.format_exception(bug))), err=True, nl=False)

    path = Path(run)
    with contextlib.ExitStack() as until_judged:
        if path.is_file():
            folder = until_judged.enter_context(unpacked(path))
        else:
            folder = stored_run(str(path))
            if is_bundle(folder.path):
                check(folder.path)
        result = judge_stored(folder, print_crash)
    if as_json:
        sys.stdout.buffer.write(result_json(result))
    else:
        print_verdict(result, make_console(sys.stdout), report=str(folder.report) if folder.report.exists() else None)
    return exit_code_of(result)
