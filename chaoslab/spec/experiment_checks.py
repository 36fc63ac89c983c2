"""What must fit together in an experiment: its times, and its names with those of the stack. Pure; tells, never raises."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Any

from chaoslab.spec.compose import ComposeFile
from chaoslab.spec.model import OUTSIDE, Experiment, FaultBase, LinkFlap, SitePowerLoss
from chaoslab.spec.objectives import measured_services, objectives_for
from chaoslab.spec.probe_rate import LEDGER_MIN
from chaoslab.spec.problems import suggest
from chaoslab.spec.source import KeyPath
from chaoslab.spec.stack_checks import Tell
from chaoslab.stack.topology import Topology

PROMISES = ("rto", "rpo", "failback", "availability", "unaffected")
LEDGER, STEADY_STATE = "ledger", "steady-state"
_OBJECTIVE_FORM = "; name a service and rto, rpo, failback, availability or ledger, such as web.rto"
_HOST_PORT = re.compile(r"[^:/\s]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")


def check_experiment(
    experiment: Experiment, numbers: Sequence[int], compose: ComposeFile | None, tell: Tell, *, complete: bool = True
) -> None:
    """`numbers`: where each fault stands in the timeline as written; `complete`: none had to be left out for being broken.

    Without a sound stack only the times are checked.
    """
    _Times(experiment, numbers, tell).check(complete)
    _check_load(experiment, tell)
    if compose is not None:
        _Names(experiment, numbers, compose, tell).check(complete)


def _check_load(experiment: Experiment, tell: Tell) -> None:
    for key in ("master", "listen"):
        address = getattr(experiment.load, key, None)
        if address is not None and not _HOST_PORT.fullmatch(address):
            tell(("load", key), f"{key} {address!r} must be a host and a port, such as 127.0.0.1:5557")
        elif address is not None and key == "listen" and not _is_one_address(address.rpartition(":")[0].strip("[]")):
            tell(
                ("load", key),
                f"listen {address!r} must begin with one IP address of this machine, the one that the workers reach: "
                "there the entry is published, too",
            )


def _is_one_address(host: str) -> bool:
    """Whether a host is an address by itself, neither a name nor a sign for every address of the machine."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_multicast)


class _Times:
    """Times that no run could keep."""

    def __init__(self, experiment: Experiment, numbers: Sequence[int], tell: Tell) -> None:
        self.experiment, self.tell = experiment, tell
        self.faults = list(zip(numbers, experiment.timeline, strict=True))

    def check(self, complete: bool) -> None:
        for name in ("steady_state", "failback"):
            phase = getattr(self.experiment, name)
            if phase.hold > phase.within:
                self.tell(
                    (name,), f"{name} cannot hold for {phase.hold:g}s within {phase.within:g}s; raise within, or lower hold"
                )
        for number, fault in self.faults:
            if isinstance(fault, LinkFlap) and fault.heal_after is not None and fault.period * fault.count > fault.heal_after:
                message = f"{fault.count} cycles of {fault.period:g}s do not fit into {fault.heal_after:g}s; raise heal_after"
                self.tell(("timeline", number, "count"), message)
            if fault.heal_after == 0:
                message = f"fault {fault.id!r} heals at once; say how long it lasts, such as heal_after: 30s"
                self.tell(("timeline", number, "heal_after"), message)
        self._identifiers()
        if complete:
            self._late_ones()
        self._overlaps()

    def _identifiers(self) -> None:
        first: dict[str, int] = {}
        for number, fault in self.faults:
            if fault.id in first:
                message = f"fault id {fault.id!r} is used twice; item {first[fault.id] + 1} of the timeline has it too"
                self.tell(("timeline", number, "id"), message)
            first.setdefault(fault.id, number)

    def _late_ones(self) -> None:
        """A fault that says no end lasts until the others are over: it must not begin after that."""
        over_s = max((_end_s(fault) for _, fault in self.faults if fault.heal_after is not None), default=math.inf)
        for number, fault in self.faults:
            if fault.heal_after is None and fault.at >= over_s:
                message = f"fault {fault.id!r} begins at {fault.at:g}s, when all others are healed; say its heal_after"
                self.tell(("timeline", number, "at"), message)

    def _overlaps(self) -> None:
        for index, (number, fault) in enumerate(self.faults):
            for other_number, other in self.faults[:index]:
                if _same_hurt(fault, other) and fault.at < _end_s(other) and other.at < _end_s(fault):
                    message = f"fault {fault.id!r} hits {fault.target} while {other.id!r} (item {other_number + 1}) still does"
                    self.tell(("timeline", number, "at"), f"{message}; move one of them")
                    break


def _end_s(fault: FaultBase) -> float:
    return math.inf if fault.heal_after is None else fault.at + fault.heal_after


def _same_hurt(one: FaultBase, other: FaultBase) -> bool:
    """Whether the heal of one would undo the other."""
    if {one.fault, other.fault} == {"service.pause", "service.throttle"}:
        return _share_replicas(one, other)
    if "link.flap" in (one.fault, other.fault):
        return _hold_one_link(one, other)
    if (one.fault, one.target) != (other.fault, other.target) or one.fault == "exec":
        return False
    if isinstance(one, SitePowerLoss) and isinstance(other, SitePowerLoss) and one.services and other.services:
        return not set(one.services).isdisjoint(other.services)
    return True


def _share_replicas(one: Any, other: Any) -> bool:
    return one.service == other.service and (one.site == other.site or None in (one.site, other.site))


def _hold_one_link(one: Any, other: Any) -> bool:
    """Whether a flapping link is one that the other fault holds too."""
    flap, by = (one, other) if isinstance(one, LinkFlap) else (other, one)
    ends = {flap.source, flap.to}
    match by.fault:
        case "site.isolate" | "site.power-loss":
            return by.site in ends
        case "link.cut" | "link.flap":
            return {by.source, by.to} == ends
    return False


class _Names:
    """Names in an experiment that its stack must know."""

    def __init__(self, experiment: Experiment, numbers: Sequence[int], compose: ComposeFile, tell: Tell) -> None:
        self.experiment, self.stack, self.tell = experiment, compose.spec, tell
        self.faults = list(zip(numbers, experiment.timeline, strict=True))
        self.topology: Topology = compose.topology()
        self.services = tuple(dict.fromkeys(replica.service for replica in self.topology.replicas))

    def check(self, complete: bool) -> None:
        self._known(self.experiment.steady_state.conditions, ("steady_state", "conditions"), "condition", self.stack.conditions)
        self._known(self.experiment.probe.journeys or (), ("probe", "journeys"), "journey", self.stack.journeys)
        if not self.stack.journeys:
            self.tell(
                ("stack",), "the stack has no journeys, so nothing would be measured; declare some under x-chaoslab.journeys"
            )
        self._ledgers_are_fed()
        self._objectives(complete)
        self._expected(complete)
        for number, fault in self.faults:
            self._target(fault, ("timeline", number))

    def _known(self, said: Iterable[str], path: KeyPath, kind: str, known: Iterable[str]) -> None:
        for index, name in enumerate(said):
            if name not in known:
                hint = suggest(name, known) or f"; the stack declares no {kind}s"
                self.tell((*path, index), f"unknown {kind} {name!r}{hint}")

    def _ledgers_are_fed(self) -> None:
        """A ledger that hardly anybody writes to says little of what a fault destroyed."""
        probe, journeys = self.experiment.probe, self.stack.journeys
        names = [name for name in (journeys if probe.journeys is None else probe.journeys) if name in journeys]
        kept = [name for name in names if journeys[name].ledger is not None]
        if probe.rate is not None and probe.rate < LEDGER_MIN and kept:
            message = (
                f"rate {probe.rate:g} is too low for the ledger of {', '.join(kept)}: a fault would find few writes to lose"
            )
            self.tell(("probe", "rate"), f"{message}; say {LEDGER_MIN:g} or more, or name other journeys in probe.journeys")

    def _objectives(self, complete: bool) -> None:
        measured = measured_services(self.stack)
        for name in self.experiment.objectives:
            if name in self.services and name not in measured:
                message = (
                    f"no journey looks at service {name!r}, so its objectives cannot be judged; measured: {', '.join(measured)}"
                )
                self.tell(("objectives", name), message, key=True)
            elif name not in measured:
                self.tell(("objectives", name), f"unknown service {name!r}{suggest(name, measured)}", key=True)
        if complete:
            self._refined()

    def _refined(self) -> None:
        faults = [fault.id for _, fault in self.faults]
        for name, owed in self.experiment.objectives.items():
            for id_ in owed.under:
                if id_ not in faults:
                    self.tell(("objectives", name, "under", id_), f"unknown fault {id_!r}{suggest(id_, faults)}", key=True)

    def _expected(self, complete: bool) -> None:
        if self.experiment.expect is None:
            return
        owed = objectives_for(self.experiment, self.stack)
        promised = {f"{name}.{promise}" for name, one in owed.items() for promise in PROMISES if getattr(one, promise)}
        possible = {f"{name}.{promise}" for name in owed for promise in PROMISES}
        known = (
            promised
            | {f"{name}.{LEDGER}" for name in owed}
            | {f"fault.{fault.id}" for _, fault in self.faults}
            | {STEADY_STATE}
        )
        for index, name in enumerate(self.experiment.expect.objectives):
            if name in known or (name.startswith("fault.") and not complete):
                continue
            if name in possible:
                service, _, promise = name.rpartition(".")
                message = f"{service} promises no {promise} here, so {name} cannot fail; add it to its objectives"
            else:
                message = f"unknown objective {name!r}{suggest(name, known) or _OBJECTIVE_FORM}"
            self.tell(("expect", "objectives", index), message)

    def _target(self, fault: Any, path: KeyPath) -> None:
        check: Callable[[Any, KeyPath], None] | None = {
            "site.power-loss": self._power_loss,
            "site.isolate": self._isolate,
            "link.cut": self._link,
            "link.degrade": self._degraded_link,
            "link.flap": self._link,
            "service.kill": self._service,
            "service.stop": self._service,
            "service.pause": self._service,
            "service.restart": self._service,
            "service.throttle": self._service,
            "dependency.down": self._dependency,
        }.get(fault.fault)
        if check is not None:
            check(fault, path)

    def _power_loss(self, fault: Any, path: KeyPath) -> None:
        if not self._site(fault.site, (*path, "site")):
            return
        names = [replica.name for replica in self.topology.in_site(fault.site)]
        for index, name in enumerate(fault.services or ()):
            if name not in names:
                self.tell((*path, "services", index), f"no replica {name!r} stands in {fault.site}{suggest(name, names)}")
        if fault.services == []:
            self.tell(
                (*path, "services"), "services is empty, so nothing would lose power; drop the key to burn the whole site"
            )

    def _isolate(self, fault: Any, path: KeyPath) -> None:
        self._site(fault.site, (*path, "site"))

    def _site(self, site: str, path: KeyPath) -> bool:
        """Whether a fault may take this place as a whole."""
        entry = self.topology.replica(self.topology.entry[0])
        places = [place for place in self.topology.places if place not in (OUTSIDE, entry.site)]
        if site in places:
            return True
        if site == OUTSIDE:
            self.tell(path, f"{OUTSIDE} is where the users stand, and no site to take away; known: {', '.join(places)}")
        elif site == entry.site:
            self.tell(
                path, f"{site} holds the entry {entry.name!r}, through which everything is measured; put the entry outside"
            )
        else:
            self.tell(path, f"unknown site {site!r}{suggest(site, places)}")
        return False

    def _link(self, fault: Any, path: KeyPath) -> None:
        for key, place in (("from", fault.source), ("to", fault.to)):
            if place not in self.topology.places:
                self.tell((*path, key), f"unknown place {place!r}{suggest(place, self.topology.places)}")
        if fault.source == fault.to:
            self.tell((*path, "to"), f"a link leads from one place to another, not from {fault.to!r} to itself")

    def _degraded_link(self, fault: Any, path: KeyPath) -> None:
        self._link(fault, path)
        if not (fault.latency or fault.jitter or fault.bandwidth_kbps or fault.loss):
            self.tell((*path, "fault"), "a link.degrade that changes nothing; give it latency, jitter, bandwidth_kbps or loss")

    def _dependency(self, fault: Any, path: KeyPath) -> None:
        entry = self.topology.replica(self.topology.entry[0])
        if fault.service == entry.service:
            message = f"{fault.service} is the entry, through which everything is measured; name a service behind it"
            self.tell((*path, "service"), message)
        elif fault.service not in self.services:
            self._service_unknown(fault.service, path)

    def _service(self, fault: Any, path: KeyPath) -> None:
        if fault.service not in self.services:
            self._service_unknown(fault.service, path, site=True)
        elif fault.site is not None and fault.site not in self.topology.places:
            self.tell((*path, "site"), f"unknown site {fault.site!r}{suggest(fault.site, self.topology.places)}")
        elif fault.site is not None and not self.topology.of_service(fault.service, fault.site):
            places = ", ".join(dict.fromkeys(replica.site for replica in self.topology.of_service(fault.service)))
            self.tell((*path, "site"), f"service {fault.service!r} has no replica in {fault.site}; it stands in {places}")

    def _service_unknown(self, service: str, path: KeyPath, *, site: bool = False) -> None:
        replica = next((one for one in self.topology.replicas if one.name == service), None)
        hint = suggest(service, self.services)
        if replica is not None:
            hint = f": it is a replica; write service: {replica.service}{f', site: {replica.site}' if site else ''}"
        self.tell((*path, "service"), f"unknown service {service!r}{hint}")
