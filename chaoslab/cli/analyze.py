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
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the page of the run to this file, such as that of a run which was killed before it had one.",
)
def analyze_command(run: str, as_json: bool, report: Path | None) -> int:
    """Judge a stored run again from its history; the result is the same as that of the run. Nothing in the run is changed.

    \b
    chaoslab analyze idc-fire
    chaoslab analyze idc-fire --report idc-fire.html

    RUN is a run folder, an experiment's name (its latest run), or a bundle made by `chaoslab export`, packed or unpacked. The
    checksums of a bundle are verified first; one that was changed is not judged (exit 5).
    """
    from chaoslab.history.bundle import check, is_bundle, unpacked
    from chaoslab.history.result import result_json
    from chaoslab.history.writer import write_whole
    from chaoslab.redact import mask_shapes
    from chaoslab.report.terminal import make_console, print_verdict
    from chaoslab.run.finalize import finalize_run
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
        if report is None:
            result = judge_stored(folder, print_crash)
        else:
            finalized = finalize_run(folder, print_crash)
            result = finalized.result
            write_whole(report, finalized.page.encode())
    page = report or (folder.report if folder.report.exists() else None)
    if as_json:
        sys.stdout.buffer.write(result_json(result))
    else:
        print_verdict(result, make_console(sys.stdout), report=None if page is None else str(page))
    return exit_code_of(result)
