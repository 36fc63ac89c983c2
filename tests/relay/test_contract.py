"""One suite for two servers: the relay behaves as Toxiproxy 2.12 does, over HTTP and on the wire."""

from __future__ import annotations

import hashlib
import socket
import threading
import time

import pytest
from toxiproxy.api import APIConsumer
from toxiproxy.server import Toxiproxy
from wire_ends import TIMEOUT_S, Api, Upstream, dial, free_port, last_word, read, silent

# --- over HTTP


def test_version_is_the_one_we_speak(api: Api):
    """Clients decide by the version what they may ask for."""
    assert api("GET", "/version").json() == {"version": "2.12.0"}


def test_a_new_proxy_is_shown_whole(api: Api, upstream: Upstream):
    """201, with the port that was taken for port 0; then the same from the index and on its own."""
    answer = api("POST", "/proxies", {"name": "p", "listen": "127.0.0.1:0", "upstream": upstream.address})
    made = answer.json()
    assert answer.status_code == 201
    assert {key: made[key] for key in ("name", "upstream", "enabled", "toxics")} == {
        "name": "p",
        "upstream": upstream.address,
        "enabled": True,
        "toxics": [],
    }
    assert not made["listen"].endswith(":0")
    assert api("GET", "/proxies/p").json() == made
    assert api("GET", "/proxies").json() == {"p": made}


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"listen": "127.0.0.1:0", "upstream": "127.0.0.1:1"}, 400, "missing required field: name"),
        ({"name": "q", "listen": "127.0.0.1:0"}, 400, "missing required field: upstream"),
        ({"name": "p", "upstream": "127.0.0.1:1"}, 409, "proxy already exists"),
        ({"name": 7, "upstream": "127.0.0.1:1"}, 400, "bad request body: "),
        ([], 400, "bad request body: "),
        ({"name": "q", "listen": "nowhere", "upstream": "127.0.0.1:1"}, 500, "listen tcp"),
    ],
)
def test_a_proxy_that_cannot_be_made_is_refused(api: Api, upstream: Upstream, body, status, error):
    """The status and the first words of the error are Toxiproxy's, and nothing is made."""
    api.proxy(upstream.address)
    answer = api("POST", "/proxies", body)
    assert answer.status_code == status
    assert answer.json()["status"] == status
    assert answer.json()["error"].startswith(error)
    assert list(api("GET", "/proxies").json()) == ["p"]


def test_a_taken_port_is_a_server_error(api: Api, upstream: Upstream):
    """500, and no half-made proxy stays behind."""
    answer = api("POST", "/proxies", {"name": "p", "listen": upstream.address, "upstream": "127.0.0.1:1"})
    assert answer.status_code == 500
    assert "in use" in answer.json()["error"]
    assert api("GET", "/proxies/p").status_code == 404


@pytest.mark.parametrize("body", [b"", b"{", b"null x", b'{"name": "\xff', b"[[[["])
def test_a_broken_body_is_a_bad_request(api: Api, body):
    """Whatever is not JSON of the right shape is a 400 that says so."""
    answer = api.session.post(f"http://{api.address}/proxies", data=body, timeout=TIMEOUT_S)
    assert answer.status_code == 400
    assert answer.json()["status"] == 400


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_proxy_changes_in_place(api: Api, upstream: Upstream, method):
    """A change of the upstream keeps the listener, and what was not named stays as it was."""
    address = api.proxy("127.0.0.1:1")
    changed = api(method, "/proxies/p", {"upstream": upstream.address}).json()
    assert (changed["upstream"], changed["enabled"]) == (upstream.address, True)
    assert changed["listen"] == "{}:{}".format(*address)
    dial(address).sendall(b"x")
    assert read(upstream.accept(), 1) == b"x"


def test_a_deleted_proxy_is_gone(api: Api, upstream: Upstream):
    """204 once, 404 afterwards; its port is free."""
    address = api.proxy(upstream.address)
    assert api("DELETE", "/proxies/p").status_code == 204
    assert api("DELETE", "/proxies/p").status_code == 404
    socket.create_server(address).close()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/proxies/no"),
        ("POST", "/proxies/no"),
        ("PATCH", "/proxies/no"),
        ("DELETE", "/proxies/no"),
        ("GET", "/proxies/no/toxics"),
        ("POST", "/proxies/no/toxics"),
        ("GET", "/proxies/no/toxics/t"),
        ("DELETE", "/proxies/no/toxics/t"),
    ],
)
def test_an_unknown_proxy_is_not_found(api: Api, method, path):
    """404 comes before anything about the body."""
    answer = api(method, path, {})
    assert (answer.status_code, answer.json()) == (404, {"error": "proxy not found", "status": 404})


def test_a_toxic_has_a_name_of_its_own_accord(api: Api, upstream: Upstream):
    """`<type>_<stream>`, downstream and with toxicity 1 by default."""
    api.proxy(upstream.address)
    answer = api("POST", "/proxies/p/toxics", {"type": "latency", "attributes": {"latency": 5}})
    wanted = {
        "name": "latency_downstream",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 1,
        "attributes": {"latency": 5, "jitter": 0},
    }
    assert (answer.status_code, answer.json()) == (200, wanted)
    assert api("GET", "/proxies/p/toxics").json() == [wanted]
    assert api("GET", "/proxies/p/toxics/latency_downstream").json() == wanted
    assert api("GET", "/proxies/p").json()["toxics"] == [wanted]


def test_toxics_are_listed_upstream_first(api: Api, upstream: Upstream):
    """Each direction in the order of adding."""
    api.proxy(upstream.address)
    for kind, stream in (("slow_close", "downstream"), ("latency", "upstream"), ("timeout", "downstream")):
        api.toxic(kind, stream)
    listed = [toxic["name"] for toxic in api("GET", "/proxies/p/toxics").json()]
    assert listed == ["latency_upstream", "slow_close_downstream", "timeout_downstream"]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"type": "nonsense"}, 400, "invalid toxic type"),
        ({}, 400, "invalid toxic type"),
        ({"type": "latency", "stream": "sideways"}, 400, "stream was invalid, can be either upstream or downstream"),
        ({"type": "latency"}, 409, "toxic already exists"),
        ({"type": "timeout", "name": "latency_downstream"}, 409, "toxic already exists"),
        ({"type": "timeout", "attributes": {"timeout": "long"}}, 400, "bad request body: "),
        ({"type": "timeout", "attributes": {"timeout": 1.5}}, 400, "bad request body: "),
        ({"type": "timeout", "toxicity": "often"}, 400, "bad request body: "),
    ],
)
def test_a_toxic_that_cannot_be_is_refused(api: Api, upstream: Upstream, body, status, error):
    """The status and the words are Toxiproxy's, and nothing is set."""
    api.proxy(upstream.address)
    api.toxic("latency")
    answer = api("POST", "/proxies/p/toxics", body)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(error)
    assert len(api("GET", "/proxies/p/toxics").json()) == 1


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_change_of_a_toxic_keeps_what_it_does_not_name(api: Api, upstream: Upstream, method):
    """Attributes are merged; the toxicity stays."""
    api.proxy(upstream.address)
    name = api.toxic("latency", latency=5, jitter=3, toxicity=0.5)
    changed = api(method, f"/proxies/p/toxics/{name}", {"attributes": {"latency": 9}}).json()
    assert changed["attributes"] == {"latency": 9, "jitter": 3}
    assert changed["toxicity"] == 0.5
    assert api(method, f"/proxies/p/toxics/{name}", {"toxicity": 0.25}).json()["toxicity"] == 0.25


def test_an_unknown_toxic_is_not_found(api: Api, upstream: Upstream):
    """404 for every verb."""
    api.proxy(upstream.address)
    for method in ("GET", "POST", "PATCH", "DELETE"):
        answer = api(method, "/proxies/p/toxics/no", {})
        assert (answer.status_code, answer.json()["error"]) == (404, "toxic not found")


def test_reset_makes_everything_as_new(api: Api, upstream: Upstream):
    """Every proxy is enabled again, on its old port, and without toxics."""
    address = api.proxy(upstream.address)
    api.toxic("timeout")
    api("POST", "/proxies/p", {"enabled": False})
    assert api("POST", "/reset").status_code == 204
    seen = api("GET", "/proxies/p").json()
    assert (seen["enabled"], seen["toxics"], seen["listen"]) == (True, [], "{}:{}".format(*address))


def test_populate_creates_replaces_and_leaves_alone(api: Api, upstream: Upstream):
    """What is the same keeps its toxics; what differs is made anew; what is not named stays."""
    same, other = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    first = [
        {"name": "a", "listen": same, "upstream": upstream.address},
        {"name": "b", "listen": other, "upstream": "127.0.0.1:1"},
    ]
    assert api("POST", "/populate", first).status_code == 201
    api.toxic("latency", proxy="a")
    api.toxic("latency", proxy="b")
    first[1]["upstream"] = upstream.address
    answer = api("POST", "/populate", first)
    assert answer.status_code == 201
    assert [len(proxy["toxics"]) for proxy in answer.json()["proxies"]] == [1, 0]


def test_populate_checks_everything_before_it_does_anything(api: Api):
    """One missing field, and nothing is made; the error says which."""
    answer = api("POST", "/populate", [{"name": "a", "upstream": "127.0.0.1:1"}, {"name": "b"}])
    assert answer.status_code == 400
    assert answer.json()["error"] == "missing required field: upstream at proxy 2"
    assert api("GET", "/proxies").json() == {}


def test_browsers_are_turned_away(api: Api):
    """A page in a browser must not be able to reconfigure links."""
    answer = api("GET", "/proxies", headers={"User-Agent": "Mozilla/5.0"})
    assert answer.status_code == 403


def test_unknown_routes_and_methods(api: Api):
    """404 and 405."""
    assert api("GET", "/nothing").status_code == 404
    assert api("DELETE", "/proxies").status_code == 405


def test_the_python_client_works(api: Api, upstream: Upstream):
    """toxiproxy-python, unmodified, finds everything it expects."""
    host, _, port = api.address.partition(":")
    client = Toxiproxy()
    client.update_api_consumer(host, int(port))
    try:
        proxy = client.create(upstream=upstream.address, name="py")
        proxy.add_toxic(type="latency", attributes={"latency": 7})
        assert proxy.get_toxic("latency_downstream").attributes["latency"] == 7
        proxy.disable()
        assert client.get_proxy("py").enabled is False
        client.reset()
        assert client.get_proxy("py").enabled is True
        assert proxy.toxics() == {}
        assert client.destroy(proxy)
        assert client.proxies() == {}
    finally:
        APIConsumer.host, APIConsumer.port = "127.0.0.1", 8474


# --- on the wire


def joined(api: Api, upstream: Upstream) -> tuple[tuple[str, int], socket.socket, socket.socket]:
    """A proxy, and both ends of an established connection through it."""
    address = api.proxy(upstream.address)
    client = dial(address)
    return address, client, upstream.accept()


def test_bytes_pass_unchanged_both_ways(api: Api, upstream: Upstream):
    """Eight megabytes each way, at once."""
    _, client, served = joined(api, upstream)
    payload = hashlib.sha256(b"seed").digest() * 262_144
    senders = [threading.Thread(target=end.sendall, args=(payload,)) for end in (client, served)]
    got: dict[str, bytes] = {}
    readers = [
        threading.Thread(target=lambda end=end, name=name: got.update({name: read(end, len(payload))}))
        for end, name in ((client, "client"), (served, "served"))
    ]
    for thread in senders + readers:
        thread.start()
    for thread in senders + readers:
        thread.join(TIMEOUT_S * 4)
    assert got["client"] == got["served"] == payload


@pytest.mark.parametrize("side", ["client", "served"])
def test_a_close_reaches_the_other_side_after_the_data(api: Api, upstream: Upstream, side):
    """The last bytes come first, then FIN."""
    _, client, served = joined(api, upstream)
    closing, other = (client, served) if side == "client" else (served, client)
    closing.sendall(b"last")
    closing.close()
    assert read(other, 10) == b"last"


def test_a_half_close_ends_the_connection(api: Api, upstream: Upstream):
    """Toxiproxy knows no half-open connections; neither does the relay."""
    _, client, served = joined(api, upstream)
    client.shutdown(socket.SHUT_WR)
    assert last_word(served) == "FIN"
    assert last_word(client) == "FIN"


def test_an_upstream_that_refuses_ends_the_client(api: Api):
    """The client is taken and then ended."""
    address = api.proxy(f"127.0.0.1:{free_port()}")
    assert last_word(dial(address)) in ("FIN", "RST")


def test_disabled_ends_and_refuses(api: Api, upstream: Upstream):
    """FIN to both sides at once, new connections refused; enabled again, new ones work."""
    address, client, served = joined(api, upstream)
    api("POST", "/proxies/p", {"enabled": False})
    assert [last_word(client), last_word(served)] == ["FIN", "FIN"]
    with pytest.raises(ConnectionRefusedError):
        dial(address)
    api("POST", "/proxies/p", {"enabled": True})
    dial(address).sendall(b"x")
    assert read(upstream.accept(), 1) == b"x"


def test_timeout_zero_eats_and_hangs(api: Api, upstream: Upstream):
    """Established and new connections hang; the removal ends them, and what was eaten is lost."""
    address, client, served = joined(api, upstream)
    toxics = [api.toxic("timeout", stream) for stream in ("upstream", "downstream")]
    client.sendall(b"eaten")
    served.sendall(b"eaten")
    late = dial(address)
    late_served = upstream.accept()
    late.sendall(b"eaten")
    assert all(silent(end, 0.1) for end in (client, served, late, late_served))
    for name in toxics:
        api.cure(name)
    assert {last_word(end) for end in (served, late_served)} <= {"FIN", "RST"}
    assert last_word(client) in ("FIN", "RST")


def test_timeout_leaks_the_end_of_the_upstream(api: Api, upstream: Upstream):
    """Why a toxic is no fence: the upstream's FIN passes at once."""
    _, client, served = joined(api, upstream)
    api.toxic("timeout", "upstream")
    api.toxic("timeout", "downstream")
    served.close()
    assert last_word(client) == "FIN"


def test_timeout_ends_after_its_time(api: Api, upstream: Upstream):
    """300 ms without data, then FIN."""
    address = api.proxy(upstream.address)
    api.toxic("timeout", timeout=300)
    begun = time.monotonic()
    client = dial(address)
    with upstream.accept():
        assert last_word(client) == "FIN"
    assert 0.25 < time.monotonic() - begun < 1.5


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_latency_delays_one_way_only(api: Api, upstream: Upstream, stream):
    """300 ms this way, nothing the other way."""
    _, client, served = joined(api, upstream)
    api.toxic("latency", stream, latency=300)
    slow = (client, served) if stream == "upstream" else (served, client)
    for (sender, receiver), low_s, high_s in ((slow, 0.29, 1.0), (slow[::-1], 0.0, 0.2)):
        begun = time.monotonic()
        sender.sendall(b"x")
        assert read(receiver, 1) == b"x"
        assert low_s <= time.monotonic() - begun < high_s


def test_jitter_keeps_the_order(api: Api, upstream: Upstream):
    """Each piece has its own delay, none overtakes another."""
    _, client, served = joined(api, upstream)
    api.toxic("latency", "upstream", latency=20, jitter=20)
    for number in range(50):
        client.sendall(bytes([number]))
        time.sleep(0.001)
    assert read(served, 50) == bytes(range(50))


@pytest.mark.parametrize(("kind", "attributes"), [("latency", {"latency": 600_000}), ("bandwidth", {"rate": 0})])
def test_held_data_is_delivered_late(api: Api, upstream: Upstream, kind, attributes):
    """Huge latency and no bandwidth hang; taken away, the connection lives and the data arrives."""
    _, client, served = joined(api, upstream)
    name = api.toxic(kind, "upstream", **attributes)
    client.sendall(b"held")
    assert silent(served)
    api.cure(name)
    assert read(served, 4) == b"held"
    client.sendall(b"more")
    assert read(served, 4) == b"more"


def test_bandwidth_takes_its_time(api: Api, upstream: Upstream):
    """60 kB at 100 kB/s: 0.6 s."""
    _, client, served = joined(api, upstream)
    api.toxic("bandwidth", "upstream", rate=100)
    begun = time.monotonic()
    client.sendall(b"x" * 60_000)
    assert len(read(served, 60_000)) == 60_000
    assert 0.5 < time.monotonic() - begun < 1.2


def test_bandwidth_pushes_back(api: Api, upstream: Upstream):
    """A sender notices: it cannot pour megabytes into a thin line."""
    _, client, _ = joined(api, upstream)
    api.toxic("bandwidth", "upstream", rate=10)
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.sendall(b"x" * 64_000_000)


def test_reset_peer_ends_established_ones_at_their_next_byte(api: Api, upstream: Upstream):
    """Idle ones hear nothing; one that speaks gets FIN, not RST."""
    _, client, _served = joined(api, upstream)
    api.toxic("reset_peer", "upstream")
    api.toxic("reset_peer", "downstream")
    assert silent(client)
    client.sendall(b"x")
    assert last_word(client) == "FIN"


def test_reset_peer_resets_new_ones_at_their_first_byte(api: Api, upstream: Upstream):
    """The connection is made; the first byte brings RST."""
    address = api.proxy(upstream.address)
    api.toxic("reset_peer", "upstream")
    api.toxic("reset_peer", "downstream")
    client = dial(address)
    assert silent(client)
    client.sendall(b"x")
    assert last_word(client) == "RST"


def test_idle_connections_survive_reset_peer(api: Api, upstream: Upstream):
    """A connection that sent nothing meanwhile lives on."""
    _, client, served = joined(api, upstream)
    names = [api.toxic("reset_peer", stream) for stream in ("upstream", "downstream")]
    for name in names:
        api.cure(name)
    client.sendall(b"alive")
    assert read(served, 5) == b"alive"


@pytest.mark.parametrize("limit", [0, 1, 10])
def test_limit_data_counts_bytes(api: Api, upstream: Upstream, limit):
    """Exactly so many pass, then FIN."""
    _, client, served = joined(api, upstream)
    api.toxic("limit_data", "upstream", bytes=limit)
    assert silent(served, 0.1)
    client.sendall(b"0123456789abcdef")
    assert read(served, 20) == b"0123456789abcdef"[:limit]


def test_slow_close_delays_the_end_only(api: Api, upstream: Upstream):
    """Data at once, FIN 400 ms late."""
    _, client, served = joined(api, upstream)
    api.toxic("slow_close", "upstream", delay=400)
    begun = time.monotonic()
    client.sendall(b"now")
    client.close()
    assert read(served, 3) == b"now"
    assert time.monotonic() - begun < 0.3
    assert last_word(served) == "FIN"
    assert 0.35 < time.monotonic() - begun < 1.5


def test_slicer_cuts_and_loses_nothing(api: Api, upstream: Upstream):
    """Many small pieces, the same bytes."""
    _, client, served = joined(api, upstream)
    api.toxic("slicer", "upstream", average_size=100, size_variation=20, delay=500)
    payload = bytes(range(256)) * 16
    client.sendall(payload)
    pieces = []
    while sum(map(len, pieces)) < len(payload):
        pieces.append(served.recv(65536))
    assert b"".join(pieces) == payload
    assert len(pieces) > 10


def test_toxicity_zero_strikes_nobody(api: Api, upstream: Upstream):
    """Set, shown, and harmless."""
    _, client, served = joined(api, upstream)
    api.toxic("timeout", "upstream", toxicity=0.0)
    client.sendall(b"x")
    assert read(served, 1) == b"x"


def test_toxicity_strikes_a_share_of_connections(api: Api, upstream: Upstream):
    """Half of many: neither none nor all."""
    address = api.proxy(upstream.address)
    api.toxic("latency", "upstream", toxicity=0.5, latency=60_000)
    passed = 0
    for _ in range(40):
        with dial(address) as client, upstream.accept() as served:
            client.sendall(b"x")
            passed += not silent(served, 0.02)
    assert 5 <= passed <= 35


def test_toxics_act_together(api: Api, upstream: Upstream):
    """Two latencies add up, and each can go on its own."""
    _, client, served = joined(api, upstream)
    api("POST", "/proxies/p/toxics", {"name": "a", "type": "latency", "stream": "upstream", "attributes": {"latency": 200}})
    api("POST", "/proxies/p/toxics", {"name": "b", "type": "latency", "stream": "upstream", "attributes": {"latency": 150}})
    for low_s, high_s, gone in ((0.34, 0.9, "a"), (0.14, 0.33, "b"), (0.0, 0.1, None)):
        begun = time.monotonic()
        client.sendall(b"x")
        assert read(served, 1) == b"x"
        assert low_s <= time.monotonic() - begun < high_s
        if gone:
            api.cure(gone)


def test_a_change_strikes_what_is_established(api: Api, upstream: Upstream):
    """Toxicity 0 to 1, and latency up: the next byte feels it."""
    _, client, served = joined(api, upstream)
    name = api.toxic("latency", "upstream", toxicity=0.0, latency=10)
    api("PATCH", f"/proxies/p/toxics/{name}", {"toxicity": 1.0, "attributes": {"latency": 300}})
    begun = time.monotonic()
    client.sendall(b"x")
    assert read(served, 1) == b"x"
    assert time.monotonic() - begun >= 0.29
