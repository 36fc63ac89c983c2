"""`chaoslab doctor`: what this machine can run, and how to fix what it cannot. Only inspects; changes nothing."""

from __future__ import annotations

import json
import platform
import resource
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psutil

from chaoslab.cli.options import project_here
from chaoslab.errors import ChaoslabError, ExitCode
from chaoslab.run import host, runtimes
from chaoslab.run.runtimes import Finding

if TYPE_CHECKING:
    from chaoslab.spec.load import Loaded
    from chaoslab.spec.stackfile.compose import ComposeFile


@dataclass(frozen=True)
class Subject:
    """An experiment and its stack, or a stack alone, whose needs are examined. `load`: it needs Locust."""

    name: str
    compose: ComposeFile
    load: bool
    loaded: Loaded | None = None


_MEMORY_GB = 1.5
_DISK_GB = 2.0
_NEXT_LINE = f"\n{'':27}"
_FILES = 4096
_PORTS = 64  # a two-site stack with its relays needs about this many


def examine(subjects: Sequence[Subject] = ()) -> list[Finding]:
    """Examine the machine, what each runtime needs, and what these stacks need on it.

    A check that breaks is itself a finding, and does not stop the others. Raises EnvironmentFault if two packages offer a
    runtime by the same name.
    """
    everywhere = tuple(runtimes.names())
    needs_load = not subjects or any(subject.load for subject in subjects)
    findings = [_look(look, everywhere) for look in LOOKS if needs_load or look is not locust]
    stacks = [*{subject.compose.files: subject.compose for subject in subjects}.values()]
    for name in everywhere:
        try:
            runtime = runtimes.get(name)
            looks = [*runtime.looks(), *runtime.looks_for(stacks)]
        except ChaoslabError as broken:
            findings.append(Finding(f"runtime {name}", False, str(broken.args[0]), broken.cure, (name,)))
        else:
            findings += [_look(look, (name,)) for look in looks]
    return findings


def available(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """For each runtime, what is missing; an empty list means that it is ready."""
    return {
        runtime: [finding.name for finding in findings if not finding.ok and runtime in finding.needed_by]
        for runtime in runtimes.names()
    }


def _look(look: Callable[[], Finding], needed_by: tuple[str, ...]) -> Finding:
    try:
        return look()
    except Exception as broken:
        name = (look.__doc__ or look.__name__).rstrip(".")
        return Finding(name, False, f"this check broke: {broken}", getattr(broken, "cure", None), needed_by)


# --- what any runtime needs ---------------------------------------------------------------------------------------


def python() -> Finding:
    """Python."""
    found = f"{platform.python_version()} at {sys.executable}"
    return _for_all("python", sys.version_info >= (3, 11), found, "use Python 3.11 or newer")


def locust() -> Finding:
    """Locust."""
    there = host.is_installed("locust")
    return _for_all("locust", there, "installed" if there else "not installed", host.INSTALL_EXTRA.format("load"))


def memory() -> Finding:
    """Memory."""
    free_gb = psutil.virtual_memory().available / 1e9
    cure = f"free {_MEMORY_GB} GB; with less, the machine itself stalls"
    return _for_all("memory", free_gb >= _MEMORY_GB, f"{free_gb:.1f} GB available", cure)


def disk() -> Finding:
    """Disk."""
    folder = tempfile.gettempdir()
    free_gb = psutil.disk_usage(folder).free / 1e9
    cure = f"free {_DISK_GB:.0f} GB there, or set TMPDIR to a folder with more free space"
    return _for_all("disk", free_gb >= _DISK_GB, f"{free_gb:.1f} GB free in {folder}", cure)


def open_files() -> Finding:
    """Open files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = ("unlimited" if limit == resource.RLIM_INFINITY else str(limit) for limit in limits)
    fine = limits[1] == resource.RLIM_INFINITY or limits[1] >= _FILES
    return _for_all("open files", fine, f"{soft}, up to {hard}", f"ulimit -Hn {_FILES} or more")


def ports() -> Finding:
    """Free ports on 127.0.0.1."""
    with ExitStack() as held:
        try:
            for _ in range(_PORTS):
                held.enter_context(socket.socket()).bind(("127.0.0.1", 0))
        except OSError as full:
            return _for_all("ports", False, f"fewer than {_PORTS} on 127.0.0.1: {full}", "end what uses them: ss -tanp")
    return _for_all("ports", True, f"{_PORTS} or more on 127.0.0.1")


def _for_all(name: str, ok: bool, found: str, cure: str | None = None) -> Finding:
    return Finding(name, ok, found, cure, tuple(runtimes.names()))


LOOKS: tuple[Callable[[], Finding], ...] = (python, locust, memory, disk, open_files, ports)


# --- the command --------------------------------------------------------------------------------------------------


@click.command("doctor")
@click.argument("names", nargs=-1, metavar="[NAME|PATH]...")
@click.option("--json", "as_json", is_flag=True, help="One object, for machines.")
def doctor_command(names: tuple[str, ...], as_json: bool) -> int:
    """Show what this machine can run, and how to fix what it cannot.

    With names: what these experiments and their stacks need. Without: what all experiments and stacks of this project need.
    Outside a project, only the machine is examined.

    Exit code 0 if at least one runtime is ready, else 5.
    """
    chosen, problems = _subjects(names)
    findings = [*examine(chosen), *problems]
    lacks = available(findings)
    impossible = [(one.name, runtimes.impossible_on(one.loaded)) for one in chosen if one.loaded is not None]
    limits = {
        runtime: [
            *runtimes.limits_of(runtime),
            *(f"{name} cannot run here: {why[runtime]}" for name, why in impossible if why.get(runtime)),
        ]
        for runtime in lacks
    }
    code = ExitCode.PASS if not all(lacks.values()) else ExitCode.ERROR
    if as_json:
        rows = [asdict(finding) for finding in findings]
        whom = [subject.name for subject in chosen]
        click.echo(json.dumps({"experiments": whom, "findings": rows, "lacks": lacks, "limits": limits}, indent=2))
        return code
    asked = len(chosen) + len(problems)
    if asked:
        what = chosen[0].name if asked == len(chosen) == 1 else f"{asked} experiments"
        click.echo(f"This machine, and what is needed for {what} of {project_here().name}.\n")
    else:
        click.echo("This machine only; to see what a stack needs, run this in a project or name an experiment.\n")
    for finding in findings:
        mark = "ok " if finding.ok else "-- " if not finding.needed_by else "NO "
        click.echo(f"{mark} {finding.name:22} {finding.found.strip().replace(chr(10), _NEXT_LINE)}")
        if not finding.ok and finding.cure is not None:
            click.echo(f"{_NEXT_LINE[1:]}cure: {finding.cure}")
    click.echo()
    for runtime, missing in lacks.items():
        click.echo(f"--runtime {runtime}: " + (f"not ready; missing: {', '.join(missing)}" if missing else "ready"))
        for limit in limits[runtime]:
            click.echo(f"    limit: {limit}")
    return code


def _subjects(names: Sequence[str]) -> tuple[list[Subject], list[Finding]]:
    """What to examine, and a finding for each experiment or stack that cannot be read."""
    from chaoslab.spec.load import find_experiment, load_experiment
    from chaoslab.spec.project import experiment_files, name_of, own_stack
    from chaoslab.spec.stackfile.compose import load_stack
    from chaoslab.spec.yaml.problems import SpecErrors, shown_path

    project = project_here()
    files = [find_experiment(name, project, Path.cwd()) for name in names] or experiment_files(project)
    subjects: list[Subject] = []
    broken: list[Finding] = []
    for file in files:
        try:
            loaded = load_experiment(file)
        except SpecErrors:
            found = "it has errors, so what it needs is not known"
            broken.append(Finding(f"experiment {name_of(file)}", False, found, f"chaoslab check {shown_path(file)}"))
        else:
            subjects.append(Subject(loaded.experiment.name, loaded.compose, loaded.experiment.load is not None, loaded))
    if not files and (stack := own_stack(project)):
        try:
            subjects.append(Subject("chaoslab.yaml", load_stack(stack), load=False))
        except SpecErrors:
            broken.append(Finding("chaoslab.yaml", False, "it has errors, so what it needs is not known", "chaoslab check"))
    return subjects, broken
