"""The Links protocol on the relay: the right proxies, the right streams, idempotent, read back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from wire_ends import Api, Upstream, dial, last_word, read, relay_process, silent

from chaoslab.errors import LinkError
from chaoslab.spec.stackfile.topology import Address, Flow
from chaoslab.stack.embedded.relay_links import RelayLinks
from chaoslab.stack.protocol import Degradation, Links

OUT, BACK = Flow("pangyo", "anyang"), Flow("anyang", "pangyo")
ANY = Address("127.0.0.1", 0)


class Wired:
    """Two links, one opened each way, and an established connection over each."""

    def __init__(self, api: Api, upstream: Upstream) -> None:
        target = Address(*upstream.listening.getsockname())
        self.links = RelayLinks(api.address)
        self.out = self.links.add_proxy("out", OUT, ANY, target)
        self.back = self.links.add_proxy("back", BACK, ANY, target)
        self.out_client = dial(self.out)
        self.out_served = upstream.accept()
        self.back_client = dial(self.back)
        self.back_served = upstream.accept()

    def ends(self, travelling: Flow) -> list[tuple]:
        """(sender, receiver) of everything that travels a flow: requests one way, answers of the other."""
        if travelling == OUT:
            return [(self.out_client, self.out_served), (self.back_served, self.back_client)]
        return [(self.back_client, self.back_served), (self.out_served, self.out_client)]


@pytest.fixture
def wired(relay: Api, upstream: Upstream) -> Iterator[Wired]:
    made = Wired(relay, upstream)
    yield made
    for end in (made.out_client, made.out_served, made.back_client, made.back_served):
        end.close()


def took_s(sender, receiver) -> float:
    begun = time.monotonic()
    sender.sendall(b"x")
    assert read(receiver, 1) == b"x"
    return time.monotonic() - begun


def test_it_is_links(wired: Wired):
    """The static type says so too: mypy checks this assignment."""
    links: Links = wired.links
    assert links.fenced() == frozenset()


def test_a_fence_holds_requests_one_way_and_answers_of_the_other(wired: Wired):
    """A flow is about packets, not about which side opened the connection."""
    wired.links.fence([OUT], "test")
    for sender, receiver in wired.ends(OUT):
        sender.sendall(b"held")
        assert silent(receiver)
    for sender, receiver in wired.ends(BACK):
        assert took_s(sender, receiver) < 0.2
    wired.links.lift([OUT], "test")
    for _, receiver in wired.ends(OUT):
        assert read(receiver, 4) == b"held"


def test_fences_add_up_and_lift_apart(wired: Wired):
    """Two faults may overlap; healing one leaves the other."""
    wired.links.fence([OUT], "test")
    wired.links.fence([BACK, OUT], "test")
    assert wired.links.fenced() == {OUT, BACK}
    wired.links.lift([OUT], "test")
    wired.links.lift([OUT], "test")
    assert wired.links.fenced() == {BACK}


def test_degrade_strikes_what_travels_one_way(wired: Wired):
    """Upstream of one link, downstream of the other; a second degradation replaces the first."""
    wired.links.degrade([OUT], Degradation(latency_ms=900))
    wired.links.degrade([OUT], Degradation(latency_ms=200, bandwidth_kbps=1000))
    for sender, receiver in wired.ends(OUT):
        assert 0.19 <= took_s(sender, receiver) < 0.6
    for sender, receiver in wired.ends(BACK):
        assert took_s(sender, receiver) < 0.15
    for _ in range(2):
        wired.links.restore([OUT])
    for sender, receiver in wired.ends(OUT):
        assert took_s(sender, receiver) < 0.15


def test_loss_costs_some_connections_a_retransmission(wired: Wired, upstream: Upstream):
    """Full loss of this kind: every connection waits 200 ms and the round trip, none stalls, nothing is lost."""
    wired.links.degrade([OUT], Degradation(latency_ms=50, loss=1.0))
    for sender, receiver in wired.ends(OUT):
        assert 0.34 <= took_s(sender, receiver) < 0.8


def test_refuse_is_about_who_opens(wired: Wired):
    """Links opened that way are closed; those opened the other way work on, answers included."""
    for _ in range(2):
        wired.links.refuse([OUT])
    assert last_word(wired.out_client) == last_word(wired.out_served) == "FIN"
    with pytest.raises(ConnectionRefusedError):
        dial(wired.out)
    assert took_s(wired.back_client, wired.back_served) < 0.2
    for _ in range(2):
        wired.links.restore([OUT])
    dial(wired.out).close()


def test_reset_strikes_at_the_next_byte(wired: Wired, upstream: Upstream):
    """New connections RST, established ones FIN, idle ones live; restored, new ones work."""
    for _ in range(2):
        wired.links.reset([OUT])
    with dial(wired.out) as new:
        new.sendall(b"x")
        assert last_word(new) == "RST"
    wired.out_client.sendall(b"x")
    assert last_word(wired.out_client) == "FIN"
    assert took_s(wired.back_client, wired.back_served) < 0.2
    wired.links.restore([OUT])
    upstream.accept().close()  # the one that was reset had been dialled
    with dial(wired.out) as again, upstream.accept() as served:
        assert took_s(again, served) < 0.2


def test_the_epoch_tells_a_restart():
    """Another process, another epoch; the same one, the same."""
    seen = []
    for _ in range(2):
        with relay_process() as (_, address):
            links = RelayLinks(address)
            seen.append(links.epoch())
            assert links.epoch() == seen[-1]
    assert seen[0] != seen[1]


def test_a_router_is_wired_by_name(wired: Wired, upstream: Upstream):
    """Clients of no site go straight."""
    address = wired.links.add_router("router", ANY, Address(*upstream.listening.getsockname()), {"anyang": "back"})
    with dial(address) as client, upstream.accept() as served:
        assert took_s(client, served) < 0.5
    with pytest.raises(LinkError, match="proxy not found"):
        wired.links.add_router("other", ANY, ANY, {"anyang": "nobody"})


def test_a_dead_relay_is_an_error_not_a_heal():
    """Every verb says so."""
    with relay_process() as (_, address):
        links = RelayLinks(address)
    for verb in (links.fenced, links.epoch, lambda: links.fence([OUT], "test"), lambda: links.lift([OUT], "test")):
        with pytest.raises(LinkError):
            verb()
