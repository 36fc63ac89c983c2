"""The address that each client gets: its own site directly, others through exactly one link, advertised ones by a router."""

from dataclasses import replace
from itertools import count

import pytest

from chaoslab.errors import StackError
from chaoslab.spec.stackfile.model import StackSpec
from chaoslab.spec.stackfile.topology import Flow, Replica, Topology, places_of
from chaoslab.stack.embedded.launch import start_order
from chaoslab.stack.embedded.wiring import Wiring
from chaoslab.stack.reach import require_replica

REPLICAS = (
    Replica("db-a", "db", "a", (5432,)),
    Replica("app-a", "app", "a", (80,)),
    Replica("app-b", "app", "b", (80,)),
    Replica("entry", "entry", "outside", (8080,)),
)


def wiring(advertised: list[str] | None = None) -> Wiring:
    spec = StackSpec(sites=["a", "b"], entry="entry:8080", advertised=advertised or [])
    topology = Topology("p", REPLICAS, spec, places_of(REPLICAS))
    ports = count(20_000)
    return Wiring(topology, lambda: next(ports))


def test_a_caller_in_the_same_site_gets_the_replica_itself() -> None:
    """Traffic inside a site crosses no link, so a fence around the site leaves it alone."""
    wires = wiring()
    given = wires.given_to(REPLICAS[1], "db-a:5432")
    assert given == str(wires.local("db-a", 5432))
    assert not wires.proxies


def test_a_caller_elsewhere_gets_the_link_between_the_two_places() -> None:
    """Each pair of places has a link of its own, so that cutting one leaves the others."""
    wires = wiring()
    from_b, from_outside = wires.given_to(REPLICAS[2], "db-a:5432"), wires.given_to(REPLICAS[3], "db-a:5432")
    assert from_b != from_outside
    assert {proxy.flow for proxy in wires.proxies} == {Flow("b", "a"), Flow("outside", "a")}
    assert {proxy.upstream for proxy in wires.proxies} == {wires.local("db-a", 5432)}


def test_asking_twice_gives_the_same_address() -> None:
    """Addresses are stable over a run, also for a replica that is started again."""
    wires = wiring()
    assert wires.given_to(REPLICAS[2], "db-a:5432") == wires.given_to(REPLICAS[2], "db-a:5432")
    assert len(wires.proxies) == 1


def test_an_advertised_address_is_one_for_every_member_of_its_service() -> None:
    """What etcd and Patroni advertise must read the same everywhere; other services get the proxy of their link."""
    wires = wiring(["db-a:5432"])
    members = [REPLICAS[0], replace(REPLICAS[0], name="db-b", site="b")]
    given = {wires.given_to(client, "db-a:5432") for client in members}
    assert len(given) == 1
    assert set(wires.routers[0].routes) == {"b", "outside"}
    assert wires.given_to(REPLICAS[2], "db-a:5432") not in given


def test_where_a_replica_listens_is_its_own_local_port() -> None:
    """`0.0.0.0:port` never means every interface here."""
    wires = wiring()
    assert wires.given_to(REPLICAS[1], "0.0.0.0:80") == str(wires.local("app-a", 80))
    assert wires.local("app-a", 80).host == "127.0.0.1"


@pytest.mark.parametrize("default", ["warn", "elsewhere:80", "http://db-a:5432", "db-a", "db-a:http"])
def test_what_is_no_address_of_the_stack_is_left_alone(default: str) -> None:
    """Other defaults are none of our business."""
    assert wiring().given_to(REPLICAS[1], default) is None


def test_an_unknown_replica_names_the_known_ones() -> None:
    """The error helps."""
    with pytest.raises(StackError, match="it has db-a, app-a"):
        require_replica(wiring().topology, "db-c")


def test_the_start_order_follows_depends_on() -> None:
    """A replica starts after what it needs; a file with a circle is refused as it is read."""
    one, two = Replica("one", "one", "a"), Replica("two", "two", "a", depends_on=("one",))
    assert start_order([two, one]) == [["one"], ["two"]]
