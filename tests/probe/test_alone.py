"""`chaoslab probe URL…`: every outage of a known length, as an interval that holds it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from chaoslab.clock import NS_PER_S

SLOT_S = 0.02
KINDS = ("refused", "silent", "503", "slow")


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "chaoslab", "probe", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def probe_once(*arguments: str) -> tuple[int, str, str]:
    child = start(*arguments)
    out, err = child.communicate(timeout=30)
    return child.returncode, out, err


def honest(found: dict) -> int:
    """The exit code that these findings must have; on a machine that stood still nothing but 3 is right."""
    if found["skewed"] > 0.01 * found["slots"]:
        return 3
    return 1 if found["outages"] else 0


def test_every_kind_of_outage_is_an_interval_that_holds_its_length(serve):
    """Refused, silent, 503 and slow, each 0.7 s long. (How near low and high are: tests/bench/bench_outages.py.)"""
    servers = [serve(lead_s=1.5, windows=[{"kind": kind, "at_s": 0.5, "for_s": 0.7}]) for kind in KINDS]
    code, out, _ = probe_once(*(f"{server.url}/x" for server in servers), "--for", "5s", "--json")
    found = json.loads(out)
    assert code == honest(found)
    assert found["slots"] == 250 * len(KINDS)
    assert found["reliable"] is (code != 3)
    assert found["good"] == found["slots"] - sum(outage["slots"] for outage in found["outages"])
    assert len(found["outages"]) == len(KINDS)
    for server in servers:
        truth = server.line()
        closed_s = (truth["end_ns"] - truth["begin_ns"]) / NS_PER_S
        unserved_s = (truth["served_after_ns"] - truth["served_before_ns"]) / NS_PER_S
        [outage] = found["urls"][f"{server.url}/x"]["outages"]
        assert outage["high_s"] >= closed_s, (outage, truth)
        assert outage["low_s"] <= unserved_s, (outage, truth)


def test_begin_counts_from_the_first_slot(serve):
    server = serve(lead_s=1, windows=[{"kind": "503", "at_s": 0, "for_s": 0.5}])
    child = start(f"{server.url}/x", "--for", "3s", "--json")
    out, _ = child.communicate(timeout=20)
    [outage] = json.loads(out)["outages"]
    assert 0 < outage["at"] < 2
    assert 20 <= outage["slots"] <= 30
    assert outage["error"] == "status 503"


def test_no_outage_is_0_and_several_urls_are_kept_apart(serve):
    server = serve()
    urls = [f"{server.url}/x", f"tcp://127.0.0.1:{server.port}"]
    code, out, _ = probe_once(*urls, "--for", "500ms", "--json")
    found = json.loads(out)
    assert code == honest(found)
    assert (found["slots"], found["good"], found["outages"]) == (50, 50, [])
    assert {url: one["slots"] for url, one in found["urls"].items()} == dict.fromkeys(urls, 25)


def test_a_broken_page_is_an_outage_without_end(serve):
    """What was never good has no upper bound."""
    code, out, _ = probe_once(f"{serve().url}/broken", "--for", "300ms", "--json")
    found = json.loads(out)
    [outage] = found["outages"]
    assert (code, outage["high_s"], outage["slots"]) == (honest(found), None, 15)


def test_outages_are_printed_as_they_happen(serve):
    """The lines are there while the drill is on, not only after it; Ctrl-C ends with the summary."""
    server = serve(lead_s=1.5, windows=[{"kind": "refused", "at_s": 0, "for_s": 0.5}])
    child = start(f"{server.url}/x")
    lines = [child.stdout.readline() for _ in range(3)]
    child.send_signal(signal.SIGINT)
    rest, _ = child.communicate(timeout=10)
    assert "DOWN  refused" in lines[1]
    assert "UP    after 0." in lines[2]
    assert "outage 1:" in rest
    assert child.returncode in (1, 3)


def test_a_prober_that_stood_still_exits_3(serve):
    """Known bad: ^Z of the prober itself. What it saw can not be relied on, and it says so."""
    child = start(f"{serve().url}/x", "--for", "2s", "--json")
    child.stderr.readline()
    time.sleep(0.8)
    os.kill(child.pid, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(child.pid, signal.SIGCONT)
    out, _ = child.communicate(timeout=10)
    found = json.loads(out)
    assert child.returncode == 3
    assert (found["skewed"] >= 20, found["reliable"]) == (True, False)
    assert found["slots"] == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ftp://x"], "http://, https:// or tcp://"),
        ([], "Missing argument"),
        (["http://x", "--for", "5"], "write a number with its unit"),
        (["http://x", "--for", "0"], "is not longer than 0"),
        (["http://x", "--rate", "0"], "--rate"),
    ],
)
def test_a_wrong_command_line_is_2_with_a_message(arguments, message):
    code, _, err = probe_once(*arguments)
    assert code == 2
    assert message in err


def test_a_closed_loop_client_misses_the_outage_that_the_prober_sees(serve):
    """Known bad: a client that waits for each answer makes one slow request of a frozen second; the prober fifty bad slots."""
    server = serve()
    child = start(f"{server.url}/x", "--for", "3s", "--json")
    child.stderr.readline()
    waited: list[bool] = []
    over = threading.Event()

    def closed_loop() -> None:
        while not over.is_set():
            client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            client.request("GET", "/x")
            waited.append(client.getresponse().status == 200)
            client.close()
            time.sleep(SLOT_S)

    user = threading.Thread(target=closed_loop)
    user.start()
    time.sleep(0.7)
    server.freeze(1.5)
    out, _ = child.communicate(timeout=20)
    over.set()
    user.join()
    [outage] = json.loads(out)["outages"]
    assert all(waited)  # "100 % available"
    assert outage["slots"] >= 40
    assert outage["low_s"] <= 1.6 <= outage["high_s"] + 0.1


def test_an_ipv6_address_can_be_probed():
    if not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    with socket.socket(socket.AF_INET6) as listener:
        try:
            listener.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 on this machine")
        listener.listen(64)
        code, out, _ = probe_once(f"tcp://[::1]:{listener.getsockname()[1]}", "--for", "200ms", "--json")
    found = json.loads(out)
    assert (code, found["good"]) == (honest(found), 10)
