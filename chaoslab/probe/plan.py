"""What the prober is told: a frozen plan, made from the stack's journeys and handed over as a line of JSON. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:  # pydantic stays out of the prober's process
    from chaoslab.spec.model import Experiment, Journey, StackSpec


class LedgerTarget(msgspec.Struct, frozen=True, kw_only=True):
    """How the writes of a target are read back. `items`: JMESPath to a list of {id, hash}."""

    path: str
    items: str
    local: str | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One journey as the prober needs it. Durations are seconds; `within_s` counts from the due time."""

    name: str
    service: str
    op: Literal["read", "write"]
    method: str
    path: str
    headers: dict[str, str] = {}
    body: Any = None
    statuses: tuple[int, ...] = (200,)
    expect: str | None = None
    within_s: float = 0.5
    timeout_s: float = 2.0
    not_applied: tuple[int, ...] = ()
    ledger: LedgerTarget | None = None


class ProbePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one prober does. `rate`: slots a second for each target; `writer`: prefix of all writers' names."""

    base_url: str
    history: str
    writer: str
    targets: list[Target]
    rate: float = 50.0
    ledger_every_s: float = 1.0
    ledger_window_s: float = 10.0


def plan_for(stack: StackSpec, experiment: Experiment, base_url: str, history: Path, writer: str) -> ProbePlan:
    """The plan of an experiment: the journeys that it names, or all of the stack's, through the entry at `base_url`."""
    names = experiment.probe.journeys if experiment.probe.journeys is not None else list(stack.journeys)
    return ProbePlan(
        base_url=base_url,
        history=str(history),
        writer=writer,
        targets=[target_of(name, stack.journeys[name]) for name in names],
        rate=experiment.probe.slots_per_s,
    )


def target_of(name: str, journey: Journey) -> Target:
    """A journey of the spec, flattened."""
    ledger = journey.ledger
    return Target(
        name=name,
        service=journey.service,
        op=journey.op,
        method=journey.request.method,
        path=journey.request.path,
        headers=journey.request.headers,
        body=journey.request.body,
        statuses=(journey.good.status,),
        expect=journey.good.expect,
        within_s=journey.good.within,
        timeout_s=journey.timeout,
        not_applied=tuple(journey.not_applied),
        ledger=LedgerTarget(path=ledger.path, items=ledger.items, local=ledger.local) if ledger else None,
    )


def writer_of(prefix: str, journey: str) -> str:
    """The name under which the prober writes one journey; two journeys never share a sequence."""
    return f"{prefix}.{journey}"


def encode_plan(plan: ProbePlan) -> bytes:
    """The plan as the line of JSON that `python -m chaoslab.probe` reads."""
    return msgspec.json.encode(plan)


def decode_plan(raw: bytes) -> ProbePlan:
    """Raises msgspec.MsgspecError when this is no plan."""
    return msgspec.json.decode(raw, type=ProbePlan)
