"""Start a service once others answer, as if it had to fetch something from them. Used by overlays, not by the stack.

    python -m starts_after MODULE

NEEDS   host:port of replicas, separated by commas; one of them has to answer GET /live with 200
STATE   a file that survives the process. The first start, at the time of installation, waits for nobody, so a circular
        dependency goes unnoticed for years
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from health import problem

PAUSE_S = 0.5


def main(module: str) -> None:
    """Wait, then exec the service."""
    state = Path(os.environ["STATE"])
    if state.exists():
        wait_for_any([f"{address}/live" for address in os.environ["NEEDS"].split(",")])
    state.touch()
    os.execv(sys.executable, [sys.executable, "-m", module])  # noqa: S606


def wait_for_any(urls: Sequence[str]) -> None:
    """Return once one of these answers."""
    while all(problem(url) is not None for url in urls):
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(sys.argv[1])
