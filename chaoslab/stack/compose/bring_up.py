"""Start replicas in the order of `depends_on`, and wait until they are healthy.

The containers have neither health checks nor restart policies of their own: Docker's checks cost more than the stack itself,
and its restarts would undo a kill. Both are done here while a start waits; see `stack.restarts` for the time after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaoslab.clock import Deadline
from chaoslab.errors import NotHealthy
from chaoslab.stack.compose.containers import ContainerInfo, Containers
from chaoslab.stack.compose.health import HealthChecks

_POLL_S = 0.2
_LOG_LINES = 6
_COMPLETED = "service_completed_successfully"
_STARTED = "service_started"


@dataclass(frozen=True)
class StartRules:
    """How the services of a Compose file start, as Docker would have it.

    `needs`: for each service, the services that it waits for, and until which condition. `checks`: the commands of health
    checks. `restarted`: services whose restart policy starts them again when they fail. `ended`: services that may end with
    status 0 though nobody waits for their completion.
    """

    needs: Mapping[str, Mapping[str, str]]
    checks: Mapping[str, Sequence[str]]
    restarted: frozenset[str]
    ended: frozenset[str] = frozenset()

    @property
    def awaited(self) -> frozenset[str]:
        """Services that are healthy only once they have ended with status 0."""
        return frozenset(name for needs in self.needs.values() for name, until in needs.items() if until == _COMPLETED)


def needs_of(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The services that each service waits for, by the conditions of `depends_on`, and the owner of a shared network."""
    found: dict[str, dict[str, str]] = {}
    for name, service in config["services"].items():
        needs = {other: how.get("condition", _STARTED) for other, how in (service.get("depends_on") or {}).items()}
        kind, _, owner = str(service.get("network_mode") or "").partition(":")
        found[name] = {owner: _STARTED, **needs} if kind == "service" else needs
    return found


def bring_up(
    containers: Containers, rules: StartRules, names: Sequence[str], deadline: Deadline, check_wanted: Callable[[], None]
) -> None:
    """Start what is dead of these replicas and wait until all are healthy. Raises NotHealthy, naming those that are not.

    `check_wanted` raises when the stack is being taken down meanwhile.
    """
    checks = HealthChecks(containers, rules.checks)
    begun, awaited = set[str](), rules.awaited
    healthy_before = False
    try:
        while True:
            check_wanted()
            listed = containers.of(names)
            found = {name: [one for one in listed if one.replica == name] for name in names}
            healthy = set[str]()
            for name in names:
                # A list, so that the checks of all containers go on.
                may_end, must_end = name in rules.ended | awaited, name in awaited
                passed = [(one.finished and may_end) or (not must_end and checks.passed(one)) for one in found[name]]
                if passed and all(passed):
                    healthy.add(name)
            if len(healthy) == len(names) and healthy_before:
                return  # twice in a row: a container without a health check may be running and about to end
            healthy_before = len(healthy) == len(names)
            unhealthy = [name for name in names if name not in healthy]
            dead = [name for name in unhealthy if found[name] and all(one.state == "dead" for one in found[name])]
            failed = [name for name in dead if name in begun - rules.restarted]
            if failed or (unhealthy and deadline.passed):
                why = "ended while starting" if failed else f"not healthy after waiting up to {deadline.timeout_s:.0f} s"
                raise _not_healthy(why, failed or unhealthy, found, checks, containers)
            due = [name for name in dead if _may_start(rules.needs[name], found, healthy)]
            containers.at_once(containers.start, [one.id for name in due for one in found[name]])
            begun.update(due)
            deadline.clock.sleep(min(_POLL_S, deadline.left_s))
    finally:
        checks.end()


def _may_start(needs: Mapping[str, str], found: Mapping[str, Sequence[ContainerInfo]], healthy: set[str]) -> bool:
    """Whether all that a replica waits for has come far enough. Services that are not being started do not count."""
    return all(
        other in healthy or (until == _STARTED and any(one.state == "running" for one in found[other]))
        for other, until in needs.items()
        if other in found
    )


def _not_healthy(
    why: str,
    names: Sequence[str],
    found: Mapping[str, Sequence[ContainerInfo]],
    checks: HealthChecks,
    containers: Containers,
) -> NotHealthy:
    """The error, with the state of each, the output of its check and its last log lines."""
    lines = [f"{why}: {', '.join(names)}"]
    for name in names:
        states = ", ".join(one.status for one in found[name]) or "no container"
        lines.append(f"  {name}: {states}")
        lines.extend(f"    its health check: {line}" for line in checks.failures.get(name, "").splitlines()[-2:])
        lines.extend(f"    | {line}" for line in containers.logs(name, _LOG_LINES))
    return NotHealthy(
        "\n".join(lines), cure=f"its full log is in the run's folder; to start it alone: docker compose up {names[0]}"
    )
