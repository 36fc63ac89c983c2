"""What an experiment and a stack's `x-chaoslab` section may say. Pure data; `load.py` reads files into these.

Durations are seconds (`_s`), shares run from 0 to 1, thresholds are `units.Threshold`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from chaoslab.units import Threshold, parse_duration_s, parse_ratio, parse_threshold

OUTSIDE = "outside"  # where the entry, the users, the load and the prober stand: in no site
Verdict = Literal["pass", "fail", "error", "aborted", "inconclusive"]


class Model(BaseModel):
    """Base of everything a person writes: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _duration(raw: Any) -> float:
    return parse_duration_s(raw) if isinstance(raw, str) else parse_duration_s(str(raw) + ("" if raw == 0 else "?"))


def _threshold(unit: Literal["s", "ratio", "count"], default: Literal["<", ">"]) -> Any:
    def parse(raw: Any) -> Threshold:
        return raw if isinstance(raw, Threshold) else parse_threshold(raw, unit=unit, default=default)

    return BeforeValidator(parse)


Seconds = Annotated[float, BeforeValidator(_duration)]
Ratio = Annotated[float, BeforeValidator(lambda raw: raw if isinstance(raw, float) else parse_ratio(str(raw)))]
UnderSeconds = Annotated[Threshold, _threshold("s", "<")]
UnderRatio = Annotated[Threshold, _threshold("ratio", "<")]
OverRatio = Annotated[Threshold, _threshold("ratio", ">")]


# --- objectives, load, steady state -----------------------------------------------------------------------------


class Objectives(Model):
    """What a service owes its users; None where nothing is promised. `rpo` 0 means no acknowledged write may be lost."""

    rto: UnderSeconds | None = None
    rpo: UnderSeconds | None = None
    failback: UnderSeconds | None = None
    availability: OverRatio | None = None
    unaffected: bool = False  # the service is expected not to notice the fault


class LoadSpec(Model):
    """Locust as the load. `workers` uses Locust's own processes; `master` names one that already runs (host:port)."""

    locustfile: Path
    users: Annotated[int, Field(ge=1, le=100_000)] = 20
    spawn_rate: Annotated[float, Field(gt=0)] = 20
    workers: Annotated[int, Field(ge=0, le=64)] = 0
    master: str | None = None


class ProbeSpec(Model):
    """The open-loop prober: slots a second for each journey. `journeys` None means all of the stack's."""

    rate: Annotated[float, Field(gt=0, le=1000)] = 50
    journeys: list[str] | None = None


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

    host_memory: Annotated[Threshold, _threshold("ratio", ">")] | None = None
    disk_used: Annotated[Threshold, _threshold("ratio", ">")] | None = None


class Expect(Model):
    """What a known-bad experiment must end in, and the objectives (such as `pay.rpo`) that must be the ones to fail."""

    verdict: Verdict
    objectives: list[str] = []


# --- faults -----------------------------------------------------------------------------------------------------


class FaultBase(Model):
    """`at` counts from the end of the steady state; a fault heals `heal_after` its injection, or at the end."""

    id: str
    at: Seconds = 0.0
    heal_after: Seconds | None = None
    fault: str
    target_fields: ClassVar[tuple[str, ...]] = ()

    @property
    def target(self) -> str:
        """The target in words, for rows and reports."""
        return " ".join(str(getattr(self, name)) for name in self.target_fields if getattr(self, name) is not None)


class SitePowerLoss(FaultBase):
    """Silent fence, then everything in the site dies at once. `disks: destroy` also loses its volumes."""

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
    """Latency and jitter one way, bandwidth in kilobytes a second, loss as the share of connections that stall."""

    fault: Literal["link.degrade"]
    latency: Seconds = 0.0
    jitter: Seconds = 0.0
    bandwidth_kbps: Annotated[int, Field(ge=1)] | None = None
    loss: Ratio = 0.0


class _ReplicaFault(FaultBase):
    service: str
    site: str | None = None  # None: in every site
    target_fields: ClassVar[tuple[str, ...]] = ("service", "site")


class ServiceKill(_ReplicaFault):
    """SIGKILL; the network stays, so peers see FIN at once."""

    fault: Literal["service.kill"]


class ServicePause(_ReplicaFault):
    """Frozen: connections are taken and then hang."""

    fault: Literal["service.pause"]


class Exec(FaultBase):
    """A command of the user's own, with its undo and its check. Each is an argument list; no shell."""

    fault: Literal["exec"]
    inject: Annotated[list[str], Field(min_length=1)]
    heal: Annotated[list[str], Field(min_length=1)]
    verify: Annotated[list[str], Field(min_length=1)]
    timeout: Seconds = 30.0
    target_fields: ClassVar[tuple[str, ...]] = ("id",)


FaultSpec = Annotated[
    SitePowerLoss | SiteIsolate | LinkCut | LinkDegrade | ServiceKill | ServicePause | Exec,
    Field(discriminator="fault"),
]


# --- the experiment ---------------------------------------------------------------------------------------------


class Experiment(Model):
    """One claim about a stack, and how to test it. Paths are absolute once loaded; `name` is the file's stem."""

    name: str
    hypothesis: str
    title: str
    stack: list[Path]  # a Compose file and its overlays, in order
    tags: list[str] = []
    load: LoadSpec | None = None
    probe: ProbeSpec = ProbeSpec()
    steady_state: SteadyState = SteadyState()
    timeline: list[FaultSpec]
    failback: Failback = Failback()
    objectives: dict[str, Objectives] = {}
    abort: Abort = Abort()
    expect: Expect | None = None


# --- x-chaoslab, the stack's own section ------------------------------------------------------------------------


class Request(Model):
    """One HTTP request; `{id}`, `{seq}`, `{hash}`, `{writer}` are filled in inside strings of path, json and headers."""

    method: Literal["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"] = "GET"
    path: str
    headers: dict[str, str] = {}
    body: Any = Field(default=None, alias="json")
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Good(Model):
    """What a good answer is: its status, its latency from the due time, and (JMESPath over the JSON) what it says."""

    status: int = 200
    within: Seconds = 0.5
    expect: str | None = None  # JMESPath; must be true


class LedgerSpec(Model):
    """How acknowledged writes are read back. `items` is JMESPath to a list of {id, hash}. `path` may use {writer} and {after}.

    `local` is the path that one site's replica answers from its own site's storage (for the final read from every site).
    """

    path: str
    local: str | None = None
    items: str
    linearizable: bool = False


class Journey(Model):
    """A read or a write of one service, through the public entry. A journey with a `ledger` is a write that counts."""

    service: str
    request: Request
    good: Good = Good()
    not_applied: list[int] = []  # statuses that prove that nothing was executed
    timeout: Seconds = 2.0
    ledger: LedgerSpec | None = None

    @property
    def op(self) -> Literal["read", "write"]:
        return "read" if self.request.method in ("GET", "HEAD") else "write"


class ConditionSpec(Model):
    """A fact about the stack: GET a URL of `replica:port`, hold `expect` (JMESPath) against its JSON.

    `bring_about` is a request that establishes it: {replica URL, method, json}.
    """

    get: str
    expect: str
    bring_about: BringAbout | None = None


class BringAbout(Model):
    """One HTTP request to a replica that makes a condition true, such as Patroni's POST /switchover."""

    post: str
    body: Any = Field(default=None, alias="json")
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


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
    """The `x-chaoslab` section of a Compose file. `entry` is `replica:port`, what users reach."""

    sites: Annotated[list[str], Field(min_length=1)]
    entry: str
    tiers: dict[str, Objectives] = {}
    services: dict[str, ServiceSpec] = {}
    conditions: dict[str, ConditionSpec] = {}
    journeys: dict[str, Journey] = {}
    processes: dict[str, ProcessSpec] = {}


ConditionSpec.model_rebuild()
