"""What one proxied HTTP request costs the relay, in CPU time. Prints figures; run by hand.

python tests/bench/bench_relay.py [REQUESTS]
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import psutil

from chaoslab.links.relay_links import RelayLinks
from chaoslab.stack.protocol import Degradation
from chaoslab.stack.topology import Address, Flow

REQUEST = b"GET /talk/messages?limit=20 HTTP/1.1\r\nHost: talk\r\nAuthorization: Bearer demo\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"x" * 500
OUT = Flow("pangyo", "anyang")
BULK_BYTES = 200 * 1024 * 1024


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
        [sys.executable, "-m", "chaoslab.links.relay", "--api", "127.0.0.1:0", "--run", "bench"],
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
    finally:
        relay.terminate()
        relay.wait()


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
