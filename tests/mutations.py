"""Break the main function of each layer, one after the other, and see that the quick tests of that layer notice.

    python tests/mutations.py [--only judge] [--list]

In a copy of the project the body of the function is replaced by `return None`; then the layer's tests run, those of them that
`make test` runs, up to the first failure. Exit status 1 when a mutation is not noticed, or when the tests fail without any.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("chaoslab", "compose", "experiments", "tests", "pyproject.toml", "Makefile", "README.md")
QUICK = "not docker and not toxiproxy and not slow and not nightly"
FAILED, BROKEN = 1, 2  # pytest's exit codes: tests failed, tests could not be collected
TIMEOUT_S = 600


@dataclass(frozen=True)
class Mutation:
    """A function (or `Class.method`) in a layer of chaoslab/, "" for the files in the base; and the tests that must notice."""

    layer: str
    function: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.layer or 'base'}: {self.function}"


MUTATIONS = [
    Mutation("", "parse_duration_s", ("tests/spec/test_loading.py",)),
    Mutation("", "wait_until", ("tests/machine", "tests/probe/test_prober_process.py")),
    Mutation("", "spawn", ("tests/machine", "tests/probe/test_prober_process.py")),
    Mutation("", "Secrets.text", ("tests/security/test_masking.py",)),
    Mutation("", "open_new", ("tests/security/test_planted_links.py",)),
    Mutation("spec", "load_experiment", ("tests/spec/test_loading.py",)),
    Mutation("spec", "check_experiment", ("tests/spec/test_golden_specs.py",)),
    Mutation("history", "HistoryWriter.append", ("tests/report/test_store.py", "tests/report/test_run_folder.py")),
    Mutation("history", "pack", ("tests/security/test_evidence.py", "tests/security/test_bundle.py")),
    Mutation("judge", "run_clocks", ("tests/judge/test_clock_table.py", "tests/judge/test_clocks.py")),
    Mutation("judge", "check_rto", ("tests/judge",)),
    Mutation("judge", "check_rpo", ("tests/judge",)),
    Mutation("cleanup", "undo", ("tests/engine/test_undo.py",)),
    Mutation("stack", "EmbeddedStack.kill", ("tests/stack/test_stack_contract.py",)),
    Mutation("stack", "Renderer.project", ("tests/docker/test_project.py",)),
    Mutation("stack", "plan_wans", ("tests/docker/test_wan_plan.py",)),
    Mutation("stack", "ToxiproxyDriver.create", ("tests/relay",)),
    Mutation("stack", "application", ("tests/relay",)),
    Mutation("faults", "PowerLossFault.inject", ("tests/faults/test_on_embedded.py",)),
    Mutation("faults", "prove_silence", ("tests/faults/test_on_embedded.py",)),
    Mutation("probe", "run_plan", ("tests/probe/test_prober_process.py",)),
    Mutation("probe", "read_all_sites", ("tests/probe/test_ledger.py", "tests/probe/test_known_truth.py")),
    Mutation("machine", "Sampler.next", ("tests/machine/test_sampler.py",)),
    Mutation("load", "LoadProcess.start", ("tests/load/test_load_process.py",)),
    Mutation("engine", "Engine.events", ("tests/engine/test_races.py",)),
    Mutation("report", "render_html", ("tests/report/test_html.py",)),
    Mutation("report", "render_junit", ("tests/report/test_junit.py",)),
    Mutation("run", "run_once", ("tests/engine/test_runs.py",)),
    Mutation("run", "finalize_run", ("tests/engine/test_runs.py",)),
    Mutation("gameday", "tally", ("tests/gameday/test_night.py",)),
    Mutation("gameday", "divide", ("tests/gameday/test_shards.py",)),
    Mutation("adopt", "groups_of", ("tests/adopt",)),
    Mutation("adopt", "write_new", ("tests/adopt",)),
    Mutation("testing", "pytest_collect_file", ("tests/testing/test_plugin.py",)),
    Mutation("cli", "main", ("tests/engine/test_runs.py",)),
    Mutation("cli", "check_command", ("tests/e2e/test_two_site.py::test_every_experiment_of_the_project_is_in_order",)),
]


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Those of a module, and methods as `Class.method`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions(node, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node  # type: ignore[misc]


def found(root: Path, mutation: Mutation) -> tuple[Path, ast.FunctionDef]:
    """Where the function is. Raises LookupError when it is not exactly once in its layer."""
    folder = root / "chaoslab" / mutation.layer
    files = sorted(folder.rglob("*.py") if mutation.layer else folder.glob("*.py"))
    places = [
        (file, node) for file in files for name, node in functions(ast.parse(file.read_text())) if name == mutation.function
    ]
    if len(places) != 1:
        raise LookupError(f"{mutation}: found {len(places)} times; name it in tests/mutations.py as it is called now")
    return places[0]


def mutated(text: str, function: ast.FunctionDef) -> str:
    """The module, with that function's body replaced."""
    lines, first, last = text.splitlines(), function.body[0], function.body[-1]
    lines[first.lineno - 1 : last.end_lineno] = [" " * first.col_offset + "return None"]
    return "\n".join(lines) + "\n"


def present_tests(root: Path, mutation: Mutation) -> list[str]:
    """Those of its tests that are there. Raises LookupError when none is."""
    there = [test for test in mutation.tests if (root / test.partition("::")[0]).exists()]
    if not there:
        raise LookupError(f"{mutation}: none of its tests is there; name them in tests/mutations.py as they are called now")
    return there


def run_tests(project: Path, tests: list[str]) -> tuple[int, str]:
    """pytest's exit code up to the first failure, and its last lines."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", QUICK, "-p", "no:cacheprovider", *tests]
    env = {**os.environ, "PYTHONPATH": str(project)}
    try:
        done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return FAILED, "no end"
    return done.returncode, "\n".join(done.stdout.splitlines()[-3:])


def outcome(project: Path, mutation: Mutation) -> tuple[bool, str]:
    """Whether it is noticed, and by what."""
    file, function = found(project, mutation)
    sound = file.read_text()
    file.write_text(mutated(sound, function))
    try:
        code, last = run_tests(project, present_tests(project, mutation))
    finally:
        file.write_text(sound)
    noticed_by = [line.partition(" - ")[0] for line in last.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return code in (FAILED, BROKEN), noticed_by[0] if noticed_by else last


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", action="append", default=[], metavar="LAYER", help="mutations of this layer; may be given several times"
    )
    parser.add_argument("--list", action="store_true", help="print them and run nothing")
    asked = parser.parse_args()
    chosen = [one for one in MUTATIONS if not asked.only or (one.layer or "base") in asked.only]
    if asked.list or not chosen:
        print("\n".join(map(str, chosen)) or "no such layer")
        return 0 if chosen else 2
    with tempfile.TemporaryDirectory(prefix="chaoslab-mutations-") as folder:
        project = Path(folder)
        for name in COPIED:
            source = ROOT / name
            shutil.copytree(source, project / name) if source.is_dir() else shutil.copy(source, project)
        missed = 0
        for mutation in chosen:
            noticed, by = outcome(project, mutation)
            missed += not noticed
            print(f"{'noticed' if noticed else 'MISSED':8} {mutation}  {by}", flush=True)
        every = sorted({test for one in chosen for test in present_tests(project, one)})
        code, last = run_tests(project, every)
        print(f"without a mutation these tests {'pass' if code == 0 else 'FAIL'}: {last}")
    print(f"{len(chosen) - missed} of {len(chosen)} mutations noticed")
    return 1 if missed or code else 0


if __name__ == "__main__":
    sys.exit(main())
