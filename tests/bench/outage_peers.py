"""What other instruments say of the same outages, at the same time, at low rates: each as it usually is set up.

    Chaos Toolkit   the real one: its steady-state hypothesis, an HTTP probe with a time-out of 1 s, looked at every second
    Locust          the real one: two closed users a service, 0.2 s between two requests, its own time-outs (60 s)
    k6              the real one: the same two closed users, its own time-outs (60 s)
    blackbox        one GET a second on a new connection, a time-out of 1 s

A failed poll stands for the time until the next one. Locust and k6 tell in their summaries which share of the requests
failed; of the time that the run took, that share is the outage that they saw.
"""

from __future__ import annotations

import csv
import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from chaoslab.clock import Deadline
from chaoslab.errors import EnvironmentFault
from chaoslab.process import LOW_PRIORITY, end_group, run, spawn

CACHE = Path.home() / ".cache" / "chaoslab-bench"
CHAOS, K6 = CACHE / "chaostoolkit" / "bin" / "chaos", CACHE / "bin" / "k6"
CHAOS_TOOLKIT = ("chaostoolkit==1.19.0", "chaostoolkit-lib==1.44.0")
K6_MODULE = "go.k6.io/k6@v0.49.0"
BUILD_S = 900.0
EVERY_S, POLL_TIMEOUT_S = 1.0, 1.0
USERS, PAUSE_S = 2, 0.2
READY_S = 25.0  # until all of them ask every lane; they start slowly
END_S = 10.0  # for their summaries
LOWEST = 19  # for what is only being installed
AGENTS = {"Chaos Toolkit": "python-requests", "Locust": "python", "k6": "k6"}  # how their requests begin to name themselves

LOCUSTFILE = """
import json
from pathlib import Path

from locust import FastHttpUser, constant


def user(number, name, url):
    def get(self):
        self.client.get("/", name=name)

    how = {{"host": url, "fixed_count": {users}, "wait_time": constant({pause_s}), "tasks": [get]}}
    return type(f"User{{number}}", (FastHttpUser,), how)


for number, (lane, url) in enumerate(json.loads(Path("urls.json").read_text()).items()):
    globals()[f"User{{number}}"] = user(number, lane, url)
"""

K6_SCRIPT = """
import http from "k6/http";
import {{ sleep }} from "k6";

const urls = {urls};
const scenarios = {{}}, thresholds = {{}};
for (const lane in urls) {{
  scenarios[lane] = {{ executor: "constant-vus", vus: {users}, duration: "{for_s}s", gracefulStop: "1s" }};
  scenarios[lane].env = {{ LANE: lane }};
  thresholds[`http_req_failed{{scenario:${{lane}}}}`] = ["rate>=0"];
}}
export const options = {{ scenarios, thresholds }};
export default function () {{ http.get(urls[__ENV.LANE]); sleep({pause_s}); }}
"""


@dataclass(frozen=True)
class Poll:
    """One look. Instants are monotonic nanoseconds."""

    begin_ns: int
    good: bool


@dataclass(frozen=True)
class Told:
    """What the peers said: polls by instrument and lane, and by instrument and lane the share of requests that failed."""

    polls: Mapping[str, Mapping[str, Sequence[Poll]]]
    shares: Mapping[str, Mapping[str, float]]
    for_s: float  # what those shares are of


def install() -> dict[str, str]:
    """Chaos Toolkit and k6 into a cache of the bench's own; by instrument why it is not there."""
    found = {"Chaos Toolkit": _install_chaos(), "k6": _install_k6()}
    return {name: why for name, why in found.items() if why}


def _install_chaos() -> str:
    if CHAOS.exists():
        return ""
    place = CHAOS.parent.parent
    made = _quietly([sys.executable, "-m", "venv", str(place)])
    return made or _quietly([str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", *CHAOS_TOOLKIT])


def _install_k6() -> str:
    if K6.exists():
        return ""
    if shutil.which("go") is None:
        return "there is no Go to build it with"
    return _quietly(["env", f"GOBIN={K6.parent}", "go", "install", "-p", "1", K6_MODULE])


def _quietly(command: Sequence[str]) -> str:
    """Run it with the lowest priority; why it failed, empty when it did not."""
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        done = run(["nice", "-n", str(LOWEST), *command], timeout_s=BUILD_S)
    except EnvironmentFault as broken:
        return str(broken)
    return "" if done.returncode == 0 else f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-300:]}"


class Peers:
    """All instruments on these lanes for `for_s` seconds each, in `folder`; `missing` ones are left out."""

    def __init__(self, urls: Mapping[str, str], for_s: float, folder: Path, missing: Mapping[str, str]) -> None:
        self._urls, self._for_s, self._folder = urls, for_s, folder
        self._missing = missing
        self._children: list[subprocess.Popen[bytes]] = []
        self._polls: dict[str, list[Poll]] = {lane: [] for lane in urls}
        self._threads = [threading.Thread(target=self._poll, args=(lane,), daemon=True) for lane in urls]
        self._over = threading.Event()
        self._wall_ns = time.time_ns() - time.monotonic_ns()

    def start(self) -> None:
        (self._folder / "urls.json").write_text(json.dumps(dict(self._urls)))
        self._start_locust()
        if "k6" not in self._missing:
            self._start_k6()
        if "Chaos Toolkit" not in self._missing:
            for lane in self._urls:
                self._start_chaos(lane)
        for thread in self._threads:
            thread.start()

    def agents(self) -> set[tuple[str, str]]:
        """The lanes, and who will ask them."""
        return {(lane, agent) for name, agent in AGENTS.items() if name not in self._missing for lane in self._urls}

    def end(self) -> Told:
        """Wait for them to end by themselves, and read what they say."""
        deadline = Deadline.after(self._for_s + END_S)
        for child in self._children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(0.1, deadline.left_s))
        self.stop()
        polls: dict[str, Mapping[str, Sequence[Poll]]] = {"blackbox": self._polls}
        if "Chaos Toolkit" not in self._missing:
            polls["Chaos Toolkit"] = {lane: self._read(lambda lane=lane: self._journal(lane), []) for lane in self._urls}
        shares = {"Locust": self._read(self._locust_shares, {})}
        if "k6" not in self._missing:
            shares["k6"] = self._read(self._k6_shares, {})
        return Told(polls, shares, self._for_s)

    def stop(self) -> None:
        """End whatever still runs. Idempotent."""
        for child in self._children:
            end_group(child)
        self._over.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _spawn(self, command: Sequence[str], name: str) -> None:
        log = self._folder / f"{name}.log"
        self._children.append(spawn(command, log=log, cwd=self._folder, niceness=LOW_PRIORITY))

    def _start_locust(self) -> None:
        (self._folder / "locustfile.py").write_text(LOCUSTFILE.format(users=USERS, pause_s=PAUSE_S))
        users = str(USERS * len(self._urls))
        command = [sys.executable, "-m", "locust", "--headless", "-u", users, "-r", users, "-t", f"{self._for_s:.0f}s"]
        self._spawn([*command, "--only-summary", "--csv", "locust", "--stop-timeout", "1"], "locust")

    def _start_k6(self) -> None:
        urls = json.dumps(dict(self._urls))
        script = K6_SCRIPT.format(urls=urls, users=USERS, pause_s=PAUSE_S, for_s=round(self._for_s))
        (self._folder / "k6.js").write_text(script)
        self._spawn([str(K6), "run", "--quiet", "--no-usage-report", "--summary-export", "k6.json", "k6.js"], "k6")

    def _start_chaos(self, lane: str) -> None:
        provider = {"type": "http", "url": self._urls[lane], "timeout": POLL_TIMEOUT_S}
        probe = {"type": "probe", "name": "get", "tolerance": 200, "provider": provider}
        wait = {"type": "process", "path": "sleep", "arguments": f"{self._for_s:.0f}"}
        experiment = {
            "version": "1.0.0",
            "title": lane,
            "description": lane,
            "steady-state-hypothesis": {"title": "it answers", "probes": [probe]},
            "method": [{"type": "action", "name": "wait", "provider": wait}],
            "rollbacks": [],
        }
        (self._folder / f"chaos-{lane}.json").write_text(json.dumps(experiment))
        command = [str(CHAOS), "--no-version-check", "--no-log-file", "run", f"--journal-path=journal-{lane}.json"]
        how = ["--hypothesis-strategy=during-method-only", f"--hypothesis-frequency={EVERY_S:g}", f"chaos-{lane}.json"]
        self._spawn([*command, *how], f"chaos-{lane}")

    def _poll(self, lane: str) -> None:
        host = self._urls[lane].removeprefix("http://").rstrip("/")
        due_s = time.monotonic()
        while not self._over.wait(max(0.0, due_s - time.monotonic())):
            begin_ns = time.monotonic_ns()
            self._polls[lane].append(Poll(begin_ns, _answers(host)))
            due_s = max(due_s + EVERY_S, time.monotonic())

    def _journal(self, lane: str) -> list[Poll]:
        journal = json.loads((self._folder / f"journal-{lane}.json").read_text())
        looks = journal["steady_states"]["during"] or []
        return [Poll(self._instant(one["probes"][0]["start"]), bool(one["steady_state_met"])) for one in looks]

    def _instant(self, wall: str) -> int:
        return round(datetime.fromisoformat(wall).timestamp() * 1e9) - self._wall_ns

    def _locust_shares(self) -> dict[str, float]:
        with (self._folder / "locust_stats.csv").open(newline="") as rows:
            found = {row["Name"]: row for row in csv.DictReader(rows) if row["Name"] in self._urls}
        return {lane: int(row["Failure Count"]) / max(1, int(row["Request Count"])) for lane, row in found.items()}

    def _k6_shares(self) -> dict[str, float]:
        metrics = json.loads((self._folder / "k6.json").read_text())["metrics"]
        return {lane: float(metrics[f"http_req_failed{{scenario:{lane}}}"]["value"]) for lane in self._urls}

    def _read(self, look: Callable[[], Any], otherwise: Any) -> Any:
        """What an instrument left behind; one that left nothing has said nothing."""
        try:
            return look()
        except (OSError, ValueError, KeyError) as broken:
            print(f"nothing from a peer: {broken}", file=sys.stderr)
            return otherwise


def _answers(host: str) -> bool:
    connection = http.client.HTTPConnection(host, timeout=POLL_TIMEOUT_S)
    begin_s = time.monotonic()
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200 and time.monotonic() - begin_s <= POLL_TIMEOUT_S
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def polled_s(polls: Sequence[Poll], begin_ns: int, end_ns: int) -> float:
    """How long an outage is by the polls begun in begin..end: a failed one counts until the next."""
    own = [(one, after) for one, after in pairwise(polls) if begin_ns <= one.begin_ns < end_ns]
    return sum((after.begin_ns - one.begin_ns) / 1e9 for one, after in own if not one.good)
