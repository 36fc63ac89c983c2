"""The model of an experiment. Pure data; `load.py` reads files into it.

Durations are seconds (`_s`), shares run from 0 to 1, thresholds are `units.Threshold`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import Field

from chaoslab.errors import Verdict
from chaoslab.spec.fault import FaultBase
from chaoslab.spec.stackfile.model import FaultObjectives, Objectives
from chaoslab.spec.step import StepBase, TimelineEntry
from chaoslab.spec.yaml.model import Model, Number, Whole
from chaoslab.spec.yaml.quantities import OverRatio, Seconds, Texts, UnderSeconds
from chaoslab.spec.yaml.report import Report

_HOST_PORT = re.compile(r"[^:/\s]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")

# --- objectives, load, steady state -----------------------------------------------------------------------------


class ExperimentObjectives(Objectives):
    """`under` refines them for single faults and steps of the timeline, by their ids."""

    under: Annotated[
        dict[str, FaultObjectives], Field(description="By fault or step id: objectives under that fault or step alone.")
    ] = {}


class LoadUnderFault(Model):
    """What the load is while a fault is active."""

    users: Annotated[Whole, Field(ge=1, le=100_000)]


class LoadSpec(Model):
    """Locust as the load. `workers` uses Locust's own processes; `master` names one that already runs (host:port).

    `under`: by fault, another number of users from its inject to its heal; of several faults, the largest.

    `listen` (address:port): workers on other machines may join ours, and find the entry at that address and its own port;
    without `workers` we wait for `expect_workers` of them.
    """

    locustfile: Path
    users: Annotated[Whole, Field(ge=1, le=100_000)] = 20
    spawn_rate: Annotated[Number, Field(gt=0, le=100_000)] = 20
    workers: Annotated[Whole, Field(ge=0, le=64)] = 0
    master: str | None = None
    listen: str | None = None
    expect_workers: Annotated[Whole, Field(ge=0, le=1000)] = 0
    under: Annotated[
        dict[str, LoadUnderFault], Field(description="By fault id: how many users there are while that fault is active.")
    ] = {}

    def users_while(self, active: Collection[str]) -> int:
        """How many users there are while these faults are active, by their ids."""
        return max((self.under[id_].users for id_ in active if id_ in self.under), default=self.users)

    def check(self, report: Report) -> None:
        """Report addresses that are malformed, or that workers cannot reach. Paths count from the load."""
        if self.master is not None and self.under:
            report(
                ("under",), "a master that is not ours decides on its users; leave out master, or under", "load.under-foreign"
            )
        for key, address in (("master", self.master), ("listen", self.listen)):
            if address is not None and not _HOST_PORT.fullmatch(address):
                message = f"{key} {address!r} must be a host and a port, such as 127.0.0.1:5557"
                report((key,), message, "load.address-malformed")
            elif address is not None and key == "listen":
                try:
                    host = ip_address(address.rpartition(":")[0].strip("[]"))
                except ValueError:
                    host = None
                if host is None or host.is_unspecified or host.is_multicast:
                    message = f"listen {address!r} must begin with an IP address of this machine that the workers can reach"
                    report((key,), f"{message}: the entry is also published there", "load.address-not-one")


class ProbeSpec(Model):
    """The open-loop prober. `rate`: slots a second for each journey; without it one is derived in spec/probe_rate.

    `journeys` None means all of the stack's. `timeout`: how long it waits for an answer, instead of each journey's own timeout.
    """

    rate: Annotated[Number, Field(gt=0, le=1000)] | None = None
    journeys: list[str] | None = None
    timeout: Annotated[
        Seconds | None, Field(gt=0, description="How long it waits for an answer, instead of each journey's own timeout.")
    ] = None

    @property
    def slots_per_s(self) -> float:
        """The rate in use. An experiment that was loaded, or stored, has one. Raises ValueError for another without."""
        if self.rate is None:
            raise ValueError("this experiment's probe.rate is not resolved; load it with its stack, or give it a rate")
        return self.rate


class JourneyThresholds(Model):
    """Steady state of every journey: share of good slots, and the 95th percentile of latency."""

    good: OverRatio | None = None
    p95: UnderSeconds | None = None


class SteadyState(Model):
    """Proven under load before the first fault. `hold`: how long it must hold; `within`: how long it may take to get there."""

    hold: Seconds = 8.0
    within: Seconds = 60.0
    journeys: JourneyThresholds = JourneyThresholds()
    conditions: list[str] = []


class Failback(Model):
    """After the last heal, `conditions` must hold `within`: those of the steady state, where none are named.

    The run ends once they do and users have been served for `hold` since the last event, or `hold` later.
    """

    within: Seconds = 60.0
    hold: Seconds = 5.0
    conditions: Annotated[
        list[str] | None, Field(description="What must hold in the end, instead of the conditions of the steady state.")
    ] = None


class Abort(Model):
    """Safety limits of the machine. They end a run; they do not judge it."""

    host_memory: OverRatio | None = None
    disk_used: OverRatio | None = None


class Expect(Model):
    """What a known-bad experiment must end in, and the objectives (such as `pay.rpo`) that must be the ones to fail."""

    verdict: Verdict
    objectives: list[str] = []


# --- the experiment ---------------------------------------------------------------------------------------------


class Experiment(Model):
    """One claim about a stack, and how to test it. Paths are absolute once loaded; `name` is the file's stem."""

    name: str
    hypothesis: str
    title: Annotated[str, Field(min_length=1, description="A short title for lists and reports.")]
    stack: Annotated[
        list[Path],
        Texts,
        Field(min_length=1, max_length=16, description="A Compose file and its overlays, in order; relative to this file."),
    ]
    tags: Annotated[list[str], Field(description="Tags to select experiments by, such as nightly.")] = []
    load: LoadSpec | None = None
    probe: ProbeSpec = ProbeSpec()
    steady_state: SteadyState = SteadyState()
    timeline: Annotated[list[TimelineEntry], Field(description="The faults and the steps, each with the time it begins.")]
    failback: Failback = Failback()
    objectives: Annotated[
        dict[str, ExperimentObjectives], Field(description="By service; without an entry they come from the service's tier.")
    ] = {}
    abort: Abort = Abort()
    expect: Expect | None = None

    @property
    def is_planned_change(self) -> bool:
        """Whether it has steps and no fault, such as a switchover: they are what it tests."""
        return bool(self.steps) and not self.faults

    @property
    def conditions_in_the_end(self) -> list[str]:
        """The conditions that must hold after the last heal."""
        return self.steady_state.conditions if self.failback.conditions is None else self.failback.conditions

    @property
    def faults(self) -> list[FaultBase]:
        """The faults of the timeline, in its order."""
        return [entry for entry in self.timeline if isinstance(entry, FaultBase)]

    @property
    def steps(self) -> list[StepBase]:
        """The steps of the timeline, in its order."""
        return [entry for entry in self.timeline if isinstance(entry, StepBase)]
