"""What an experiment and a stack's `x-chaoslab` section may say. Pure data; `load.py` reads files into these.

Durations are seconds (`_s`), shares run from 0 to 1, thresholds are `units.Threshold`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, Strict, model_serializer

from chaoslab.spec.quantities import OverRatio, Ratio, Seconds, Texts, Unaffected, UnderSeconds

OUTSIDE = "outside"  # where the entry, the users, the load and the prober stand: in no site
Verdict = Literal["pass", "fail", "error", "aborted", "inconclusive"]
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Flag = Annotated[bool, Strict()]
Status = Annotated[int, Strict(), Field(ge=100, le=599)]


class Model(BaseModel):
    """Base of everything a person writes: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


# --- objectives, load, steady state -----------------------------------------------------------------------------


class _Said(Model):
    """Keeps apart what was said and what was not: an objective taken back with null differs from one never mentioned."""

    @model_serializer(mode="wrap")
    def _as_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said: dict[str, Any] = handler(self)
        return {name: value for name, value in said.items() if name in self.model_fields_set}


class FaultObjectives(_Said):
    """What a service owes its users under one fault, where that differs from its other objectives.

    `unaffected`: true is a claim, and to notice the fault is a fail; `allowed` accepts both.
    """

    rto: UnderSeconds | None = None
    failback: UnderSeconds | None = None
    unaffected: Unaffected = False


class Objectives(FaultObjectives):
    """What a service owes its users; None where nothing is promised. `rpo` 0 means no acknowledged write may be lost."""

    rpo: UnderSeconds | None = None
    availability: OverRatio | None = None


class ExperimentObjectives(Objectives):
    """`under` refines them for single faults of the timeline, by the fault's id."""

    under: Annotated[dict[str, FaultObjectives], Field(description="By fault id: objectives under that fault alone.")] = {}


class LoadSpec(Model):
    """Locust as the load. `workers` uses Locust's own processes; `master` names one that already runs (host:port).

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


class ProbeSpec(Model):
    """The open-loop prober. `rate`: slots a second for each journey; what is not said is derived in spec/probe_rate.

    `journeys` None means all of the stack's.
    """

    rate: Annotated[Number, Field(gt=0, le=1000)] | None = None
    journeys: list[str] | None = None

    @property
    def slots_per_s(self) -> float:
        """The rate in use. An experiment that was loaded, or stored, has one. Raises ValueError for another without."""
        if self.rate is None:
            raise ValueError("this experiment's probe.rate is not resolved; load it with its stack, or say a rate")
        return self.rate


class JourneyThresholds(Model):
    """Steady state of every journey: share of good slots, and the 95th percentile of latency."""

    good: OverRatio | None = None
    p95: UnderSeconds | None = None


class SteadyState(Model):
    """Proven under load before anything is hurt. `hold`: how long it must hold; `within`: how long it may take to get there."""

    hold: Seconds = 8.0
    within: Seconds = 60.0
    journeys: JourneyThresholds = JourneyThresholds()
    conditions: list[str] = []


class Failback(Model):
    """After the last heal: the steady state's conditions must hold again `within`, and stay for `hold`."""

    within: Seconds = 60.0
    hold: Seconds = 5.0


class Abort(Model):
    """Safety limits of the machine. They end a run; they do not judge it."""

    host_memory: OverRatio | None = None
    disk_used: OverRatio | None = None


class Expect(Model):
    """What a known-bad experiment must end in, and the objectives (such as `pay.rpo`) that must be the ones to fail."""

    verdict: Verdict
    objectives: list[str] = []


# --- faults -----------------------------------------------------------------------------------------------------


ID = r"^[a-z0-9][a-z0-9._-]{0,63}$"


class FaultBase(Model):
    """`at` counts from the end of the steady state; a fault heals `heal_after` its injection, or at the end."""

    id: Annotated[str, Field(pattern=ID, description="What this fault is called in rows and reports.")]
    at: Annotated[Seconds, Field(description="When it is injected, counted from the end of the steady state.")] = 0.0
    heal_after: Annotated[
        Seconds | None, Field(description="How long after its injection it heals; without it, at the end of the timeline.")
    ] = None
    fault: str
    target_fields: ClassVar[tuple[str, ...]] = ()

    @property
    def target(self) -> str:
        """The target in words, for rows and reports."""
        return " ".join(str(getattr(self, name)) for name in self.target_fields if getattr(self, name) is not None)


class SitePowerLoss(FaultBase):
    """Silent fence, then everything in the site dies at once. `disks: destroy` also loses its volumes.

    For a loss in stages write several of these, each with its own time; all but the last name their share in `services`.
    """

    fault: Literal["site.power-loss"]
    site: str
    disks: Literal["keep", "destroy"] = "keep"
    services: list[str] | None = None  # only these replicas: a part of the site, for staged losses
    target_fields: ClassVar[tuple[str, ...]] = ("site",)


class SiteIsolate(FaultBase):
    """The site lives but nobody reaches it."""

    fault: Literal["site.isolate"]
    site: str
    target_fields: ClassVar[tuple[str, ...]] = ("site",)


class _LinkFault(FaultBase):
    source: str = Field(alias="from")
    to: str
    direction: Literal["both", "from-to", "to-from"] = "both"
    target_fields: ClassVar[tuple[str, ...]] = ("source", "to")
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class LinkCut(_LinkFault):
    """silent: packets vanish. refuse: connections are refused and closed. reset: established ones are reset."""

    fault: Literal["link.cut"]
    mode: Literal["silent", "refuse", "reset"] = "silent"


class LinkDegrade(_LinkFault):
    """Latency and jitter one way, bandwidth in kilobytes a second, loss as the share of connections that wait to resend."""

    fault: Literal["link.degrade"]
    latency: Seconds = 0.0
    jitter: Seconds = 0.0
    bandwidth_kbps: Annotated[Whole, Field(ge=1)] | None = None
    loss: Ratio = 0.0


class LinkFlap(_LinkFault):
    """The link is cut silently and let go again, `count` times; of each `period` it is cut for the first half.

    The first cut may last longer, until it is proven. When all cycles are over, the link stays whole.
    """

    fault: Literal["link.flap"]
    period: Annotated[Seconds, Field(ge=1.0, description="One cycle: half of it cut, half of it whole; 1s or more.")]
    count: Annotated[Whole, Field(ge=1, le=1000, description="How many cycles.")]


class ReplicaFault(FaultBase):
    """Of a service's replicas, in one site or in all."""

    service: str
    site: str | None = None  # None: in every site
    target_fields: ClassVar[tuple[str, ...]] = ("service", "site")


class ServiceKill(ReplicaFault):
    """SIGKILL; the network stays, so peers see FIN at once."""

    fault: Literal["service.kill"]


class ServicePause(ReplicaFault):
    """Frozen: connections are taken and then hang."""

    fault: Literal["service.pause"]


class ServiceStop(ReplicaFault):
    """Asked to end (SIGTERM, or the `stop_signal` of its Compose entry), and killed when it has not done so within `grace`.

    Who had to be killed is reported; the service is down either way.
    """

    fault: Literal["service.stop"]
    grace: Seconds = 10.0


class ServiceRestart(ReplicaFault):
    """A rolling restart: one replica after the other is stopped and started, each healthy `within` before the next is touched.

    It is in effect from the moment the first replica is seen down, and proven when each has been. It starts everything
    again by itself: the end of the roll is its heal, verified when all replicas answer again. A roll that breaks off ends the
    run early, and is healed then.
    """

    fault: Literal["service.restart"]
    grace: Annotated[Seconds, Field(description="How long a replica may take to end before it is killed.")] = 10.0
    within: Annotated[Seconds, Field(description="How long a replica may take to get healthy again.")] = 60.0


class ServiceThrottle(ReplicaFault):
    """The service gets the processor for the share `cpu` of each tenth of a second.

    embedded: all its processes are frozen for the rest, whether they compute or not, so its answers wait for that, too.
    compose: a quota of that share of one processor, which only who computes will feel.
    """

    fault: Literal["service.throttle"]
    cpu: Annotated[Ratio, Field(ge=0.05, le=0.9, description="From 5% to 90%.")]


class DependencyDown(FaultBase):
    """A service is unreachable for its callers, and lives. `refuse`: calls are refused; `silent`: taken and never answered.

    Callers are all who reach it through an address of the stack: other services and the users, and its own replicas in
    other places. `callers: elsewhere` leaves alone those that stand in the same place as the replica they call.
    """

    fault: Literal["dependency.down"]
    service: str
    mode: Literal["refuse", "silent"] = "refuse"
    callers: Literal["all", "elsewhere"] = "all"
    target_fields: ClassVar[tuple[str, ...]] = ("service",)


class Exec(FaultBase):
    """A command of the user's own, with its undo and its check. Each is an argument list; no shell.

    The undo has to work from any state: also when `inject` ended half way or was never run, and when it ran before.
    """

    fault: Literal["exec"]
    inject: Annotated[list[str], Field(min_length=1)]
    heal: Annotated[list[str], Field(min_length=1)]
    verify: Annotated[list[str], Field(min_length=1)]
    timeout: Seconds = 30.0
    target_fields: ClassVar[tuple[str, ...]] = ("id",)


FaultSpec = Annotated[
    SitePowerLoss
    | SiteIsolate
    | LinkCut
    | LinkDegrade
    | LinkFlap
    | ServiceKill
    | ServiceStop
    | ServicePause
    | ServiceRestart
    | ServiceThrottle
    | DependencyDown
    | Exec,
    Field(discriminator="fault"),
]


# --- the experiment ---------------------------------------------------------------------------------------------


class Experiment(Model):
    """One claim about a stack, and how to test it. Paths are absolute once loaded; `name` is the file's stem."""

    name: str
    hypothesis: str
    title: Annotated[str, Field(min_length=1, description="A few words for lists and reports.")]
    stack: Annotated[
        list[Path],
        Texts,
        Field(min_length=1, max_length=16, description="A Compose file and its overlays, in order; relative to this file."),
    ]
    tags: Annotated[list[str], Field(description="Words to select experiments by, such as nightly.")] = []
    load: LoadSpec | None = None
    probe: ProbeSpec = ProbeSpec()
    steady_state: SteadyState = SteadyState()
    timeline: Annotated[list[FaultSpec], Field(description="The faults, each with the time it begins.")]
    failback: Failback = Failback()
    objectives: Annotated[
        dict[str, ExperimentObjectives], Field(description="By service; what is not said here comes from the service's tier.")
    ] = {}
    abort: Abort = Abort()
    expect: Expect | None = None


# --- x-chaoslab, the stack's own section ------------------------------------------------------------------------


class Request(Model):
    """One HTTP request; `{id}`, `{writer}`, `{seq}` and `{payload}` are filled in inside strings of path, json and headers."""

    method: Literal["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"] = "GET"
    path: str
    headers: dict[str, str] = {}
    body: Any = Field(default=None, alias="json")
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Good(Model):
    """What a good answer is: its status, its latency from the due time, and (JMESPath over the JSON) what it says."""

    status: Status = 200
    within: Seconds = 0.5
    expect: str | None = None  # JMESPath; must be true


class LedgerSpec(Model):
    """How acknowledged writes are read back. `items` is JMESPath to a list of {id, hash}. `path` may use {writer} and {after}.

    `local` is the path that one site's replica answers from its own site's storage (for the final read from every site).
    """

    path: str
    local: str | None = None
    items: str
    linearizable: Flag = False


class Journey(Model):
    """A read or a write of one service, through the public entry. A journey with a `ledger` is a write that counts."""

    service: str
    request: Request
    good: Good = Good()
    not_applied: list[Status] = []  # statuses that prove that nothing was executed
    timeout: Seconds = 2.0
    ledger: LedgerSpec | None = None

    @property
    def op(self) -> Literal["read", "write"]:
        return "read" if self.request.method in ("GET", "HEAD") else "write"


class ConditionSpec(Model):
    """A fact about the stack: GET a URL of `replica:port`, hold `expect` (JMESPath) against its JSON.

    `bring_about` is a request that establishes it, where it does not hold by itself.
    """

    get: str
    expect: str
    bring_about: BringAbout | None = None


class BringAbout(Model):
    """One HTTP POST to a replica that makes a condition true, such as Patroni's /switchover.

    With several URLs they are asked in turn until one answers 2xx: where only a leader does it, and any may lead.
    `json` may say {name} for each value that is looked up first, under `with`.
    """

    post: Annotated[list[str], Texts, Field(min_length=1, max_length=16)]
    body: Any = Field(default=None, alias="json")
    values: dict[str, Pick] = Field(default={}, alias="with")
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Pick(Model):
    """A value of the stack: GET a URL of `replica:port`, take what `pick` (JMESPath) finds in its JSON."""

    get: str
    pick: str


class ServiceSpec(Model):
    """A service's tier, and objectives of its own that override the tier's."""

    tier: str | None = None
    objectives: Objectives = Objectives()


class ProcessSpec(Model):
    """How a replica runs as a process, where its Compose entry does not already say so."""

    command: list[str] | None = None
    cwd: Path | None = None
    environment: dict[str, str] = {}


class StackSpec(Model):
    """The `x-chaoslab` section of a Compose file. `entry` is `replica:port`, what users reach.

    `advertised`: addresses (`replica:port`) that a replica hands on to others, so that every caller gets the same one.
    """

    sites: Annotated[list[str], Field(min_length=1)]
    entry: str
    tiers: dict[str, Objectives] = {}
    services: dict[str, ServiceSpec] = {}
    conditions: dict[str, ConditionSpec] = {}
    journeys: dict[str, Journey] = {}
    processes: dict[str, ProcessSpec] = {}
    advertised: list[str] = []


ConditionSpec.model_rebuild()
