"""The model of a stack's `x-chaoslab` section. Pure data; `spec/stackfile/compose` reads files into it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from chaoslab.spec.stackfile.condition import ConditionSpec, Decisions, Writer
from chaoslab.spec.stackfile.journey import Journey
from chaoslab.spec.yaml.model import Model
from chaoslab.spec.yaml.quantities import OverRatio, Seconds, Unaffected, UnderCount, UnderSeconds
from chaoslab.spec.yaml.short import Short, short_for

# What a journey may lose while a fault is active: nothing; its answers; only the time at which a write is applied.
Mode = Literal["required", "allowed", "queued"]
OUTSIDE = "outside"  # where the entry, the users, the load and the prober stand: in no site


class _OnlyWhatWasSet(Model):
    """Writes out the fields that were set, and no defaults: null differs from nothing."""

    @model_serializer(mode="wrap")
    def only_what_was_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if name in self.model_fields_set}


class FaultObjectives(_OnlyWhatWasSet):
    """What a service promises its users under one fault or step, where that differs from its other objectives.

    `unaffected`: true is a claim, and to notice the fault is a fail; `allowed` accepts both. `restored`: from the heal of the
    fault until the service works, whatever other faults are active. `pause`: how long writes may wait or fail at a stretch.
    `failed`: how many requests may get another answer than a success, or none in time.
    """

    rto: UnderSeconds | None = None
    failback: UnderSeconds | None = None
    restored: UnderSeconds | None = None
    unaffected: Unaffected = False
    pause: UnderSeconds | None = None
    failed: UnderCount | None = None


class Objectives(FaultObjectives):
    """What a service promises its users; None where nothing is promised. `rpo` 0 means no acknowledged write may be lost.

    `degraded`: by journey, what may be lost while a fault is active: nothing (`required`, the default), its answers
    (`allowed`), or the time at which a write is applied (`queued`: a 202 acknowledges it, and it is applied later).
    """

    rpo: UnderSeconds | None = None
    availability: OverRatio | None = None
    degraded: Annotated[dict[str, Mode], Field(description="By journey: what may be lost while a fault is active.")] = {}


class Tls(Model):
    """TLS of an entry. `ca`: a file of certificates to trust, relative to the Compose file; without it, the system's.

    `server_name`: the name that its certificate must be made out to; without it, the name of the replica.
    """

    ca: Path | None = None
    server_name: str | None = None


class Entry(Model):
    """A place that users reach: `address` is `replica:port`. `tls`: true, or how its certificate is checked."""

    address: str
    tls: Annotated[Tls | None, Short(lambda wanted: {} if wanted else None, bool)] = None


class ServiceSpec(Model):
    """A service's tier, and objectives of its own that override the tier's."""

    tier: str | None = None
    objectives: Objectives = Objectives()


class ProcessSpec(Model):
    """How a replica runs as a process, where its Compose entry does not already define it."""

    command: list[str] | None = None
    cwd: Path | None = None
    environment: dict[str, str] = {}


class Requires(Model):
    """What the services need on a machine where they run as processes, beside the programs that their commands name."""

    programs: Annotated[list[str], Field(description="Programs on the PATH, such as postgres.")] = []
    packages: Annotated[list[str], Field(description="Python packages, by the name to import.")] = []


class StackSpec(Model):
    """The `x-chaoslab` section of a Compose file. `entry` is `replica:port`, what users reach, or the name of one of `entries`.

    `entries`: further entries by name, for journeys that name one. The load uses `entry`.
    `advertised`: addresses (`replica:port`) that a replica hands on to others, so that every caller gets the same one.
    """

    sites: Annotated[list[str], Field(min_length=1, description="The places that can be lost, as in the label chaoslab.site.")]
    entry: Annotated[str, Field(description="What users reach: a replica and its port, or a name of `entries`.")]
    entries: Annotated[
        dict[str, Annotated[Entry, short_for("address", str)]],
        Field(description="By name: further entries, for journeys that name one."),
    ] = {}
    tiers: Annotated[dict[str, Objectives], Field(description="By name: objectives that several services share.")] = {}
    services: Annotated[dict[str, ServiceSpec], Field(description="By service: its tier, and objectives of its own.")] = {}
    conditions: Annotated[dict[str, ConditionSpec], Field(description="By name: facts that can be asked of a replica.")] = {}
    decisions: Annotated[Decisions | None, Field(description="How the stack's own decisions on an outage are seen.")] = None
    writers: Annotated[dict[str, Writer], Field(description="By replica: how it is seen that it takes writes.")] = {}
    journeys: Annotated[dict[str, Journey], Field(description="By name: the requests that are probed and judged.")] = {}
    processes: Annotated[dict[str, ProcessSpec], Field(description="By replica: how it runs as a process.")] = {}
    requires: Annotated[Requires, Field(description="What the services need on this machine to run as processes.")] = Requires()
    boot: Annotated[Seconds, Field(gt=0, description="How long it may take until all is healthy; builds do not count.")] = 120.0
    heal: Annotated[Seconds, Field(gt=0, description="How long the heal of a fault may take.")] = 60.0
    advertised: Annotated[list[str], Field(description="Addresses that replicas hand on: the same for every caller.")] = []

    def entry_named(self, name: str | None) -> Entry:
        """The entry that a journey names; None: the main one. Raises KeyError where there is none of this name."""
        if name is not None:
            return self.entries[name]
        return self.entries.get(self.entry) or Entry(address=self.entry)
