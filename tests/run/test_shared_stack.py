"""A stack that several runs share: booted once, proven clean and steady, and booted anew where it is not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mini_stack import write_experiment
from toy_runtime import ToyRuntime, ToyStack

from chaoslab import Loaded, NotReady, Options, SharedStack, SpecError, load_experiment
from chaoslab.clock import SYSTEM
from chaoslab.engine.steady_proof import why_not_steady
from chaoslab.run import runtimes

READS = {"rate": 20, "journeys": ["app.read"]}
STEADY = {"hold": "300ms", "within": "2s", "journeys": {"good": "> 99%"}, "conditions": ["east-serves"]}


def experiment(folder: Path, **more: Any) -> Loaded:
    folder.mkdir(exist_ok=True)
    return load_experiment(write_experiment(folder, **{"probe": READS, "steady_state": STEADY, **more}))


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> list[ToyStack]:
    """Every stack that was made, on the runtime `toy`."""
    made: list[ToyStack] = []

    class Toys(ToyRuntime):
        def make(self, *arguments: Any) -> ToyStack:
            made.append(super().make(*arguments))
            return made[-1]

    monkeypatch.setattr(runtimes, "get", lambda _: Toys())
    return made


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[tuple[SharedStack, list[str]]]:
    """And what it said."""
    told: list[str] = []
    with SharedStack(Options(tmp_path, "toy"), told.append) as shared:
        yield shared, told


def test_a_stack_is_booted_once_and_anew_when_it_is_not_clean(
    tmp_path: Path, toys: list[ToyStack], stack: tuple[SharedStack, list[str]]
) -> None:
    """Known bad: a replica that somebody froze, and a toxic on a link."""
    shared, told = stack
    loaded = experiment(tmp_path / "one")
    assert shared.stack is None
    assert [shared.ready(loaded).booted for _ in range(3)] == [True, False, False]
    assert told == ["the toy is wound up"]
    toys[0].pause(["store"])
    assert shared.ready(loaded).booted
    toys[1].block(["app-east"], "silent")
    assert shared.ready(loaded).booted
    reboots = [line for line in told if "rebooted" in line]
    assert reboots == ["the stack is rebooted: store is paused", "the stack is rebooted: app-east is blocked"]
    assert set(toys[0].states().values()) == {"absent"}
    shared.close()
    assert (shared.stack, shared.close()) == (None, [])
    assert set(toys[-1].states().values()) == {"absent"}
    assert len(list((tmp_path / "runs" / "stacks").glob("20*/undo.jsonl"))) == 3


def test_what_a_stack_leaves_behind_when_it_is_rebooted_is_told_in_the_end(
    tmp_path: Path, toys: list[ToyStack], stack: tuple[SharedStack, list[str]]
) -> None:
    """Known bad: it was a line among others, and whoever closed the stack learnt that nothing was left."""
    shared, told = stack
    loaded = experiment(tmp_path / "one")
    shared.ready(loaded)
    down = toys[0].down
    toys[0].down = lambda: [*down(), "a process of store"]  # type: ignore[method-assign]
    toys[0].pause(["store"])
    assert shared.ready(loaded).booted
    assert "left behind: a process of store" in told
    assert (shared.close(), shared.close()) == (["a process of store"], [])


def test_another_stack_takes_the_place_of_the_first(
    tmp_path: Path, toys: list[ToyStack], stack: tuple[SharedStack, list[str]]
) -> None:
    """Also where a fault needs links that have to be there from the boot on."""
    shared, told = stack
    down = {"id": "down", "fault": "dependency.down", "service": "store", "heal_after": "2s"}
    shared.ready(experiment(tmp_path / "one"))
    shared.ready(experiment(tmp_path / "two", timeline=[down]))
    shared.ready(experiment(tmp_path / "three"))
    shared.ready(experiment(tmp_path / "four", objectives={"app": {"restored": "< 5s"}}))
    shared.ready(experiment(tmp_path / "five"))
    assert [line.partition(": ")[2] for line in told if "rebooted" in line] == [
        "mini has to block store within a site",
        "mini has to see failed connections between replicas",
    ]
    assert len(toys) == 3


def test_a_stack_whose_disks_cannot_be_cut_is_rebooted(
    tmp_path: Path, toys: list[ToyStack], stack: tuple[SharedStack, list[str]]
) -> None:
    """What is on them has to lie on file systems of its own from the boot on; then every later run may cut them."""
    shared, told = stack
    fire = {"id": "fire", "fault": "site.power-loss", "site": "witness", "disks": "cut", "heal_after": "2s"}
    shared.ready(experiment(tmp_path / "one"))
    for name in ("two", "three"):
        shared.ready(experiment(tmp_path / name, timeline=[fire], objectives={"app": {"rto": None}}))
    reboots = [line.partition(": ")[2] for line in told if "rebooted" in line]
    assert reboots == ["mini has to cut the power of the volumes of store"]
    assert [toy.cuttable for toy in toys] == [frozenset(), {"store"}]


def test_a_stack_that_is_never_steady_is_an_error_and_is_taken_down(
    tmp_path: Path, toys: list[ToyStack], stack: tuple[SharedStack, list[str]]
) -> None:
    """Known bad: one that refuses every write. It is booted anew once if it was not new, and not for ever."""
    shared, told = stack
    shared.ready(experiment(tmp_path / "reads"))
    with pytest.raises(NotReady, match=r"not in its steady state: app.write: 0\.00% of the slots are good"):
        shared.ready(experiment(tmp_path / "writes", probe={"rate": 20}))
    assert next(line for line in told if "rebooted" in line).startswith("the stack is rebooted: it is not in its steady state")
    assert (len(toys), shared.stack) == (2, None)


def test_a_condition_that_does_not_hold_is_not_steady(tmp_path: Path) -> None:
    """Known bad: its answer is never true. It is asked until `within` is over, from a thread with no loop of its own."""
    loaded = experiment(tmp_path, steady_state={**STEADY, "within": "400ms"})
    toy = ToyStack(loaded.compose.topology())
    threading.Thread(target=toy.server.serve_forever, daemon=True).start()
    try:
        assert why_not_steady(toy, loaded, "proof", SYSTEM) is None
        toy.topology.spec.conditions["east-serves"].__dict__["expect"] = "site == 'west'"
        assert "condition east-serves does not hold" in (why_not_steady(toy, loaded, "proof", SYSTEM) or "")
    finally:
        toy.server.shutdown()
        toy.server.server_close()


def test_a_shared_stack_cannot_be_kept(tmp_path: Path) -> None:
    """Known bad: nobody would take it down."""
    with pytest.raises(SpecError, match="cannot be kept"):
        SharedStack(Options(tmp_path, "embedded", keep=True))
