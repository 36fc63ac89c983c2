"""One fault of a timeline: the base of its model, with what each kind declares about itself. Pure.

The kinds are subclasses in `chaoslab/faults` or in other packages, each beside the code that does it: see `fault_types`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from chaoslab.spec.stackfile.topology import Flow, Topology
from chaoslab.spec.yaml.model import Model
from chaoslab.spec.yaml.quantities import RECOVERED, HealAfter, Seconds
from chaoslab.spec.yaml.report import Report

CALL_TIMEOUT_S = 120.0  # for whatever a fault does that bounds itself, and has not
ID = r"^[a-z0-9][a-z0-9._-]{0,63}$"

Pair = frozenset[str]  # two places, whichever way


@dataclass(frozen=True)
class Touched:
    """What a fault changes: the links that it fences, those whose proxies it changes, and replicas, by name."""

    fences: frozenset[Pair] = frozenset()
    proxies: frozenset[Pair] = frozenset()
    replicas: frozenset[str] = frozenset()

    def meets(self, other: Touched) -> bool:
        """Whether one has to wait for the other.

        Two changes of one proxy read, write and read back; a proxy behind a fence may not answer; and what is seen of a slow
        link proves nothing while it is cut. Two fences only add up: they may be closed at once. So may be what a command
        of the user's own does: what it touches is not known.
        """
        links = self.proxies & (other.fences | other.proxies) or self.fences & other.proxies
        return bool(links or self.replicas & other.replicas)

    def lifts_before(self, other: Touched) -> bool:
        """Whether its fence is to be lifted before the other takes its toxics away."""
        return bool(self.fences & other.proxies)


def pairs(flows: Iterable[Flow]) -> frozenset[Pair]:
    """The links that these flows travel."""
    return frozenset(Pair((flow.source, flow.to)) for flow in flows)


@dataclass(frozen=True)
class CallLimits:
    """How long a fault's calls may take, in seconds, before they count as hanging.

    `prepare_s` is allowed beyond the usual; `inject_s` holds for inject and verify each. `heal_s` None: the heal's deadline,
    and a little more.
    """

    prepare_s: float = 0.0
    inject_s: float = CALL_TIMEOUT_S
    heal_s: float | None = None


class FaultBase(Model):
    """`at` counts from the end of the steady state; a fault heals `heal_after` its injection, at recovery, or at the end."""

    id: Annotated[str, Field(pattern=ID, description="The name of this fault in rows and reports.")]
    at: Annotated[Seconds, Field(description="When it is injected, counted from the end of the steady state.")] = 0.0
    heal_after: Annotated[
        HealAfter | None,
        Field(
            description="How long after its injection it heals, or `recovered`: once every service with an RTO has been good"
            " for the steady state's `hold`, or has missed its RTO; without it, at the end of the timeline."
        ),
    ] = None
    fault: str
    target_fields: ClassVar[tuple[str, ...]] = ()
    runs_commands: ClassVar[bool] = False  # of the spec's author, which need permission: spec/permission
    takes_down: ClassVar[bool] = False  # what it touches is down from its effect to its heal
    in_words: ClassVar[str] = ""  # what was wrong, for people who do not know the stack; {} is the target

    @property
    def heals_at_recovery(self) -> bool:
        """Whether it heals once the services are back, instead of after a set time."""
        return self.heal_after == RECOVERED

    @property
    def replaced_after_s(self) -> float | None:
        """Seconds after its effect at which what it took is there again, although it lasts; None: not before its heal."""
        return None

    @property
    def target(self) -> str:
        """The target in words, for rows and reports."""
        return " ".join(str(getattr(self, name)) for name in self.target_fields if getattr(self, name) is not None)

    @property
    def commands(self) -> dict[str, list[str]]:
        """The commands of the spec's author, by their keys."""
        return {}

    @property
    def cuts_disks(self) -> bool:
        """Whether what was never synced is lost."""
        return False

    def check_times(self, report: Report) -> None:
        """Report times that no run could keep. Paths count from this fault."""

    def check(self, topology: Topology, report: Report) -> None:
        """Report what does not fit the stack, such as a name that it does not have. Paths count from this fault."""

    def conflicts_with(self, other: FaultBase) -> bool:
        """Whether the heal of one of them would undo the other, if both were injected at once. Both are asked."""
        return (self.fault, self.target) == (other.fault, other.target)

    def touches(self, topology: Topology) -> Touched:
        """What it changes in this stack; faults that change the same are injected one after the other."""
        return Touched()

    def lacking(self, topology: Topology, runtime: type) -> Iterator[str]:
        """What it needs and this runtime, known by its class, cannot do: a sentence each, with its cure."""
        yield from ()

    def relayed_services(self) -> frozenset[str]:
        """The services that even their neighbours have to reach through the relay."""
        return frozenset()

    def cuts_disks_of(self, topology: Topology) -> frozenset[str]:
        """The replicas whose volumes have to be such that their power can be cut."""
        return frozenset()

    def call_limits(self, topology: Topology) -> CallLimits:
        """How long its calls may take on this stack."""
        return CallLimits()


class UnknownFault(FaultBase):
    """A fault of a stored run whose package is not installed here. It can be judged, and not be injected."""

    model_config = ConfigDict(extra="allow", frozen=True)
