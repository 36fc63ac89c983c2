"""What one proxied HTTP request costs the relay, in CPU time, and how long its fence takes. Prints figures; run by hand.

python tests/bench/bench_relay.py [REQUESTS]
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from statistics import median

import psutil

from chaoslab.spec.stackfile.topology import Address, Flow
from chaoslab.stack.embedded.relay_links import RelayLinks
from chaoslab.stack.protocol import Degradation

REQUEST = b"GET /talk/messages?limit=20 HTTP/1.1\r\nHost: talk\r\nAuthorization: Bearer demo\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"x" * 500
OUT = Flow("pangyo", "anyang")
BULK_BYTES = 200 * 1024 * 1024
DOORS, ROUNDS = 60, 20


def serve(listening: socket.socket) -> None:
    while True:
        client, _ = listening.accept()
        threading.Thread(target=answer, args=(client,), daemon=True).start()


def answer(client: socket.socket) -> None:
    with client:
        while data := client.recv(1 << 20):
            if data.startswith(b"GET"):
                client.sendall(ANSWER)


def fresh(address: Address, count: int) -> None:
    for _ in range(count):
        with socket.create_connection(address) as client:
            client.sendall(REQUEST)
            client.recv(4096)


def pooled(address: Address, count: int) -> None:
    with socket.create_connection(address) as client:
        for _ in range(count):
            client.sendall(REQUEST)
            client.recv(4096)


def bulk(address: Address, count: int) -> None:
    block = b"x" * (1 << 20)
    with socket.create_connection(address) as client:
        for _ in range(BULK_BYTES // len(block)):
            client.sendall(block)


def main(count: int) -> None:
    relay = subprocess.Popen(
        [sys.executable, "-m", "chaoslab.stack.relay", "--api", "127.0.0.1:0", "--run", "bench"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert relay.stdout is not None
        links = RelayLinks(relay.stdout.readline().split("//")[1].strip())
        upstream = socket.create_server(("127.0.0.1", 0), backlog=512)
        threading.Thread(target=serve, args=(upstream,), daemon=True).start()
        address = links.add_proxy("bench", OUT, Address("127.0.0.1", 0), Address(*upstream.getsockname()))
        process = psutil.Process(relay.pid)
        measure("fresh connections", process, lambda: fresh(address, count), count)
        measure("a pooled connection", process, lambda: pooled(address, count), count)
        measure("bulk, per MB", process, lambda: bulk(address, count), BULK_BYTES // 10**6)
        links.degrade([OUT, Flow("anyang", "pangyo")], Degradation(latency_ms=1))
        measure("fresh, 1 ms latency each way", process, lambda: fresh(address, count // 4), count // 4)
        links.restore([OUT, Flow("anyang", "pangyo")])
        hide_syns(links, address)
    finally:
        relay.terminate()
        relay.wait()


def hide_syns(links: RelayLinks, address: Address) -> None:
    """How long a fence takes to shut and to open many doors, and after how long who waited in connect() gets in."""
    for number in range(DOORS - 1):
        links.add_proxy(f"door{number}", OUT, Address("127.0.0.1", 0), address)
    shut, opened, late = [], [], []
    for round_ in range(ROUNDS):
        shut.append(timed_ms(lambda: links.fence([OUT], "test")))
        with socket.socket() as client:
            client.setblocking(False)
            client.connect_ex(address)
            hidden = not select.select([], [client], [], 0.3 + round_ / ROUNDS)[1]
            opened.append(timed_ms(lambda: links.lift([OUT], "test")))
            late.append(timed_ms(lambda client=client: select.select([], [client], [], 10)))
        assert hidden, "connect() came back behind the fence"
    for what, took_ms in (("shut", shut), ("open", opened), ("then a waiting SYN gets in", late)):
        print(f"{DOORS} doors: {what:40} {median(took_ms):7.1f} ms, at most {max(took_ms):.1f} ms")


def timed_ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def measure(what: str, process: psutil.Process, work, count: int) -> None:
    before, started = cpu_s(process), time.perf_counter()
    work()
    took = time.perf_counter() - started
    print(f"{what:32} {1e6 * (cpu_s(process) - before) / count:7.0f} µs CPU each   {count / took:8.0f}/s")


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
