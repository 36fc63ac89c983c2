"""The Compose runtime on a stack that was not made for it: two sites, jobs, volumes, aliases, ports that collide."""

from __future__ import annotations

import http.client
import json
import urllib.parse
import urllib.request
from typing import Any

import pytest

from chaoslab.clock import Deadline
from chaoslab.errors import FaultNotEffective, LinkError, StackError
from chaoslab.faults.proof import prove_return, prove_silence, reachable
from chaoslab.spec.stackfile.topology import Flow
from chaoslab.stack.compose.containers import Containers
from chaoslab.stack.compose.engine import Engine
from chaoslab.stack.compose.stack import ComposeStack
from chaoslab.stack.protocol import BlockMode, CanDestroyDisks, Degradation

pytestmark = pytest.mark.docker
EAST_WEST, WEST_EAST = Flow("east", "west"), Flow("west", "east")
SERVERS = ["web-east", "web-west", "stock-east", "front"]


def get(shop: ComposeStack, replica: str, path: str, *, body: bytes | None = None) -> Any:
    url = f"http://{shop.address(replica, 8000)}{path}"
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=5) as answer:
        return json.load(answer)


def asks(shop: ComposeStack, replica: str, url: str) -> Any:
    """What a replica gets from a URL."""
    return get(shop, replica, f"/ask?url={urllib.parse.quote(url)}")


@pytest.fixture(autouse=True)
def healed(shop: ComposeStack):
    """Each test finds the shop whole."""
    yield
    everywhere = [Flow(a, b) for a in shop.topology.places for b in shop.topology.places if a != b]
    shop.links.lift(everywhere, "test")
    shop.links.restore(everywhere)
    shop.resume(SERVERS)
    shop.start(SERVERS, Deadline.after(30))


def test_all_is_up_and_the_job_is_done(shop: ComposeStack):
    """A job that ended well is dead, and that is well; the debugger of another profile is not there at all."""
    assert shop.states() == dict.fromkeys(SERVERS, "running") | {"prepare": "dead"}


def test_the_application_finds_what_its_file_gave_it(shop: ComposeStack):
    """Environment file, escaped dollars, a built image, a mounted folder."""
    environment = get(shop, "web-east", "/")["env"]
    assert (environment["COLOUR"], environment["GREETING"]) == ("green", "costs $5")


@pytest.mark.parametrize("name", ["stock-east", "stock.shop.internal", "web-east", "the-web"])
def test_every_name_leads_across_the_wan(shop: ComposeStack, name: str):
    """Service, alias and container name, for replicas over there that share a port; each to the right one."""
    env = asks(shop, "web-west", f"http://{name}:8000/")["said"]["env"]
    assert ("KEEP" in env) == name.startswith("stock")
    assert ("GREETING" in env) == (not name.startswith("stock"))


def test_callers_of_a_place_are_answered_there(shop: ComposeStack):
    """From every place, through the link where there is one."""
    for place in shop.topology.places:
        for name in SERVERS:
            assert shop.reaches(name, 8000, seen_from=place, timeout_s=2.0), (name, place)


def test_nothing_is_published_but_on_the_loopback(shop: ComposeStack, engine: Engine):
    """Of all containers, and the user's own published port is not taken."""
    ports = engine.client.api.containers(filters={"label": f"chaoslab.run={shop.topology.project.rpartition('-')[2]}"})
    published = [port for one in ports for port in one["Ports"] if "PublicPort" in port]
    assert published
    assert {port["IP"] for port in published} == {"127.0.0.1"}
    assert 8000 not in {port["PublicPort"] for port in published}


def test_a_silent_fence_hangs_and_then_lets_go(shop: ComposeStack):
    """Read back as closed; no client across is answered, those in the same site are; afterwards all are again."""
    around = shop.topology.flows_around("east")
    paths = reachable(shop, shop.topology.in_site("east"))
    shop.links.fence(around, "test")
    assert shop.links.fenced() == set(around)
    prove_silence(shop, paths)
    assert "timed out" in asks(shop, "web-west", "http://stock.shop.internal:8000/")["error"]
    assert shop.reaches("stock-east", 8000, seen_from="east", timeout_s=2.0)
    shop.links.lift(around, "test")
    assert shop.links.fenced() == frozenset()
    prove_return(shop, paths, Deadline.after(10))
    assert "said" in asks(shop, "web-west", "http://stock.shop.internal:8000/")


def test_a_fence_that_is_not_there_is_not_proven(shop: ComposeStack, monkeypatch: pytest.MonkeyPatch):
    """Known bad: nothing is fenced, so silence cannot be proven."""
    monkeypatch.setattr("chaoslab.faults.proof.EFFECT_TIMEOUT_S", 0.2)
    with pytest.raises(FaultNotEffective, match="still answered"):
        prove_silence(shop, reachable(shop, shop.topology.in_site("east")))


def test_rules_that_somebody_flushed_are_missed(shop: ComposeStack, engine: Engine):
    """Known bad: the packet rules of one namespace vanish; the fence does not read back as closed."""
    shop.links.fence([EAST_WEST], "test")
    run_id = shop.topology.project.rpartition("-")[2]
    containers = Containers(engine, run_id)
    containers.execute_in(containers.of(["wan-west-east"])[0].id, ["iptables", "-F"])
    assert EAST_WEST not in shop.links.fenced()


def test_a_fence_needs_no_shell_that_was_open_before(shop: ComposeStack):
    """Those that the WAN is cut through broke: new ones are opened, and what is read back comes from them."""
    around = shop.topology.flows_around("east")
    for cut in (shop.links.fence, shop.links.lift):
        for shell in [*shop._shells._open.values()]:
            shell.close()
        cut(around, "test")
        assert shop.links.fenced() == (set(around) if cut == shop.links.fence else frozenset())


def test_a_fence_that_cannot_be_set_is_an_error(shop: ComposeStack, monkeypatch: pytest.MonkeyPatch):
    """Known bad: rules that the packet filter does not take."""
    monkeypatch.setattr("chaoslab.stack.compose.links.fence_rules", lambda *_: "*filter\n-A NOWHERE -j DROP\nCOMMIT\n")
    with pytest.raises(StackError, match="iptables-restore"):
        shop.links.fence([EAST_WEST], "test")
    monkeypatch.undo()
    assert shop.links.fenced() == frozenset()


def test_rules_that_do_not_hold_are_an_error(shop: ComposeStack, monkeypatch: pytest.MonkeyPatch):
    """Known bad: the packet filter takes them, and reads back as open."""
    monkeypatch.setattr("chaoslab.stack.compose.links.fence_rules", lambda *_: "*filter\nCOMMIT\n")
    with pytest.raises(LinkError, match=r"should hold east→west, but reads back as holding nothing"):
        shop.links.fence([EAST_WEST], "test")


def test_one_way_is_one_way(shop: ComposeStack):
    """Only the flow that was named is held; clients on either side hang, since answers travel too."""
    shop.links.fence([EAST_WEST], "test")
    assert shop.links.fenced() == {EAST_WEST}
    assert not shop.reaches("web-west", 8000, seen_from="east")
    assert shop.reaches("web-west", 8000, timeout_s=2.0)


def test_refuse_is_told_to_callers_and_undone(shop: ComposeStack):
    """Connections opened that way are refused at once; the other way stays."""
    shop.links.refuse([WEST_EAST])
    assert "refused" in asks(shop, "web-west", "http://web-east:8000/")["error"].lower()
    assert "said" in asks(shop, "web-east", "http://web-west:8000/")
    shop.links.restore([WEST_EAST])
    assert "said" in asks(shop, "web-west", "http://web-east:8000/")


def test_reset_ends_connections_by_force(shop: ComposeStack):
    """New connections end at their first byte."""
    shop.links.reset([WEST_EAST])
    assert "error" in asks(shop, "web-west", "http://web-east:8000/")


def test_degradation_is_felt_and_undone(shop: ComposeStack):
    """400 ms more on what travels to the west is more than a short call has."""
    shop.links.degrade([EAST_WEST], Degradation(latency_ms=400))
    assert not shop.reaches("web-west", 8000, seen_from="east", timeout_s=0.3)
    assert shop.reaches("web-west", 8000, seen_from="east", timeout_s=3.0)
    shop.links.restore([EAST_WEST])
    assert shop.reaches("web-west", 8000, seen_from="east", timeout_s=1.0)


def test_a_toxiproxy_that_restarts_is_noticed(shop: ComposeStack, engine: Engine):
    """It has forgotten every fault."""
    before = shop.links.epoch()
    assert shop.links.epoch() == before
    assert shop.trouble() is None
    containers = Containers(engine, shop.topology.project.rpartition("-")[2])
    gate = containers.of(["wan-outside-west"])[0].id
    containers.kill(gate)
    assert shop.links.epoch() != before
    assert "wan-outside-west ended" in (shop.trouble() or "")
    containers.start(gate)
    assert shop.links.epoch() != before


def test_a_kill_is_seen_and_stays(shop: ComposeStack):
    """All at once, `restart: always` or not; started again they are well, and their disks are as they were."""
    get(shop, "stock-east", "/", body=b"bread")
    report = shop.kill(SERVERS)
    assert report.targets == len(SERVERS)
    assert set(shop.states().values()) == {"dead"}
    shop.start(SERVERS, Deadline.after(30))
    assert "bread" in get(shop, "stock-east", "/kept")["kept"]


def test_the_entry_is_found_where_it_was_after_a_restart(shop: ComposeStack):
    """Whoever measures keeps the address."""
    before = shop.address("front", 8000)
    shop.kill(["front"])
    shop.start(["front"], Deadline.after(30))
    assert shop.address("front", 8000) == before
    assert "env" in get(shop, "front", "/")


def test_a_frozen_replica_takes_calls_and_says_nothing(shop: ComposeStack):
    """Paused is neither running nor dead; resumed it answers."""
    shop.pause(["web-west"])
    assert shop.states()["web-west"] == "paused"
    assert not shop.reaches("web-west", 8000)
    shop.resume(["web-west"])
    assert shop.reaches("web-west", 8000, timeout_s=2.0)


def test_destroyed_disks_come_back_empty(shop: ComposeStack):
    """Not while a replica uses them; then the volume is gone, and the replica starts with a new one."""
    get(shop, "stock-east", "/", body=b"milk")
    assert isinstance(shop, CanDestroyDisks)
    with pytest.raises(StackError, match="while they run"):
        shop.destroy_disks(["stock-east"])
    shop.kill(["stock-east"])
    shop.destroy_disks(["stock-east"])
    assert shop.states()["stock-east"] == "dead"
    shop.start(["stock-east"], Deadline.after(30))
    assert get(shop, "stock-east", "/kept") == {"kept": []}


def test_an_unknown_replica_or_port_is_named(shop: ComposeStack):
    """With those that there are."""
    with pytest.raises(StackError, match=r"no replica 'till'.*web-east"):
        shop.kill(["till"])
    with pytest.raises(StackError, match=r"no known port 9 \(known: 8000\)"):
        shop.address("front", 9)


def test_a_stop_is_graceful_or_named(shop: ComposeStack):
    """Python as first process of a container does not hear SIGTERM: it is down after the grace, and that is reported."""
    report = shop.stop(["web-west"], 1.0)
    assert (report.targets, report.killed) == (1, ("web-west",))
    assert report.took_ms >= 900
    assert shop.states()["web-west"] == "dead"
    assert shop.stop(["web-west"], 1.0).targets == 0


def test_a_throttle_is_a_quota_of_the_kernel(shop: ComposeStack, engine: Engine):
    """The container's own cgroup has it; lifted, it has none."""
    containers = Containers(engine, shop.topology.project.rpartition("-")[2])
    (one,) = containers.of(["web-west"])
    read = ["sh", "-c", "cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us"]
    before = containers.execute_in(one.id, read).split()[0]
    shop.throttle(["web-west"], 0.2)
    assert shop.observed_share("web-west") == 0.2
    assert containers.execute_in(one.id, read).split()[0] == "20000"
    shop.unthrottle(["web-west"])
    shop.unthrottle(["web-west"])
    assert shop.observed_share("web-west") == 1.0
    assert containers.execute_in(one.id, read).split()[0] == before


@pytest.mark.parametrize("mode", ["refuse", "silent"])
def test_a_dependency_is_down_for_callers_elsewhere(shop: ComposeStack, mode: BlockMode):
    """The stock is not answered in the west and outside; in its own site it is, and so are all others across the same link."""
    shop.block(["stock-east"], mode)
    try:
        assert "error" in asks(shop, "web-west", "http://stock.shop.internal:8000/")
        assert not shop.reaches("stock-east", 8000)
        assert not shop.reaches("stock-east", 8000, seen_from="west")
        assert shop.reaches("stock-east", 8000, seen_from="east", timeout_s=2.0)
        assert "said" in asks(shop, "web-west", "http://web-east:8000/")
    finally:
        shop.unblock(["stock-east"])
    assert "said" in asks(shop, "web-west", "http://stock.shop.internal:8000/")


def test_the_control_answers_and_every_container_has_an_owner(shop: ComposeStack, engine: Engine):
    """A read from memory, a write on a volume of the engine; members are listed by the engine's own ids."""
    control = shop.host_control(Deadline.after(10))
    connection = http.client.HTTPConnection(*control.address, timeout=5)
    for method, path in (("GET", "/read"), ("POST", "/fsync")):
        connection.request(method, path)
        assert connection.getresponse().read() == b"ok"
    connection.close()
    owners = json.loads(shop.members.read_text())
    names = {one.replica: owners[one.id] for one in Containers(engine, shop._run_id).all()}
    assert (names["web-east"], names["front"], names["chaoslab-control"]) == ("east", "outside", "harness")
