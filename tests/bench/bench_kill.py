"""How far apart eight containers die, for four ways to kill them: `python tests/bench/bench_kill.py [ROUNDS]`.

Every way is timed by the same observer: a handle on each container's first process, readable at its death. Needs an engine
whose processes are this machine's.
"""

from __future__ import annotations

import json
import select
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from os import SCHED_RR, close, getloadavg, pidfd_open, sched_param, sched_setscheduler
from pathlib import Path
from secrets import token_hex

from chaoslab.clock import Deadline, wait_until
from chaoslab.stack.compose.cli import ComposeCommand
from chaoslab.stack.compose.containers import Containers
from chaoslab.stack.compose.engine import connect
from chaoslab.stack.compose.kill import kill_all, kill_by_api
from chaoslab.stack.compose.project import REPLICA_LABEL, ROLE_LABEL, RUN_LABEL

CONTAINERS = 8
IMAGE = "chaoslab/two-site:latest"
BUDGET_MS = {"pids": 10.0, "threads": 100.0}


@contextmanager
def victims(run_id: str, folder: Path) -> Iterator[tuple[Containers, ComposeCommand]]:
    """Eight containers that hold a listening socket each, as services do."""
    containers = Containers(connect(), run_id)
    server = {"image": IMAGE, "init": True, "command": ["python", "-m", "http.server", "8000"], "restart": "no"}
    marks = {RUN_LABEL: run_id, ROLE_LABEL: "replica"}
    services = {
        f"v{n}": {**server, "labels": {**marks, REPLICA_LABEL: f"v{n}"}, "network_mode": "none"} for n in range(CONTAINERS)
    }
    file = folder / "victims.json"
    file.write_text(json.dumps({"name": f"bench-{run_id}", "services": services}))
    command = ComposeCommand([file], folder / "compose.log", f"bench-{run_id}")
    try:
        yield containers, command
    finally:
        containers.sweep()


def ways(containers: Containers, command: ComposeCommand) -> dict[str, Callable[[dict[str, int]], object]]:
    def one_by_one(pids: dict[str, int]) -> None:
        for container in pids:
            containers.kill(container)

    return {
        "one by one": one_by_one,
        "threads": lambda pids: kill_by_api(list(pids), containers.kill),
        "docker compose kill": lambda _: command.run("kill", deadline=Deadline.after(30)),
        "pids": lambda pids: kill_all(pids, containers.kill),
    }


def skew_ms(pids: dict[str, int], kill: Callable[[dict[str, int]], object]) -> float:
    """From the first death to the last."""
    with ExitStack() as handles:
        waiting = [pidfd_open(pid) for pid in pids.values()]
        for handle in waiting:
            handles.callback(close, handle)
        deaths: list[int] = []
        observer = threading.Thread(target=watch, args=(waiting, deaths))
        observer.start()
        kill(pids)
        observer.join(30)
    assert len(deaths) == CONTAINERS, "a container survived, or was not there"
    return (max(deaths) - min(deaths)) / 1e6


def living(containers: Containers) -> dict[str, int]:
    return containers.pids(f"v{n}" for n in range(CONTAINERS))


def watch(handles: list[int], deaths: list[int]) -> None:
    with suppress(OSError):  # before the dying, where that is allowed; else it would see the first only after the last
        sched_setscheduler(0, SCHED_RR, sched_param(3))
    poll, left = select.poll(), set(handles)
    for handle in handles:
        poll.register(handle, select.POLLIN)
    while left:
        for handle, _ in poll.poll():
            deaths.append(time.monotonic_ns())
            poll.unregister(handle)
            left.discard(handle)


def main(rounds: int) -> int:
    seen: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, victims(token_hex(4), Path(folder)) as (containers, command):
        for _ in range(rounds):
            for name, way in ways(containers, command).items():
                command.run("up", "--detach", deadline=Deadline.after(60))
                seen.setdefault(name, []).append(skew_ms(living(containers), way))
                wait_until("the engine to see all dead", lambda: (not living(containers), None), Deadline.after(10))
    print(f"{CONTAINERS} containers, {rounds} rounds, load {getloadavg()[0]:.1f}; from the first death to the last, ms")
    for name, values in seen.items():
        budget = f"  budget {BUDGET_MS[name]:.0f}" if name in BUDGET_MS else ""
        print(f"  {name:22} median {statistics.median(values):7.1f}   worst {max(values):7.1f}{budget}")
    late = [name for name, budget in BUDGET_MS.items() if statistics.median(seen[name]) > budget]
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
