"""The project that is started: what is kept of the user's file, and what is put in its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chaoslab.errors import SpecError
from chaoslab.spec.stackfile.model import OUTSIDE, StackSpec
from chaoslab.spec.stackfile.topology import Replica, Topology, places_of
from chaoslab.stack.compose.project import CONTROL, REPLICA_LABEL, ROLE_LABEL, RUN_LABEL, Renderer, image_of, names_of, ports_of
from chaoslab.stack.compose.wan import Network, Reach, plan_wans

CONFIG: dict[str, Any] = {
    "name": "shop",
    "services": {
        "web-a": {
            "build": {"context": "/shop"},
            "container_name": "the-web",
            "restart": "always",
            "deploy": {"restart_policy": {"condition": "any"}, "resources": {"limits": {"cpus": "0.5"}}},
            "environment": {"DB": "tcp://db-b:5432/x", "PRICE": "$$5"},
            "networks": {"back": {"aliases": ["shopfront"], "ipv4_address": "172.99.0.9"}},
            "ports": [{"mode": "ingress", "target": 80, "published": "80", "protocol": "tcp"}],
            "extra_hosts": ["mail=10.1.1.1"],
            "labels": {"team": "shop"},
            "depends_on": {"db-b": {"condition": "service_healthy", "required": True}},
        },
        "web-b": {"image": "web", "expose": ["80", "9000-9001/tcp", "53/udp"], "networks": {"back": None}},
        "db-b": {"image": "postgres", "volumes": [{"type": "volume", "source": "data", "target": "/data"}]},
        "entry": {"image": "web", "ports": [{"target": 8080, "published": "8080", "protocol": "tcp"}]},
    },
    "networks": {"back": {"name": "shop_back", "ipam": {}}},
    "volumes": {"data": {"name": "precious"}, "theirs": {"name": "theirs", "external": True}},
    "x-chaoslab": {"sites": ["a", "b"]},
}
SITES = {"web-a": "a", "web-b": "b", "db-b": "b", "entry": OUTSIDE}


def rendered(config: dict[str, Any] = CONFIG, **more: Any) -> dict[str, Any]:
    ports = ports_of(config, {"web": [80], "postgres": [5432]})
    replicas = tuple(Replica(name, name, site, ports[name]) for name, site in SITES.items())
    topology = Topology("run-1", replicas, StackSpec(sites=["a", "b"], entry="entry:8080"), places_of(replicas))
    networks = {place: Network(f"run-1_{place}", f"10.0.{n}.0/24", f"10.0.{n}.1") for n, place in enumerate(topology.places)}
    reach = Reach(ports, names_of(config), networks)
    return Renderer(config, topology, reach, plan_wans(topology, reach), "r1", **more).project()


def with_service(name: str, **changes: Any) -> dict[str, Any]:
    return {**CONFIG, "services": {**CONFIG["services"], name: {**CONFIG["services"][name], **changes}}}


def test_ports_are_found_wherever_they_are_said():
    """Published, exposed, of the image, or spoken of; UDP is none of ours."""
    found = ports_of(CONFIG, {"web": [80], "postgres": []})
    assert found == {"web-a": (80,), "web-b": (80, 9000, 9001), "db-b": (5432,), "entry": (80, 8080)}


def test_names_of_links_and_hosts_lead_to_their_service():
    """Known bad: an alias of `links` was a name that nobody knew."""
    config = with_service("web-a", links=["db-b:database", "web-b"], hostname="www")
    assert names_of(config) == {
        "web-a": ("web-a", "the-web", "www", "shopfront"),
        "web-b": ("web-b",),
        "db-b": ("db-b", "database"),
        "entry": ("entry",),
    }


def test_a_port_is_learned_by_any_name():
    """Known bad: `database:5433` told nothing of db-b, whose alias it is, so nothing carried it across sites."""
    config = with_service("web-a", links=["db-b:database"], environment={"DB": "tcp://database:5433/x"})
    assert ports_of(config, {})["db-b"] == (5433,)


def test_several_containers_stay_several():
    """Known bad: of `scale: 3` one was started."""
    assert rendered(with_service("web-b", scale=3))["services"]["web-b"]["scale"] == 3


def test_a_volume_is_no_speech():
    """`web-b:80` in a mount or an image's name is no port."""
    config = with_service("db-b", image="web-b:4711", volumes=[{"type": "bind", "source": "/srv/web-b:4712", "target": "/x"}])
    assert ports_of(config, {})["web-b"] == (80, 9000, 9001)


def test_what_belongs_to_the_application_is_kept():
    """Environment (dollars and all), limits, extra hosts, labels."""
    web = rendered()["services"]["web-a"]
    assert web["environment"] == {"DB": "tcp://db-b:5432/x", "PRICE": "$$5"}
    assert web["deploy"] == {"resources": {"limits": {"cpus": "0.5"}}}
    assert "mail=10.1.1.1" in web["extra_hosts"]
    assert web["labels"]["team"] == "shop"
    assert web["image"] == image_of(CONFIG, "web-a") == "shop-web-a"


def test_nothing_undoes_a_kill_and_nothing_goes_around_the_wan():
    """No restart policy, no network but the place's, no port of a site published."""
    services = rendered()["services"]
    assert {service["restart"] for service in services.values()} == {"no"}
    assert list(services["web-a"]["networks"]) == ["a"]
    assert services["web-a"]["networks"]["a"]["aliases"] == ["web-a", "the-web", "shopfront"]
    assert services["web-a"]["ports"] == []
    assert not {"container_name", "build", "network_mode"} & services["web-a"].keys()


def test_only_the_wan_stands_in_two_networks():
    """A replica in two would join two sites."""
    for name, service in rendered()["services"].items():
        assert len(service["networks"]) == (2 if name.startswith("wan-") else 1)


def test_everything_is_published_on_the_loopback_alone():
    """Known bad: a rendering for a remote engine, which is."""

    def addresses(project: dict[str, Any]) -> set[str]:
        return {port["host_ip"] for service in project["services"].values() for port in service["ports"]}

    assert addresses(rendered()) == {"127.0.0.1"}
    assert addresses(rendered(publish_ip="0.0.0.0")) == {"0.0.0.0"}


def test_published_ports_stay_when_a_container_is_started_again():
    """Docker would choose others; so each is taken from the run's own, and none twice."""
    services = rendered(take_port=iter(range(18_000, 19_000)).__next__)["services"]
    published = [port["published"] for service in services.values() for port in service["ports"]]
    assert len(published) == len(set(published)) > 5
    assert set(published) <= {str(port) for port in range(18_000, 19_000)}


def test_everything_carries_the_run():
    """What is not labelled would be left behind."""
    project = rendered()
    owners = [*project["services"].values(), project["volumes"]["data"]]
    assert {owner["labels"]["chaoslab.run"] for owner in owners} == {"r1"}


def test_volumes_are_the_runs_own_but_for_external_ones():
    """A name of the user's would make two runs share, and a run destroy, what is precious."""
    volumes = rendered()["volumes"]
    assert volumes["data"]["name"] == "run-1_data"
    assert volumes["theirs"] == {"name": "theirs", "external": True}


def test_names_that_share_a_port_are_in_the_hosts_files_of_their_callers():
    """Docker's DNS knows one address of a container."""
    config = with_service("db-b", expose=["80"])
    assert {"web-b=10.0.0.253", "db-b=10.0.0.252"} <= set(rendered(config)["services"]["web-a"]["extra_hosts"])
    assert rendered(config)["services"]["wan-a-b"]["environment"]["WAN_ADDRESSES"] == "10.0.0.253 10.0.0.252"


def test_a_toxiproxy_is_told_all_its_proxies():
    """What Toxiproxy starts with is what the plan says."""
    environment = rendered()["services"]["wan-b-a"]["environment"]
    assert [one["upstream"] for one in json.loads(environment["WAN_PROXIES"])] == ["web-a.run-1_a:80"]


@pytest.mark.parametrize("mode", ["host", "container:abc", "service:web-b"])
def test_a_network_that_goes_around_the_wan_is_refused(mode: str):
    """The machine's network, a stranger's, or that of a replica in another site."""
    with pytest.raises(SpecError, match=f"web-a: network_mode {mode}"):
        rendered(with_service("web-a", network_mode=mode, networks=None))


def test_a_neighbours_network_may_be_shared():
    """In one site nothing is bypassed; the replica then has no ports of its own."""
    config = with_service("db-b", network_mode="service:web-b", networks=None)
    service = rendered(config)["services"]["db-b"]
    assert service["network_mode"] == "service:web-b"
    assert not {"networks", "extra_hosts", "ports"} & service.keys()
    assert ports_of(config, {"postgres": [5432]})["db-b"] == ()


def test_the_control_is_one_of_the_run():
    """Labelled, so that it goes with the rest; published as all else is; in no site; its file on a volume that goes, too."""
    project = rendered()
    control = project["services"][CONTROL]
    assert control["labels"] | {ROLE_LABEL: "control", REPLICA_LABEL: CONTROL, RUN_LABEL: "r1"} == control["labels"]
    assert project["volumes"][CONTROL]["labels"][RUN_LABEL] == control["labels"][RUN_LABEL]
    assert {port["host_ip"] for port in control["ports"]} == {"127.0.0.1"}
    assert list(control["networks"]) == ["outside"]


def test_a_replica_does_not_look_for_itself_in_the_wan() -> None:
    """Its neighbours do, where replicas of a place reach each other through the WAN."""
    ports = ports_of(CONFIG, {"web": [80], "postgres": [5432]})
    replicas = tuple(Replica(name, name, site, ports[name]) for name, site in SITES.items())
    topology = Topology("run-1", replicas, StackSpec(sites=["a", "b"], entry="entry:8080"), places_of(replicas))
    networks = {place: Network(f"run-1_{place}", f"10.0.{n}.0/24", f"10.0.{n}.1") for n, place in enumerate(topology.places)}
    reach = Reach(ports, names_of(CONFIG), networks)
    services = Renderer(CONFIG, topology, reach, plan_wans(topology, reach, within=True), "r1").project()["services"]
    named = {name: {host.partition("=")[0] for host in services[name]["extra_hosts"]} for name in ("web-b", "db-b")}
    assert "db-b" in named["web-b"] and "web-b" not in named["web-b"]
    assert "web-b" in named["db-b"] and "db-b" not in named["db-b"]
    assert list(services["wan-b-b"]["networks"]) == ["b"]
