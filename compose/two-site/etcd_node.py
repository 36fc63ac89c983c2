"""Run one member of etcd, in the foreground; etcd reads its settings from the environment.

    etcd_node.py            run it; the others refuse a member that lost its disk, until they have forgotten it
    etcd_node.py --forget   if the quorum is lost for good: make this member forget everything, and form a new cluster

Patroni can write again what it kept in etcd; a quorum whose disks burnt never returns. `--forget` refuses if there is a quorum.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from database import has_quorum

FORGET = "forget"  # a file beside the member's own folder, which requests it
_RESTART_AFTER_S = 0.3
_POLL_S = 0.1
_FORGET_S = 5.0


def run(data: Path) -> int:
    """Keep etcd running; returns its exit status once it ends by itself with its data in place."""
    running: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, lambda *_: running[-1].terminate() if running else sys.exit(0))
    while True:
        child = subprocess.Popen(["etcd"])
        running.append(child)
        while child.poll() is None and not (data / FORGET).exists():
            time.sleep(_POLL_S)
        if (data / FORGET).exists():
            child.kill()
            child.wait()
            shutil.rmtree(data / "member", ignore_errors=True)
            (data / FORGET).unlink()
        elif child.returncode == 0 or any((data / "member" / "wal").glob("*.wal")):
            return child.returncode  # it was one of the cluster, or was asked to end
        time.sleep(_RESTART_AFTER_S)


def forget(data: Path, own: str) -> int:
    """Tell the member that runs here to start again without its data; returns once it does."""
    if has_quorum(own):
        sys.stderr.write("there is a quorum, so nothing is forgotten\n")
        return 1
    (data / FORGET).touch()
    until = time.monotonic() + _FORGET_S
    while (data / FORGET).exists() and time.monotonic() < until:
        time.sleep(_POLL_S)
    return 1 if (data / FORGET).exists() else 0


def main(arguments: list[str]) -> int:
    data = Path(os.environ["ETCD_DATA_DIR"])
    if arguments == ["--forget"]:
        return forget(data, os.environ["ETCD_LISTEN_CLIENT_URLS"].removeprefix("http://"))
    return run(data)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
