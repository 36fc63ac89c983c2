"""How long the Compose runtime takes to fence a site and to take the two-site stack down, beside the plain ways to do it.

    python tests/bench/bench_compose.py [ROUNDS]

Both ways of one thing are measured in the same run, so that the ratio holds on a busy machine too. Needs an engine and the
images of the stack (make images).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import getloadavg
from pathlib import Path
from secrets import token_hex

from chaoslab.clock import Deadline
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.stack.compose.cli import ComposeCommand
from chaoslab.stack.compose.containers import Containers
from chaoslab.stack.compose.engine import connect
from chaoslab.stack.compose.stack import ComposeStack

STACK = Path(__file__).parents[2] / "compose/two-site/compose.yaml"
BUDGET_MS = {"fence": 65.0, "down": 5000.0}


class OneCallEach:
    """In place of shells that stay open: one `docker exec` for each script, as plain code would."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    def say(self, name: str, script: str) -> str:
        return self._containers.execute_in(self._containers.of([name])[0].id, ["sh", "-c", script])


@contextmanager
def two_sites() -> Iterator[tuple[ComposeStack, Containers, Path]]:
    run_id, folder = token_hex(4), tempfile.TemporaryDirectory()
    stack = ComposeStack(load_stack([STACK]), run_id, Path(folder.name, "data"), Path(folder.name, "logs"))
    with folder:
        try:
            stack.up(Deadline.after(120), lambda _: None)
            yield stack, Containers(connect(), run_id), Path(folder.name)
        finally:
            left = stack.down()
            assert not left, left


def took_ms(do: Callable[[], object]) -> float:
    began = time.monotonic()
    do()
    return (time.monotonic() - began) * 1000


def fences(stack: ComposeStack, containers: Containers, rounds: int) -> dict[str, list[float]]:
    """Around a whole site: six directions."""
    links, around = stack._docker_links, stack.topology.flows_around("pangyo")
    kept, plain = links._shells, OneCallEach(containers)
    seen: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, shells in (("shells that stay open", kept), ("docker exec", plain)):
            links._shells = shells
            seen.setdefault(name, []).append(took_ms(lambda: links.fence(around, "test")))
            links.lift(around, "test")
    links._shells = kept
    return seen


def compose_down(stack: ComposeStack, folder: Path) -> None:
    """As a person would, without a grace; the networks of the places are ours."""
    command = ComposeCommand([stack._project_file], folder / "down.log", stack.topology.project)
    command.run("down", "--volumes", "--timeout", "0", deadline=Deadline.after(60))
    assert stack.down() == []


def tell(what: str, seen: dict[str, list[float]]) -> bool:
    """The first way is ours, and has the budget."""
    ours, *others = (statistics.median(values) for values in seen.values())
    for name, values in seen.items():
        print(f"  {what} {name:24} median {statistics.median(values):7.0f}   worst {max(values):7.0f} ms")
    print(f"  {what}: {others[0] / ours:.1f} times as fast; budget {BUDGET_MS[what]:.0f} ms")
    return ours <= BUDGET_MS[what]


def main(rounds: int) -> int:
    downs: dict[str, list[float]] = {}
    with two_sites() as (stack, containers, _):
        fenced = fences(stack, containers, rounds * 5)
        downs["chaoslab"] = [took_ms(stack.down)]
    with two_sites() as (stack, _, folder):
        downs["docker compose down"] = [took_ms(lambda: compose_down(stack, folder))]
    conntrack = Path("/proc/sys/net/netfilter/nf_conntrack_count")
    tracked = conntrack.read_text().strip() if conntrack.exists() else "?"
    print(f"two sites, load {getloadavg()[0]:.1f}, {tracked} tracked connections, which the engine reads for each container")
    met = [tell("fence", fenced), tell("down", downs)]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2))
