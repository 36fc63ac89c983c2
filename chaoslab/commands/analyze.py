"""`chaoslab analyze`: judge a stored run again."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from chaoslab.store import RunFolder


@click.command("analyze")
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the result, as JSON.")
def analyze_command(run: str, as_json: bool) -> int:
    """Judge a stored run again from its history; the result is the same as the run's own. Nothing is written.

    RUN is a run folder, an experiment's name (its latest run), or a bundle of `chaoslab export`, packed or unpacked. A bundle
    is held against its checksums first; one that was changed is not judged (exit 5).
    """
    from chaoslab.judging import judge_stored
    from chaoslab.report.terminal import make_console, print_verdict
    from chaoslab.report.words import exit_code_of
    from chaoslab.store import result_json

    with _run(Path(run)) as folder:
        result = judge_stored(folder, _tell)
    if as_json:
        sys.stdout.buffer.write(result_json(result))
    else:
        print_verdict(result, make_console(sys.stdout), report=str(folder.report) if folder.report.exists() else None)
    return exit_code_of(result)


def _tell(bug: Exception) -> None:
    """Nothing is written into a stored run: a judge that crashes says where on standard error."""
    from chaoslab.masking import mask_shapes

    click.echo(mask_shapes("".join(traceback.format_exception(bug))), err=True, nl=False)


@contextlib.contextmanager
def _run(path: Path) -> Iterator[RunFolder]:
    from chaoslab.evidence import check, is_bundle, unpacked
    from chaoslab.store import load_run

    if path.is_file():
        with unpacked(path) as folder:
            yield folder
        return
    folder = load_run(path)
    if is_bundle(folder.path):
        check(folder.path)
    yield folder
