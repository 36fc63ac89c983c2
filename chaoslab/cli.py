"""The command line. Commands are imported when they are called, so that `--help` is there at once."""

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
from chaoslab.masking import mask_shapes

# name: where it is, what `chaoslab --help` says of it
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("chaoslab.commands.run:run_command", "Run an experiment and judge it."),
    "selftest": ("chaoslab.commands.selftest:selftest_command", "Run what is known to be bad and see that it fails."),
    "check": ("chaoslab.commands.spec:check_command", "Read experiments and say everything that is wrong with them."),
    "list": ("chaoslab.commands.spec:list_command", "List the experiments and what each claims."),
    "analyze": ("chaoslab.commands.analyze:analyze_command", "Judge a stored run again."),
    "probe": ("chaoslab.probe_cli:probe_command", "Watch URLs and measure every outage as an interval."),
    "relay": ("chaoslab.commands.relay:relay_command", "Run the relay alone, in place of toxiproxy-server."),
    "doctor": ("chaoslab.doctor:doctor_command", "Say what this machine can do, and the cure for what it can't."),
    "schema": ("chaoslab.commands.spec:schema_command", "Print the JSON Schema of experiments, for editors."),
    "export": ("chaoslab.commands.export:export_command", "Pack a run as evidence that others can check."),
    "heal": ("chaoslab.commands.heal:heal_command", "Undo what an interrupted or kept run left behind."),
    "stop": ("chaoslab.commands.stop:stop_command", "End every run on this machine and block new ones."),
    "resume": ("chaoslab.commands.stop:resume_command", "Let runs begin again after a stop."),
}

_GC_THRESHOLD = 10_000  # a run makes rows by the ten thousand, and none is garbage

_EPILOG = """Exit codes: 0 pass, 1 fail, 2 wrong command line or spec, 3 inconclusive, 4 aborted, 5 error,
6 cleaned up incompletely, 130 interrupted."""


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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Lazy, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="chaoslab")
def cli() -> None:
    """Rehearse the loss of a whole data centre on one laptop, and prove what came back.

    Start with `chaoslab list`, then `chaoslab run idc-fire`.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `chaoslab` program. Every error that we know of ends as one plain message and its exit code."""
    gc.set_threshold(_GC_THRESHOLD)
    atexit.register(gc.freeze)  # a last look for garbage, at the exit, would take longer than all the rest of it
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
    except Exception as unforeseen:  # never 1: that says that an objective was missed
        click.echo(mask_shapes(traceback.format_exc()), err=True, nl=False)
        broke = mask_shapes(repr(unforeseen))
        click.echo(f"chaoslab: the harness broke: {broke}; please report it with the lines above", err=True)
        sys.exit(ExitCode.ERROR)
    sys.exit(status if isinstance(status, int) else ExitCode.PASS)
