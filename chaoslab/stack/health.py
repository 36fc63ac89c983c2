"""Run the health checks of a Compose file and wait for them, all at once, with one deadline and one error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from chaoslab.clock import Deadline
from chaoslab.errors import NotHealthy

Check = Callable[[], str | None]  # None when healthy, else what was seen; raises NotHealthy when it can never get healthy


def wait_healthy(
    checks: Mapping[str, Check], deadline: Deadline, logs: Callable[[str], list[str]], *, poll_s: float = 0.2
) -> None:
    """Run every replica's check until each has passed once.

    Raises NotHealthy with what each unhealthy one said last, and its last log lines.
    """
    waiting = dict(checks)
    with ThreadPoolExecutor(max_workers=4) as pool:
        while waiting:
            seen = dict(zip(waiting, pool.map(lambda check: check(), waiting.values()), strict=True))
            waiting = {name: waiting[name] for name, fault in seen.items() if fault is not None}
            if waiting and deadline.passed:
                raise NotHealthy(_complaint({name: seen[name] or "" for name in waiting}, deadline, logs))
            if waiting:
                deadline.clock.sleep(min(poll_s, deadline.left_s))


def _complaint(seen: Mapping[str, str], deadline: Deadline, logs: Callable[[str], list[str]]) -> str:
    lines = [f"not healthy after {deadline.timeout_s:.1f} s: {', '.join(seen)}"]
    for name, fault in seen.items():
        lines.append(f"  {name}: {fault}")
        lines.extend(f"    | {line}" for line in logs(name))
    return "\n".join(lines)
