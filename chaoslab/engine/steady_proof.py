"""Checks outside a trial that a stack is in its steady state, by the definition of a run, but without load."""

from __future__ import annotations

import asyncio
from pathlib import Path

from chaoslab.clock import NS_PER_S, Clock, Deadline
from chaoslab.engine.conditions import Conditions
from chaoslab.engine.steady import SteadyWindow
from chaoslab.history.rows import Condition, Probe, Row
from chaoslab.probe.plan import plan_for
from chaoslab.probe.session import run_plan
from chaoslab.spec.load import Loaded
from chaoslab.stack.protocol import Stack

_LOOK_EVERY_S = 0.1


def why_not_steady(stack: Stack, loaded: Loaded, writer: str, clock: Clock) -> str | None:
    """Probe the journeys until the last `hold` seconds were steady, or `within` is over. Returns why they were not, or None.

    Conditions that do not hold are brought about. Blocks; needs a thread without a running event loop. `writer`: the prefix of
    the names of its writes, which no trial uses.
    """
    steady = loaded.experiment.steady_state
    deadline = Deadline.after(steady.within, clock)
    conditions = Conditions(stack, steady.conditions, clock)
    while missing := [row for row in conditions.look("steady") if not row.holds]:
        if deadline.passed:
            return "; ".join(f"condition {row.id} does not hold: {row.observed}" for row in missing)
        for row in missing:
            conditions.bring_about(row.id)
        clock.sleep(_LOOK_EVERY_S)
    return asyncio.run(_probe(stack, loaded, writer, conditions, deadline))


async def _probe(stack: Stack, loaded: Loaded, writer: str, conditions: Conditions, deadline: Deadline) -> str | None:
    experiment, spec, clock = loaded.experiment, loaded.compose.spec, deadline.clock
    steady = experiment.steady_state
    window = SteadyWindow(steady, experiment.probe, spec.journeys)
    plan = plan_for(spec, experiment, stack.address, Path(), writer)
    stop = asyncio.Event()

    def add(row: Row) -> None:
        if isinstance(row, Probe | Condition):
            window.add(row)

    probing = asyncio.create_task(run_plan(plan, add, stop, clock))
    try:
        held_ns = clock.now_ns() + round(min(steady.hold, steady.within) * NS_PER_S)
        while not probing.done():
            await asyncio.sleep(_LOOK_EVERY_S)
            if clock.now_ns() < held_ns:
                continue
            for row in await asyncio.to_thread(conditions.look, "steady"):
                add(row)
            why = window.why_not_steady(clock.now_ns())
            if why is None or deadline.passed:
                return why
        return "the prober ended"
    finally:
        stop.set()
        await probing
