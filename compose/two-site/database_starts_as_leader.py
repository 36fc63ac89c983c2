"""A database node with a defect: if it led when it lost its power, it starts as leader, and asks only later who leads now.

Not part of the stack; an overlay replaces a node with it, to prove that a second writer is detected. After a while Patroni
takes over, and what was written here meanwhile is lost.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from patroni.postgresql.misc import PostgresqlRole

from database_defect import Ha, run

ALONE_S = 15.0


class StartsAsLeader(Ha):  # type: ignore[misc]  # Patroni has no types
    """Leads for a while when it finds the data of a leader."""

    def __init__(self, patroni: object) -> None:
        super().__init__(patroni)
        data = Path(os.environ["DATA"]) / "postgres"
        led = (data / "global" / "pg_control").exists() and not (data / "standby.signal").exists()
        self._until = time.monotonic() + (ALONE_S if led else 0.0)

    def _run_cycle(self) -> str:
        if time.monotonic() >= self._until:
            return str(super()._run_cycle())
        self.state_handler.reset_cluster_info_state(None)
        if not self.state_handler.is_running():
            self.state_handler.start(role=PostgresqlRole.PRIMARY)
        return "leading as before, without the lock"


if __name__ == "__main__":
    run(StartsAsLeader)
