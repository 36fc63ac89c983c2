"""Which containers the WAN of a stack consists of, and which packets they hold."""

from __future__ import annotations

from chaoslab.spec.stackfile.model import OUTSIDE, StackSpec
from chaoslab.spec.stackfile.topology import Flow, Replica, Topology, places_of
from chaoslab.stack.compose.wan import Network, Reach, Wan, fence_rules, held_by, plan_wans

A, B = "east", "west"


def made(ports: dict[str, tuple[str, tuple[int, ...]]]) -> tuple[Topology, Reach]:
    """A topology of replicas with their sites and ports, and one /24 for each place."""
    replicas = tuple(Replica(name, name, site, numbers) for name, (site, numbers) in ports.items())
    places = places_of(replicas)
    spec = StackSpec(sites=[A, B], entry="entry:80")
    networks = {place: Network(f"p_{place}", f"10.0.{n}.0/24", f"10.0.{n}.1") for n, place in enumerate(places)}
    reach = Reach({one.name: one.ports for one in replicas}, {one.name: (one.name,) for one in replicas}, networks)
    return Topology("p", replicas, spec, places), reach


TWO = {"web-a": (A, (80,)), "db-a": (A, (5432,)), "web-b": (B, (80,)), "entry": (OUTSIDE, (80,))}
CROWDED = {"web-b": (B, (80, 9000)), "auth-b": (B, (80,)), "db-b": (B, (5432,)), "web-a": (A, (80,)), "entry": (OUTSIDE, (80,))}


def by_flow(ports: dict[str, tuple[str, tuple[int, ...]]]) -> dict[Flow, Wan]:
    return {wan.flow: wan for wan in plan_wans(*made(ports))}


def test_every_ordered_pair_with_something_to_reach_has_a_wan():
    """One container a direction, and none to a place where nothing listens."""
    pairs = {(A, B), (B, A), (A, OUTSIDE), (B, OUTSIDE), (OUTSIDE, A), (OUTSIDE, B)}
    assert set(by_flow(TWO)) == {Flow(*pair) for pair in pairs}
    assert Flow(A, OUTSIDE) not in by_flow({**TWO, "entry": (OUTSIDE, ())})


def test_names_without_a_rival_are_the_containers_own():
    """They are found through Docker's DNS and listened for on every address; the far side is dialled by its network's name."""
    wan = by_flow(TWO)[Flow(B, A)]
    assert wan.aliases == ("web-a", "db-a")
    assert wan.hosts == ()
    assert [(one.listen, one.upstream) for one in wan.proxies] == [
        ("[::]:80", "web-a.p_east:80"),
        ("[::]:5432", "db-a.p_east:5432"),
    ]


def test_replicas_that_share_a_port_get_addresses_of_their_own():
    """Each from the top of the clients' network, for all of its ports; a wildcard beside them would take their port."""
    wan = by_flow(CROWDED)[Flow(A, B)]
    assert dict(wan.hosts) == {"web-b": "10.0.1.253", "auth-b": "10.0.1.252"}
    assert wan.aliases == ("db-b",)
    listens = [one.listen for one in wan.proxies]
    assert listens == ["10.0.1.253:80", "10.0.1.253:9000", "10.0.1.252:80", "[::]:5432"]


def test_a_name_that_several_have_leads_to_the_near_ones():
    """Or to all of them, where none is near. Known bad: half of the calls left their site, or all, where ports were shared."""
    topology, reach = made({**TWO, "db-b": (B, (80,))})
    named = Reach(reach.ports, {**reach.names, "web-a": ("web-a", "web"), "web-b": ("web-b", "web")}, reach.networks)
    wans = {wan.flow: wan for wan in plan_wans(topology, named)}
    assert "web" not in {*wans[Flow(A, B)].aliases, *dict(wans[Flow(A, B)].hosts)}
    assert [wans[Flow(OUTSIDE, site)].aliases for site in (A, B)] == [("db-a",), ()]
    found = {site: [address for name, address in wans[Flow(OUTSIDE, site)].hosts if name == "web"] for site in (A, B)}
    assert len({*found[A], *found[B]}) == 2


def test_addresses_are_unique_in_a_network():
    """Several WANs stand in one place's network; none hands out what another has."""
    crowd = {**CROWDED, "w1": ("witness", (80,)), "w2": ("witness", (80,))}
    wans = [wan for wan in plan_wans(*made(crowd)) if wan.flow.source == A]
    given = [address for wan in wans for _, address in wan.hosts]
    assert len(given) == 4
    assert len(set(given)) == 4


def test_the_harness_reads_every_replica_on_a_port_of_its_own():
    """From outside, and only from there: ports that collide for clients do not collide on the machine."""
    wans = by_flow(CROWDED)
    assert [(name, port) for name, port, _ in wans[Flow(OUTSIDE, B)].published] == [
        ("web-b", 80),
        ("web-b", 9000),
        ("auth-b", 80),
        ("db-b", 5432),
    ]
    assert len({own for _, _, own in wans[Flow(OUTSIDE, B)].published}) == 4
    assert wans[Flow(A, B)].published == ()


def test_the_api_does_not_take_a_replicas_port():
    """A stack may have a Toxiproxy of its own."""
    _, reach = made({**TWO, "toxi": (A, (8474, 8475))})
    assert reach.api_port == 8476


def test_rules_hold_both_legs_of_what_travels_one_way():
    """A to B: in from A's network, out into B's, in the WAN of either direction; the other way passes."""
    topology, reach = made(TWO)
    for wan in plan_wans(topology, reach):
        rules = fence_rules(wan, [Flow(A, B)], reach)
        held = held_by(rules, wan, reach)
        assert held == ({Flow(A, B)} if set(wan.flow) == {A, B} else frozenset())
    assert "-A INPUT -s 10.0.0.0/24 -j DROP" in fence_rules(by_flow(TWO)[Flow(B, A)], [Flow(A, B)], reach)


def test_the_machine_keeps_its_way_to_the_api():
    """Before any drop: a fenced Toxiproxy must still be driven."""
    _, reach = made(TWO)
    lines = fence_rules(by_flow(TWO)[Flow(A, B)], [Flow(A, B), Flow(B, A)], reach).splitlines()
    assert lines.index("-A INPUT -s 10.0.0.1/32 -p tcp -m tcp --dport 8474 -j ACCEPT") < lines.index(
        "-A INPUT -s 10.0.0.0/24 -j DROP"
    )


def test_half_a_fence_does_not_count():
    """Known bad: one of the two rules is missing."""
    _, reach = made(TWO)
    wan = by_flow(TWO)[Flow(A, B)]
    for rule in ("-A INPUT -s 10.0.0.0/24 -j DROP\n", "-A OUTPUT -d 10.0.1.0/24 -j DROP\n"):
        rules = fence_rules(wan, [Flow(A, B)], reach)
        assert rule in rules
        assert held_by(rules.replace(rule, ""), wan, reach) == frozenset()
