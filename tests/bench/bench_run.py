"""One whole `idc-fire` on the embedded runtime: boot, overhead, wall time, skew of the kill, and what the harness itself costs.

    python tests/bench/bench_run.py [EXPERIMENT]

Figures, not a test. The harness's own processes are all that the program started but Locust and the stack.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def harness(child: int) -> list[psutil.Process]:
    """The program and its prober, relay and reaper."""
    processes = [psutil.Process(child), *psutil.Process(child).children(recursive=True)]
    return [process for process in processes if is_ours(process)]


def is_ours(process: psutil.Process) -> bool:
    try:
        return any(word.startswith("chaoslab") and word != "chaoslab.load.locust_plugin" for word in process.cmdline())
    except psutil.Error:
        return False


def cpu_s(processes: list[psutil.Process], before: dict[int, float]) -> dict[int, float]:
    """CPU seconds of each so far; of those that are gone, what was seen last."""
    now = dict(before)
    for process in processes:
        try:
            times = process.cpu_times()
            now[process.pid] = times.user + times.system
        except psutil.Error:
            continue
    return now


def resident_mb(processes: list[psutil.Process]) -> float:
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total / 1e6


def main(experiment: str) -> None:
    """Run it once and print the figures beside what is asked of them."""
    with tempfile.TemporaryDirectory(prefix="chaoslab-bench-") as folder:
        measure(experiment, Path(folder))


def measure(experiment: str, folder: Path) -> None:
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "chaoslab",
        "run",
        str(ROOT / "experiments" / f"{experiment}.yaml"),
        "--runtime",
        "embedded",
    ]
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cpu: dict[int, float] = {}
    peak_mb = 0.0
    while child.poll() is None:
        processes = harness(child.pid)
        cpu, peak_mb = cpu_s(processes, cpu), max(peak_mb, resident_mb(processes))
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.5)
    wall_s = time.monotonic() - began
    result = json.loads((folder / "runs" / experiment / "latest" / "result.json").read_text())
    skews = [fault["skew_ms"] for fault in result["faults"] if fault["skew_ms"] is not None]
    rows = [
        ("verdict", result["verdict"], "pass"),
        ("boot", f"{result['boot_s']:.1f} s", "15 s"),
        ("overhead, in the run", f"{result['overhead_s']:.2f} s", ""),
        ("overhead, with start and reports", f"{wall_s - result['duration_s'] + result['overhead_s']:.2f} s", "1.5 s"),
        ("whole run", f"{wall_s:.1f} s", "150 s"),
        ("skew of the kill", ", ".join(f"{skew:.1f} ms" for skew in skews), "20 ms"),
        ("harness, resident at most", f"{peak_mb:.0f} MB", "250 MB"),
        ("harness, share of one core", f"{sum(cpu.values()) / wall_s:.1%}", "25%"),
        ("load of the machine", f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", ""),
    ]
    for name, value, target in rows:
        print(f"{name:<34} {value:>16}   {f'at most {target}' if target[:1].isdigit() else target}")
    for reason in result["reasons"]:
        print(reason)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "idc-fire")
