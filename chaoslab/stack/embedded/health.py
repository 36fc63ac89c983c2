"""Run the health checks of a Compose file and wait for all of them, with one deadline and one error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from chaoslab.clock import Deadline
from chaoslab.errors import NotHealthy

Check = Callable[[], str | None]  # None when healthy, else what failed; raises NotHealthy when it can never get healthy


def wait_healthy(
    checks: Mapping[str, Check], deadline: Deadline, logs: Callable[[str], list[str]], *, poll_s: float = 0.2
) -> None:
    """Run every replica's check until each has passed once.

    Raises NotHealthy with the last failure of each unhealthy replica, and its last log lines.
    """
    waiting = dict(checks)
    with ThreadPoolExecutor(max_workers=4) as pool:
        while waiting:
            seen = dict(zip(waiting, pool.map(lambda check: check(), waiting.values()), strict=True))
            waiting = {name: waiting[name] for name, fault in seen.items() if fault is not None}
            if waiting and deadline.passed:
                lines = [f"not healthy after {deadline.timeout_s:.1f} s: {', '.join(waiting)}"]
                for name in waiting:
                    lines += [f"  {name}: {seen[name]}", *(f"    | {line}" for line in logs(name))]
                raise NotHealthy("\n".join(lines))
            if waiting:
                deadline.clock.sleep(min(poll_s, deadline.left_s))
