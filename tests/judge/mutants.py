"""The judge with one planted mistake: a module of it with a piece of its source replaced, and what imports it loaded afresh."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

JUDGE = (
    *("intervals", "outages", "run_record", "clocks", "outcome", "validity", "objectives", "run_data", "metrics"),
    *("degraded", "functions", "verdict"),
)


@dataclass(frozen=True)
class Mutant:
    """`old` stands in the module exactly once."""

    name: str
    module: str
    old: str
    new: str


def judge_with(mutant: Mutant) -> Any:
    """The mutated `judge`."""
    spec = find_spec(f"chaoslab.judge.{mutant.module}")
    assert spec is not None
    assert spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:  # noqa: PTH123
        source = file.read()
    assert source.count(mutant.old) == 1, (
        f"{mutant.name}: {mutant.old!r} stands {source.count(mutant.old)} times in {spec.origin}"
    )
    with _fresh():
        _load(spec, source.replace(mutant.old, mutant.new))
        return importlib.import_module("chaoslab.judge.verdict").judge


def _load(spec: ModuleSpec, source: str) -> None:
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    exec(compile(source, f"{spec.origin} (mutated)", "exec"), module.__dict__)  # noqa: S102


@contextmanager
def _fresh() -> Iterator[None]:
    """Without the judge's modules, which come back afterwards as they were."""
    names = [f"chaoslab.judge.{name}" for name in JUDGE]
    package: ModuleType = importlib.import_module("chaoslab.judge")
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(kept)
        for name, module in kept.items():
            setattr(package, name.rpartition(".")[2], module)
