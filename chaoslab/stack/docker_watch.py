"""Start replicas in the order of `depends_on`, and wait until they are well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaoslab.clock import Deadline
from chaoslab.errors import NotHealthy
from chaoslab.stack.docker_containers import Containers, Seen
from chaoslab.stack.docker_health import Rounds
from chaoslab.stack.topology import Replica

_POLL_S = 0.2
_LOG_LINES = 6
_COMPLETED = "service_completed_successfully"
_STARTED = "service_started"


@dataclass(frozen=True)
class Customs:
    """How the services of a file live, as Docker would have it.

    `needs`: for each service, whom it waits for and until what. `checks`: the commands of health checks. `revived`: services
    whose restart policy brings them back when they fail.
    """

    needs: Mapping[str, Mapping[str, str]]
    checks: Mapping[str, Sequence[str]]
    revived: frozenset[str]

    @property
    def jobs(self) -> frozenset[str]:
        """Services that somebody waits for to complete: they are well when they have ended well."""
        return frozenset(name for needs in self.needs.values() for name, until in needs.items() if until == _COMPLETED)


def needs_of(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Whom each service waits for, and until what: the conditions of `depends_on`, and the owner of a shared network."""
    found: dict[str, dict[str, str]] = {}
    for name, service in config["services"].items():
        needs = {other: how.get("condition", _STARTED) for other, how in (service.get("depends_on") or {}).items()}
        kind, _, owner = str(service.get("network_mode") or "").partition(":")
        found[name] = {owner: _STARTED, **needs} if kind == "service" else needs
    return found


def revived(config: Mapping[str, Any]) -> frozenset[str]:
    """The services whose restart policy brings them back when they fail."""
    return frozenset(name for name, service in config["services"].items() if _policy(service) not in ("", "no", "none"))


def _policy(service: Mapping[str, Any]) -> str:
    deployed = (service.get("deploy") or {}).get("restart_policy") or {}
    return str(service.get("restart") or deployed.get("condition") or "").partition(":")[0]


class Watch:
    """Looks after the containers of replicas while they come up.

    The containers have neither health checks nor restart policies of their own: Docker's checks cost more than the stack
    itself, and its restarts would undo a kill. Both are kept here, and only while waiting. `check_wanted` raises when nobody
    waits any more.
    """

    def __init__(self, containers: Containers, customs: Customs, check_wanted: Callable[[], None]) -> None:
        self._containers = containers
        self._customs = customs
        self._check_wanted = check_wanted

    def start(self, replicas: Sequence[Replica], deadline: Deadline) -> None:
        """Start what is dead of these and wait until all are well. Raises NotHealthy, naming those that are not."""
        rounds = Rounds(self._containers, self._customs.checks)
        try:
            self._bring_up([replica.name for replica in replicas], rounds, deadline)
        finally:
            rounds.end()

    def _bring_up(self, names: Sequence[str], rounds: Rounds, deadline: Deadline) -> None:
        begun: set[str] = set()
        well_before = False
        while True:
            self._check_wanted()
            seen = self._look(names)
            well = {name for name in names if self._is_well(seen[name], rounds)}
            all_well = len(well) == len(names)
            if all_well and well_before:
                return  # twice in a row: a container without a health check may be running and about to end
            well_before = all_well
            dead = [name for name in names if name not in well and is_dead(seen[name])]
            failed = [name for name in dead if name in begun - self._customs.revived]
            if failed or deadline.passed:
                why = "ended while starting" if failed else f"not healthy after waiting up to {deadline.timeout_s:.0f} s"
                raise self._complaint(why, failed or [name for name in names if name not in well], seen, rounds)
            due = [name for name in dead if self._may_start(name, seen, well)]
            self._containers.at_once(self._containers.start, [one.id for name in due for one in seen[name]])
            begun.update(due)
            deadline.clock.sleep(min(_POLL_S, deadline.left_s))

    def _look(self, names: Sequence[str]) -> dict[str, list[Seen]]:
        found: dict[str, list[Seen]] = {name: [] for name in names}
        for one in self._containers.of(found):
            found[one.replica].append(one)
        return found

    def _is_well(self, containers: Sequence[Seen], rounds: Rounds) -> bool:
        done = [(one.finished and one.replica in self._customs.jobs) or rounds.well(one) for one in containers]
        return bool(done) and all(done)

    def _may_start(self, name: str, seen: Mapping[str, Sequence[Seen]], well: set[str]) -> bool:
        """Whether everybody that it waits for has come far enough. Those that are not being started do not count."""
        return all(
            other in well or (until == _STARTED and any(one.state == "running" for one in seen[other]))
            for other, until in self._customs.needs[name].items()
            if other in seen
        )

    def _complaint(self, why: str, names: Sequence[str], seen: Mapping[str, Sequence[Seen]], rounds: Rounds) -> NotHealthy:
        """Who is not well, in what state, what its check said and what it wrote last."""
        lines = [f"{why}: {', '.join(names)}"]
        for name in names:
            states = ", ".join(one.status for one in seen[name]) or "no container"
            lines.append(f"  {name}: {states}")
            lines.extend(f"    its health check: {line}" for line in rounds.said.get(name, "").splitlines()[-2:])
            lines.extend(f"    | {line}" for line in self._containers.logs(name, _LOG_LINES))
        return NotHealthy("\n".join(lines), cure=f"its whole log is in the run's folder; alone: docker compose up {names[0]}")


def is_dead(containers: Sequence[Seen]) -> bool:
    return bool(containers) and all(one.state == "dead" for one in containers)
