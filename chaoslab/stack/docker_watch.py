"""Start replicas in the order of `depends_on`, and wait until they are well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from chaoslab.clock import Deadline
from chaoslab.errors import NotReady
from chaoslab.stack.docker_containers import Containers, Seen
from chaoslab.stack.topology import Replica

_POLL_S = 0.2
_LOG_LINES = 6


class Watch:
    """Looks after the containers of replicas while they come up.

    `jobs`: replicas that are well when they have ended well. `revived`: replicas whose restart policy brings them back when
    they fail. The containers that are started have none, or the engine would undo a kill; so here, and only while waiting, they
    are brought back as the policy says. `check_wanted` raises when nobody waits any more.
    """

    def __init__(
        self, containers: Containers, jobs: Iterable[str], revived: Iterable[str], check_wanted: Callable[[], None]
    ) -> None:
        self._containers = containers
        self._jobs = frozenset(jobs)
        self._revived = frozenset(revived)
        self._check_wanted = check_wanted

    def start(self, replicas: Sequence[Replica], deadline: Deadline, *, started: Iterable[str] = ()) -> None:
        """Start what is dead of these and wait until all are well. Raises NotReady, naming those that are not.

        `started`: those that were started already, so that one that ended since has failed.
        """
        begun = set(started)
        while True:
            self._check_wanted()
            seen = self._look(replicas)
            ready = {name for name, containers in seen.items() if self._is_ready(name, containers)}
            waiting = [replica for replica in replicas if replica.name not in ready]
            if not waiting:
                return
            failed = [r.name for r in waiting if r.name in begun - self._revived and is_dead(seen[r.name])]
            if failed or deadline.passed:
                raise self.complaint([r.name for r in waiting if not failed or r.name in failed], seen, deadline)
            due = [replica.name for replica in startable(waiting, ready) if is_dead(seen[replica.name])]
            self._containers.at_once(self._containers.start, [one.id for name in due for one in seen[name]])
            begun.update(due)
            deadline.clock.sleep(min(_POLL_S, deadline.left_s))

    def complaint(self, names: Sequence[str], seen: Mapping[str, Sequence[Seen]], deadline: Deadline) -> NotReady:
        """The error that says who is not well, in what state, and what they wrote last."""
        lines = [f"not healthy after waiting up to {deadline.timeout_s:.0f} s: {', '.join(names)}"]
        for name in names:
            states = ", ".join(one.status or one.state for one in seen.get(name, ())) or "no container"
            lines.append(f"  {name}: {states}")
            lines.extend(f"    | {line}" for line in self._containers.logs(name, _LOG_LINES))
        return NotReady("\n".join(lines))

    def unwell(self, replicas: Sequence[Replica], deadline: Deadline) -> NotReady | None:
        """The complaint about those that are not well now, if any."""
        seen = self._look(replicas)
        names = [name for name, containers in seen.items() if not self._is_ready(name, containers)]
        blamed = [name for name in names if any(one.status for one in seen[name] if not one.status.startswith("Created"))]
        return self.complaint(blamed or names, seen, deadline) if names else None

    def _look(self, replicas: Sequence[Replica]) -> dict[str, list[Seen]]:
        found: dict[str, list[Seen]] = {replica.name: [] for replica in replicas}
        for one in self._containers.of(found):
            found[one.replica].append(one)
        return found

    def _is_ready(self, name: str, containers: Sequence[Seen]) -> bool:
        return bool(containers) and all(one.healthy or (name in self._jobs and one.finished) for one in containers)


def is_dead(containers: Sequence[Seen]) -> bool:
    return bool(containers) and all(one.state == "dead" for one in containers)


def startable(waiting: Sequence[Replica], ready: Iterable[str]) -> list[Replica]:
    """Those of the waiting that wait for none of the waiting."""
    unready = {replica.name for replica in waiting} - set(ready)
    return [replica for replica in waiting if unready.isdisjoint(replica.depends_on)]
