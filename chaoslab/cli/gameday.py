"""`chaoslab gameday`: run a suite of experiments, one after the other, and write one page about them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from chaoslab.cli.options import project_here, use_binds_option
from chaoslab.errors import ChaoslabError, ExitCode

if TYPE_CHECKING:
    from chaoslab.gameday.journal import Opened
    from chaoslab.gameday.tally import Night

ROOT = Path("runs")


class _SuiteFirst(click.Group):
    """`chaoslab gameday nightly` is `chaoslab gameday run nightly`."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["run", *args])


@click.group("gameday", cls=_SuiteFirst)
def gameday_command() -> None:
    """Run a suite of experiments and write one page: what was rehearsed, what held, and what was not proven.

    \b
    chaoslab gameday nightly              runs experiments/gameday/nightly.yaml
    chaoslab gameday nightly --dry-run    what would run, and for how long
    chaoslab gameday nightly --shard 2/3  the second third of it, on the second of three machines
    chaoslab gameday merge DIR…           combines the shards' folders into one page
    chaoslab gameday durations DIR…       stores how long the runs took, for shards of equal length

    If a game day was interrupted or killed, the same command resumes it within 12 hours. `chaoslab gameday run --help` lists
    the options.
    """


@gameday_command.command("run")
@click.argument("suite", metavar="SUITE|PATH")
@click.option(
    "--shard", "shard_text", metavar="I/N", default=None, help="Run part I of N. [default: from the CI system's variables]"
)
@use_binds_option
@click.option("--new", is_flag=True, help="Begin a new game day, even if the last one was interrupted less than 12 hours ago.")
@click.option("--dry-run", is_flag=True, help="Print what would run and how long it takes; start nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but night.json, or the plan, as JSON.")
def run_command(suite: str, shard_text: str | None, use_binds: bool, new: bool, dry_run: bool, as_json: bool) -> int:
    """Run a suite of experiments/gameday/ (by name) or a file.

    Without --shard the shard is read from CI_NODE_INDEX and CI_NODE_TOTAL (GitLab), JOB_COMPLETION_INDEX and JOB_COMPLETIONS
    (Kubernetes), NOMAD_ALLOC_INDEX and NOMAD_GROUP_COUNT, SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT, or
    STRATEGY_JOB_INDEX and STRATEGY_JOB_TOTAL (set these from GitHub's strategy context). A shard that has nothing to run prints
    that and exits with 0; `merge` needs its folder, too.
    """
    from chaoslab.cleanup.active_runs import alone
    from chaoslab.gameday.night import Player, finish, open_night, plan_of
    from chaoslab.gameday.plan import parse_shard, shard_of
    from chaoslab.gameday.suite import find_suite, load_suite

    project = project_here()
    shard = parse_shard(shard_text) if shard_text else shard_of(os.environ)
    loaded = load_suite(find_suite(suite, project, Path.cwd()), project)
    opened = plan_of(loaded, project / ROOT, shard, use_binds=use_binds)
    for advice in loaded.advice:
        click.echo(advice, err=True)
    if dry_run and as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(opened)).decode())
    elif dry_run or not as_json:
        _print_plan(opened)
    if dry_run:
        return ExitCode.PASS
    on_progress = partial(click.echo, err=as_json)
    with alone(lambda: on_progress("another game day or test session is active on this machine; waiting for its end")):
        folder, resumed = open_night(opened, project / ROOT, new=new)
        on_progress(f"{'resuming in' if resumed else 'writing to'} {os.path.relpath(folder.path)}")
        player = Player(folder, loaded, project, on_progress)
        problems: list[str] = []
        with _signals_to(player.stop), contextlib.chdir(project):
            try:
                player.play()
            except (ChaoslabError, OSError) as broken:  # mostly a full disk; the pages of the game day are written all the same
                problems.append(str(broken))
        night = finish(folder, problems, interrupted=player.stopped)
    _print_end(night, folder.path, as_json=as_json)
    return night.exit_code if opened.mine or problems or player.stopped else ExitCode.PASS


@gameday_command.command("merge")
@click.argument(
    "folders", metavar="DIR…", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option("--json", "as_json", is_flag=True, help="Print nothing but night.json.")
def merge_command(folders: tuple[Path, ...], as_json: bool) -> int:
    """Combine the shards of one game day into one page: DIR is a shard's folder, runs/gameday/SUITE/TIME.

    A missing shard is an error, and its experiments count as not run. Shards of other suites, specs or versions are refused.
    """
    from chaoslab.gameday.merge import merge

    target, night = merge(folders, project_here() / ROOT)
    _print_end(night, target.path, as_json=as_json)
    return night.exit_code


@gameday_command.command("durations")
@click.argument(
    "folders", metavar="DIR…", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False)
)
def durations_command(folders: tuple[Path, ...]) -> None:
    """Store how long the runs of game days took in a file next to their suite, experiments/gameday/SUITE.durations.json.

    DIR is the folder of a game day or of one of its shards, runs/gameday/SUITE/TIME; all must be of one suite. Commit the
    file: --shard uses it, so that every machine divides the runs in the same way.
    """
    from chaoslab.gameday.durations import durations_file, write_durations
    from chaoslab.gameday.journal import read_journal, state_of
    from chaoslab.gameday.suite import find_suite

    suite = find_suite(state_of(read_journal(folders[0])).opened.suite, project_here())
    for name, seconds in sorted(write_durations(folders, suite).items()):
        click.echo(f"  {name:28} {seconds:5.0f} s")
    click.echo(f"written to {os.path.relpath(durations_file(suite))}")


def _print_plan(opened: Opened) -> None:
    mine = opened.mine
    minutes = sum(case.expected_s for case in mine) / 60
    limits = f"runtime {opened.runtime}, at most {opened.limit_s:.0f} s a run"
    limits += f", budget {opened.budget_s:.0f} s" if opened.budget_s is not None else ""
    share = "" if opened.shard.total == 1 else f" (shard {opened.shard} of {len(opened.plan)} runs)"
    if not mine:
        click.echo(f"{opened.title}: shard {opened.shard} has nothing to run: {len(opened.plan)} runs are on the others")
        return
    click.echo(f"{opened.title}: {len(mine)} runs{share}, about {minutes:.0f} min; {limits}")
    for case in mine:
        click.echo(f"  {case.id:28} {case.expected_s:5.0f} s  {case.title}")


def _print_end(night: Night, folder: Path, *, as_json: bool) -> None:
    from chaoslab.gameday.pages import DATA, INDEX, SIGNS

    if as_json:
        click.echo((folder / DATA).read_bytes(), nl=False)
        return
    for case in night.cases:
        click.echo(f"{SIGNS[case.status]} {case.id:28} {case.status:16} {case.why}")
    for problem in night.problems:
        click.echo(f"! {problem}")
    if not night.cases:
        click.echo(f"nothing was run; {os.path.relpath(folder / INDEX)}")
        return
    counts = ", ".join(f"{count} {status}" for status, count in night.counts.items() if count)
    click.echo(f"{night.verdict}: {counts}; {os.path.relpath(folder / INDEX)}")


@contextlib.contextmanager
def _signals_to(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM let the current run heal and end, and then end the game day."""
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
