"""Nothing of a stack can be reached from the network."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import yaml
from listening import listening
from mini_stack import embedded_stack, mini_stack

from chaoslab.clock import Deadline, wait_until
from chaoslab.process import marked
from chaoslab.stack.reach import RUN_VARIABLE

TWO_SITE = Path(__file__).parents[2] / "compose" / "two-site" / "compose.yaml"
OPEN = {
    "command": ["python", "-c", "import socket, time; s = socket.create_server(('0.0.0.0', 0)); time.sleep(600)"],
    "labels": {"chaoslab.site": "witness"},
}


def seen() -> set[tuple[str, str]]:
    """What the stacks of this process wait at. Found by their mark: PostgreSQL is no child of whoever started it."""
    living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    runs = {run for child in living if (run := child.environ().get(RUN_VARIABLE))}
    return listening([found for run in runs for found in marked(RUN_VARIABLE, run)])


def test_the_mini_stack_and_its_relays_listen_on_loopback_alone() -> None:
    with mini_stack():
        assert {ip for ip, _ in seen()} == {"127.0.0.1"}


def test_a_service_that_is_open_to_the_network_would_be_seen(tmp_path: Path) -> None:
    """Known bad: one process on every address."""
    overlay = tmp_path / "open.yaml"
    overlay.write_text(yaml.safe_dump({"services": {"open": OPEN}}))
    with mini_stack(overlay):
        wait_until("the open port", lambda: ("0.0.0.0" in {ip for ip, _ in seen()}, seen()), Deadline.after(10.0))


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_the_two_site_stack_listens_on_loopback_alone() -> None:
    """etcd and its peers, Patroni, PostgreSQL, the entry, the services and the relays."""
    with embedded_stack(TWO_SITE, within_s=120):
        found = seen()
        assert {ip for ip, _ in found} == {"127.0.0.1"}, found
        assert {"etcd", "postgres"} <= {name for _, name in found}, found
