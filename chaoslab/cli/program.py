"""The command line. Commands are imported when they are called, so that `--help` is fast."""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
import traceback
from collections.abc import Sequence

import click

from chaoslab import __version__
from chaoslab.errors import ChaoslabError, ExitCode
from chaoslab.redact import mask_shapes

# name: where it is, its line in `chaoslab --help`
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("chaoslab.cli.init:init_command", "Adopt a Compose project: write an overlay and a first experiment."),
    "run": ("chaoslab.cli.run:run_command", "Run an experiment and judge it."),
    "confirm": ("chaoslab.cli.confirm:confirm_command", "Confirm a manual step that a run waits for."),
    "runbook": ("chaoslab.cli.runbook:runbook_command", "Check runbooks without a fire."),
    "selftest": ("chaoslab.cli.selftest:selftest_command", "Run the known-bad experiments and check that each one fails."),
    "gameday": ("chaoslab.cli.gameday:gameday_command", "Run a suite of experiments and write one page about it."),
    "check": ("chaoslab.cli.check:check_command", "Read experiments and report every problem in them."),
    "list": ("chaoslab.cli.list:list_command", "List the experiments and the hypothesis of each."),
    "analyze": ("chaoslab.cli.analyze:analyze_command", "Judge a stored run again."),
    "probe": ("chaoslab.cli.probe:probe_command", "Watch URLs and measure every outage as an interval."),
    "relay": ("chaoslab.cli.relay:relay_command", "Run the relay alone, in place of toxiproxy-server."),
    "doctor": ("chaoslab.cli.doctor:doctor_command", "Show what this machine can run, and how to fix what it cannot."),
    "schema": ("chaoslab.cli.schema:schema_command", "Print the JSON Schema of experiments or stacks, for editors."),
    "export": ("chaoslab.cli.export:export_command", "Pack a run into one file that others can check."),
    "heal": ("chaoslab.cli.heal:heal_command", "Undo what an interrupted or kept run left behind."),
    "stop": ("chaoslab.cli.stop:stop_command", "End every run on this machine and block new ones."),
    "resume": ("chaoslab.cli.resume:resume_command", "Allow new runs again after a stop."),
}

_GC_THRESHOLD = 10_000  # a run creates tens of thousands of rows, and none is garbage

_EPILOG = """Exit codes: 0 pass, 1 fail, 2 wrong command line or spec, 3 inconclusive, 4 aborted, 5 error,
6 clean-up incomplete, 130 interrupted."""


class _Lazy(click.Group):
    """A group that imports a command only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from chaoslab.spec.yaml.problems import suggest

            raise click.UsageError(f"there is no command {args[0]!r}{suggest(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Lazy, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="chaoslab")
def cli() -> None:
    """Rehearse the loss of a data centre on one laptop, and prove what recovered.

    In the folder of your own Compose file, start with `chaoslab init`; in this project, with `chaoslab list`.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `chaoslab` program. Every known error ends with one message and its exit code."""
    gc.set_threshold(_GC_THRESHOLD)
    atexit.register(gc.freeze)  # a garbage collection at exit would take longer than the rest
    try:
        status = cli.main(args=list(sys.argv[1:] if arguments is None else arguments), standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(ExitCode.INTERRUPTED)
    except click.ClickException as wrong:
        wrong.show()
        sys.exit(ExitCode.USAGE)
    except ChaoslabError as failed:
        click.echo(f"chaoslab: {mask_shapes(str(failed))}", err=True)
        sys.exit(failed.exit_code)
    except Exception as unforeseen:  # never 1: that means that an objective was missed
        click.echo(mask_shapes(traceback.format_exc()), err=True, nl=False)
        broke = mask_shapes(repr(unforeseen))
        click.echo(f"chaoslab: the harness broke: {broke}; please report it with the lines above", err=True)
        sys.exit(ExitCode.ERROR)
    sys.exit(status if isinstance(status, int) else ExitCode.PASS)
