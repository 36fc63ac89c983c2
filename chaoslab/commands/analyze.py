"""`chaoslab analyze`: judge a stored run again."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("analyze")
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the result, as JSON.")
def analyze_command(run: str, as_json: bool) -> int:
    """Judge a stored run again from its history; the result is the same as the run's own. Nothing is written.

    RUN is a run folder, or an experiment's name (its latest run).
    """
    from chaoslab.judging import judge_stored
    from chaoslab.report.terminal import make_console, print_verdict
    from chaoslab.report.words import exit_code_of
    from chaoslab.store import load_run, result_json

    folder = load_run(Path(run))
    result = judge_stored(folder)
    if as_json:
        sys.stdout.buffer.write(result_json(result))
    else:
        print_verdict(result, make_console(sys.stdout), report=str(folder.report))
    return exit_code_of(result)
