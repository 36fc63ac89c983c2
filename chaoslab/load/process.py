"""Locust as a process of the run: started, followed and ended by the engine.

Locust is never imported here: it patches the interpreter. Its processes write rows (see `locust_plugin`) to a file, which
`LoadProcess` follows and sums up second by second (see `seconds`).
"""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import Self
from urllib.parse import urlsplit

from chaoslab.clock import NS_PER_S, SYSTEM
from chaoslab.errors import EnvironmentFault
from chaoslab.files import open_to_append
from chaoslab.history.rows import Load
from chaoslab.history.tail import LineTail
from chaoslab.load.published import listen_at
from chaoslab.load.seconds import News, Seconds
from chaoslab.load.variables import HOST, ROWS_FILE, RUN, SEED, USERS_FILE
from chaoslab.process import LOW_PRIORITY, end_group, how_it_ended, spawn
from chaoslab.spec.model import LoadSpec

STOP_TIMEOUT_S = 5  # above the deadline of a request, or requests in flight are dropped
_KILL_AFTER_S = STOP_TIMEOUT_S + 3.0
_CLOSE_AFTER_NS = NS_PER_S // 4  # how late rows of this machine's processes may come
_CLOSE_AFTER_REPORTS_NS = 9 * NS_PER_S // 2  # how late seconds of other machines may come: plain workers report every 3 s
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "SSL_CERT_FILE")


def require_locust() -> None:
    """Raises EnvironmentFault, with its cure, when Locust is not installed."""
    if find_spec("locust") is None:
        raise EnvironmentFault("Locust is not installed", cure="install the extra: pip install 'chaoslab[load]'")


class LoadProcess:
    """Locust with all of its processes. They end together: on `stop`, when the master ends, and when this process is gone."""

    def __init__(
        self,
        spec: LoadSpec,
        base_url: str,
        folder: Path,
        *,
        seed: int = 0,
        env: Mapping[str, str] | None = None,
        entry_port: int = 0,
    ) -> None:
        """`folder` takes the log and the rows. `env` is added to a minimal environment, without the caller's LOCUST_ settings.

        `seed` repeats the users' choices. `entry_port`: where the entry is published for workers on other machines, on the
        address of `spec.listen`.
        """
        self._spec, self._base_url, self._entry_port = spec, base_url, entry_port
        self._folder = folder
        self._log = folder / "locust.log"
        self._rows_file = folder / "load-rows.tsv"
        self._users_file = folder / "load-users"
        kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("CHAOSLAB_")}
        ours = {ROWS_FILE: str(self._rows_file), SEED: str(seed), RUN: token_hex(8), HOST: base_url}
        ours[USERS_FILE] = str(self._users_file)
        python = {"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": str(seed % 2**32)}
        self._env = {**kept, **ours, **python, **(env or {})}
        self.published_url: str | None = None  # where workers on other machines find the entry, where it is published
        self._publisher: subprocess.Popen[bytes] | None = None
        self._publisher_log = folder / "published.log"
        self._lifeline: int | None = None

    def start(self) -> Self:
        """Start Locust and return at once; the first request follows after 0.3 to 1.5 s.

        Raises EnvironmentFault when Locust is not installed or cannot be started, or when the entry cannot be published.
        """
        require_locust()
        self._folder.mkdir(parents=True, exist_ok=True)
        os.close(open_to_append(self._rows_file))
        self._tail = LineTail(self._rows_file)
        late_ns = _CLOSE_AFTER_NS if self._spec.listen is None else _CLOSE_AFTER_REPORTS_NS
        self._seconds = Seconds(SYSTEM.now_ns(), close_after_ns=late_ns)
        self._publish()
        lifeline, self._lifeline = os.pipe()  # the read end is Locust's; ours closes when this process is gone, however it ends
        try:
            self._child = spawn(
                command(self._spec, self.published_url or self._base_url),
                log=self._log,
                env=self._env,
                cwd=self._folder,
                stdin=lifeline,
                niceness=LOW_PRIORITY,
            )
        except EnvironmentFault:
            os.close(self._lifeline)
            self._lifeline = None
            self._unpublish()
            raise
        finally:
            os.close(lifeline)
        return self

    @property
    def pid(self) -> int:
        """Leader of the session and group that all of Locust's processes belong to."""
        return self._child.pid

    def change_users(self, users: int) -> None:
        """Have so many users from now on, which takes as long as `spawn_rate` says. Not with a master that is not ours."""
        descriptor = open_to_append(self._users_file)
        try:
            os.write(descriptor, f"{users}\n".encode())
        finally:
            os.close(descriptor)

    def rows(self) -> list[Load]:
        """A row for each second that is complete and was not returned before. Raises ValueError on a broken row of Locust's."""
        self._feed()
        return self._seconds.close_until(SYSTEM.now_ns())

    def news(self) -> list[News]:
        """What was read by `rows` since the last call: workers that went missing or came back, and a first task that raised."""
        return self._seconds.news()

    def poll(self) -> str | None:
        """None while Locust runs, else how it ended, with its last log lines; processes that it left behind are ended."""
        if self._publisher is not None:
            name = f"the process that publishes the entry at {self.published_url}"
            if (ended := how_it_ended(name, self._publisher, self._publisher_log)) is not None:
                return ended
        ended = how_it_ended("Locust", self._child, self._log)
        if ended is not None:
            end_group(self._child, grace_s=0.0)
        return ended

    def stop(self) -> list[Load]:
        """End Locust, all of it, and return the rows that were still to come; none on a second call."""
        end_group(self._child, grace_s=_KILL_AFTER_S)
        self._unpublish()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        if self._tail.closed:
            return []
        self._feed()
        self._tail.close()
        return self._seconds.close_all(SYSTEM.now_ns())

    def _feed(self) -> None:
        for line in self._tail.poll():
            self._seconds.feed(line.decode(errors="replace"))

    def _publish(self) -> None:
        """Locust's master sends its own `--host` to every worker: it has to be an address that all of them reach."""
        host = (self._spec.listen or "").rpartition(":")[0].strip("[]")
        if not host or ipaddress.ip_address(host).is_loopback:
            return
        with listen_at(host, self._entry_port) as listening:
            address, port = listening.getsockname()[:2]
            self.published_url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
            arguments = [sys.executable, "-m", "chaoslab.load.published", urlsplit(self._base_url).netloc]
            self._publisher = spawn(
                arguments, log=self._publisher_log, env=self._env, cwd=self._folder, stdin=listening.fileno()
            )

    def _unpublish(self) -> None:
        if self._publisher is not None:
            end_group(self._publisher, grace_s=0.0)


def command(spec: LoadSpec, base_url: str) -> list[str]:
    """Locust's command line: a single process; a master of our own with workers; or workers of a master that already runs.

    Failed requests are what a fault is meant to cause: they do not make Locust's own exit an error.
    """
    base = [sys.executable, "-m", "chaoslab.load.locust_plugin", "-f", str(spec.locustfile), "--host", base_url]
    base += ["--headless", "--only-summary", "--exit-code-on-error", "0", "--stop-timeout", str(STOP_TIMEOUT_S)]
    workers = ["--processes", str(spec.workers)] if spec.workers else []
    if spec.master is not None:
        host, _, port = spec.master.rpartition(":")
        return [*base, "--worker", "--master-host", host, "--master-port", port, *workers]
    base += ["--users", str(spec.users), "--spawn-rate", str(spec.spawn_rate)]
    if spec.listen is None and not spec.workers:
        return base
    if spec.listen is not None:
        host, _, port = spec.listen.rpartition(":")
    else:
        with socket.create_server(("127.0.0.1", 0)) as free:
            host, port = "127.0.0.1", str(free.getsockname()[1])
    base += ["--master-bind-host", host, "--master-bind-port", port, "--expect-workers-max-wait", "30"]
    if workers:
        return [*base, *workers, "--master-host", host, "--master-port", port, "--enable-rebalancing"]
    return [*base, "--master", "--expect-workers", str(max(1, spec.expect_workers))]
