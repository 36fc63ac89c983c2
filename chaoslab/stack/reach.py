"""How the parts of a run are found again, and whether an address can be reached."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

from chaoslab.errors import StackError
from chaoslab.spec.stackfile.topology import Address, Replica, Topology

RUN_VARIABLE, SITE_VARIABLE, REPLICA_VARIABLE = (
    "CHAOSLAB_RUN",
    "CHAOSLAB_SITE",
    "CHAOSLAB_REPLICA",
)  # in the environment of every process of a run


def data_folder(run_id: str) -> Path:
    """The private folder of a run's stack, which is removed at its end."""
    return Path(tempfile.gettempdir()) / f"chaoslab-{run_id}"


def roster_in(data: Path) -> Path:
    """Where in that folder the marks of the processes of replicas are written down; see `process.remember`."""
    return data / ".processes"  # no volume has such a name


def require_replica(topology: Topology, name: str) -> Replica:
    """The replica with this name. Raises StackError, naming the known replicas, when there is none."""
    try:
        return topology.replica(name)
    except KeyError:
        known = ", ".join(replica.name for replica in topology.replicas)
        raise StackError(f"no replica {name!r} in this stack; it has {known}") from None


def answers(address: Address, timeout_s: float) -> bool:
    """Whether a server at an address answers a request with at least one byte."""
    try:
        with socket.create_connection(address, timeout=timeout_s) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return bool(connection.recv(1))
    except OSError:
        return False
