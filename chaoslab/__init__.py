"""Rehearse the loss of a data centre on one laptop, and prove what recovered.

To do from Python what the program `chaoslab` does:

    project = Path.cwd()
    loaded = load_experiment(find_experiment("idc-fire", project), {"load.users": "10"})
    runtime, why = choose_runtime("auto", loaded)
    outcome = run_once(loaded, Options(project, runtime.name))
    print(outcome.result.verdict, outcome.folder.report, int(outcome.exit_code))

The public names; everything else is private:

    find_experiment, list_experiments, load_experiment    an experiment by its name or file: `Listed`, `Loaded`
    choose_runtime                                        where it can run: `Runtime`, by name or `auto`
    run_once                                              run it with `Options`, shown by a `View`, to a `RunOutcome`
    SharedStack                                           several runs on one stack, which is booted once
    load_run, judge_stored                                a stored run, as its `RunFolder`, and its `Result` judged again
    exit_code_of                                          what a process that ran it should exit with: `ExitCode`
    Journey                                               a journey in any protocol: a class of your own, given a `Place`
    Verdict                                               pass, fail, error, aborted or inconclusive
    ChaoslabError                                         whatever is raised on purpose: `SpecError`, `EnvironmentFault`,
                                                          `NotReady`, `NotHealthy`, `StackError`, `LinkError`,
                                                          `FaultNotEffective`, `Interrupted`
    __version__                                           of this package

Seconds are floats named `…_s`. Nothing is imported before it is used.
"""

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from chaoslab.errors import (
        ChaoslabError,
        EnvironmentFault,
        ExitCode,
        FaultNotEffective,
        Interrupted,
        LinkError,
        NotHealthy,
        NotReady,
        SpecError,
        StackError,
        Verdict,
        exit_code_of,
    )
    from chaoslab.history.folder import RunFolder, load_run
    from chaoslab.history.result import Result
    from chaoslab.probe.journey_class import Journey, Place
    from chaoslab.report.view import View
    from chaoslab.run.runtimes import Runtime, choose_runtime
    from chaoslab.run.session import Options, RunOutcome, run_once
    from chaoslab.run.shared_stack import SharedStack
    from chaoslab.run.stored import judge_stored
    from chaoslab.spec.load import Listed, Loaded, find_experiment, list_experiments, load_experiment

__version__ = "0.1.0"
__all__ = [
    "ChaoslabError",
    "EnvironmentFault",
    "ExitCode",
    "FaultNotEffective",
    "Interrupted",
    "Journey",
    "LinkError",
    "Listed",
    "Loaded",
    "NotHealthy",
    "NotReady",
    "Options",
    "Place",
    "Result",
    "RunFolder",
    "RunOutcome",
    "Runtime",
    "SharedStack",
    "SpecError",
    "StackError",
    "Verdict",
    "View",
    "__version__",
    "choose_runtime",
    "exit_code_of",
    "find_experiment",
    "judge_stored",
    "list_experiments",
    "load_experiment",
    "load_run",
    "run_once",
]
_HOMES = {
    "errors": (
        "ChaoslabError EnvironmentFault ExitCode FaultNotEffective Interrupted LinkError NotHealthy NotReady SpecError "
        "StackError Verdict exit_code_of"
    ),
    "history.folder": "RunFolder load_run",
    "history.result": "Result",
    "probe.journey_class": "Journey Place",
    "report.view": "View",
    "run.runtimes": "Runtime choose_runtime",
    "run.session": "Options RunOutcome run_once",
    "run.shared_stack": "SharedStack",
    "run.stored": "judge_stored",
    "spec.load": "Listed Loaded find_experiment list_experiments load_experiment",
}


def __getattr__(name: str) -> object:
    """Import public names when they are first used, so that `import chaoslab` and `chaoslab --help` are fast."""
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(_importlib.import_module(f"chaoslab.{home}"), name)
    raise AttributeError(f"module 'chaoslab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
