"""What has failed for good while a run goes on: judge/README.md, End of a run that has failed. Pure.

An objective has failed for good when it is missed even if all later slots are good. So the rows so far are continued with good
slots, and judged.
"""

from __future__ import annotations

from dataclasses import replace

from chaoslab.clock import NS_PER_S
from chaoslab.history.rows import Answer, AnyRow, Decided, Fault, Step
from chaoslab.judge.intervals import stable_slots
from chaoslab.judge.run_record import Probed, Record
from chaoslab.spec.model import Experiment
from chaoslab.spec.stackfile.model import StackSpec

SETTLED_S = 3.0  # a starved second also affects the second before it, and rows reach the history late


def settled_ns(stack: StackSpec, now_ns: int) -> int:
    """Until when all slots are decided by now: a missing answer is late, and no later event can move the slot."""
    within_s = max((journey.good.within for journey in stack.journeys.values()), default=0.0)
    return now_ns - round((SETTLED_S + within_s) * NS_PER_S)


def can_be_decided(id_: str, experiment: Experiment) -> bool:
    """Whether an objective can be missed before the end; those about failback cannot."""
    kind, _, name = id_.partition(".")
    return kind != "switchback" and not (kind == "failback" and name in experiment.conditions_in_the_end)


def as_if_served(record: Record, experiment: Experiment, decided: Decided) -> Record:
    """The rows up to an instant, continued with good slots to the latest end of the observation."""
    known = Record.of(row for row in record.rows if row.t_ns <= decided.t_ns and not _is_open(row, decided))
    period_ns = round(NS_PER_S / experiment.probe.slots_per_s)
    until_ns = max(decided.latest_ns, decided.t_ns + (stable_slots(period_ns) + 1) * period_ns)
    return replace(
        known,
        probes={name: _served(probed, decided.settled_ns, until_ns, period_ns) for name, probed in record.probes.items()},
        phases={**known.phases, ("failback", "end"): until_ns},
        aborts=[],
        notes=[],
        ids=record.ids,
        first_ns=record.first_ns,
        last_ns=until_ns,
    )


def _is_open(row: AnyRow, decided: Decided) -> bool:
    """Whether this is not to be judged yet: it is not known so soon whether the machine was starved then."""
    match row:
        case Decided():
            return True
        case Answer() | Fault(event="unhealed") | Step(event="end"):
            return row.t_ns > decided.settled_ns
        case Step(event="failed"):
            return row.t_ns > decided.settled_ns and bool(row.detail.get("late"))
    return False


def _served(probed: Probed, from_ns: int, until_ns: int, period_ns: int) -> Probed:
    found = Probed(probed.service, probed.op, probed.writes.ids)
    found.slots = probed.slots.due_in(0, from_ns)
    first_ns = from_ns if not len(found.slots) else max(from_ns, found.slots.due[-1] + period_ns)
    found.slots.add_good(range(first_ns, until_ns, period_ns))
    found.failed = [slot for slot in probed.failed if slot.due_ns < from_ns]
    found.later_ns = probed.later_ns
    return found
