"""The contract of a stack: the same assertions on the fake, on processes and on containers. Each test heals what it did."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from rigs import DEAF, Line, Rig, compose_rig, embedded_rig, fake_rig

from chaoslab.clock import SYSTEM, Deadline, wait_until
from chaoslab.errors import LinkError, NotReady, StackError
from chaoslab.spec.stackfile.topology import Flow
from chaoslab.stack.protocol import (
    BlockMode,
    CanBlock,
    CanCutDisks,
    CanDestroyDisks,
    CanExecute,
    CanStop,
    CanThrottle,
    Degradation,
)

PORTS = {"store": 7000, "app-east": 8000, "app-west": 8000, "entry": 8080}
EAST_WEST, WEST_EAST = Flow("east", "west"), Flow("west", "east")
OUT_EAST, EAST_OUT = Flow("outside", "east"), Flow("east", "outside")
SILENCE_S, ANSWER_S = 0.3, 3.0  # how long nothing is silence, and how long an answer may take
LATE_SYN_S = 10.0  # TCP sends a lost SYN again ever more seldom

RUNTIMES = ["fake", "embedded", pytest.param("compose", marks=pytest.mark.docker)]


@pytest.fixture(scope="module", params=RUNTIMES)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    rigs: dict[str, Callable[[], object]] = {
        "fake": fake_rig,
        "embedded": embedded_rig,
        "compose": lambda: compose_rig(request.getfixturevalue("engine")),
    }
    with rigs[request.param]() as up:  # type: ignore[attr-defined]
        yield up


@pytest.fixture(autouse=True)
def healed(rig: Rig) -> Iterator[None]:
    """Each test finds the stack whole."""
    yield
    if not rig.over:
        heal(rig)


def heal(rig: Rig) -> None:
    """Leave the stack whole, in the order of a site that comes back."""
    stack, names = rig.stack, list(PORTS)
    flows = [Flow(a, b) for a in stack.topology.places for b in stack.topology.places if a != b]
    stack.unblock(names)
    stack.unthrottle(names)
    stack.links.restore(flows)
    stack.resume(names)
    stack.start(names, Deadline.after(30))
    stack.links.lift(flows, "test")


def reached(rig: Rig, replica: str, place: str, timeout_s: float = ANSWER_S) -> bool:
    return rig.stack.reaches(replica, PORTS[replica], seen_from=place, timeout_s=timeout_s)


def silent(rig: Rig, replica: str, place: str) -> bool:
    return not reached(rig, replica, place, SILENCE_S)


def line(rig: Rig, place: str, replica: str) -> Line:
    """A connection that has been answered once."""
    opened = rig.dial(place, replica, PORTS[replica])
    opened.ask()
    assert opened.hear(ANSWER_S) == "answered"
    return opened


def asked(opened: Line, timeout_s: float = ANSWER_S) -> str:
    opened.ask()
    return opened.hear(timeout_s)


def first_call(rig: Rig, place: str, replica: str) -> str:
    """What a new connection comes to."""
    try:
        return asked(rig.dial(place, replica, PORTS[replica]))
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "silent"


# --- up, and where things are


def test_many_callers_get_one_answer_each(rig: Rig) -> None:
    """Sixteen threads ask for every path at the same moment; none of the paths across the WAN was asked for before."""
    paths = [(replica, place) for replica in PORTS for place in rig.stack.topology.places]
    together = threading.Barrier(16)

    def ask(_: int) -> list[tuple[object, bool]]:
        together.wait(10)
        return [(rig.stack.address(name, PORTS[name], seen_from=place), reached(rig, name, place)) for name, place in paths]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    assert all(answer == answers[0] for answer in answers)
    assert all(answered for _, answered in answers[0])


def test_the_harness_is_a_client_in_any_place(rig: Rig) -> None:
    """Beside a replica whose site is cut off it is answered, from outside it is not; one that has ended answers nobody."""

    def answer(seen_from: str, timeout_s: float = ANSWER_S) -> bytes:
        try:
            with closing(rig.stack.connect("app-east", 8000, seen_from=seen_from, timeout_s=timeout_s)) as connection:
                connection.sendall(b"GET /where HTTP/1.0\r\n\r\n")
                return connection.recv(4)
        except OSError:
            return b""

    assert answer("outside") == answer("west") == b"HTTP"
    rig.stack.links.fence([OUT_EAST, EAST_OUT], "test")
    assert answer("east") == b"HTTP"
    assert answer("outside", SILENCE_S) == b""
    rig.stack.kill(["app-east"])
    assert answer("east") == b""


def test_up_again_changes_nothing(rig: Rig) -> None:
    """Addresses, links and replicas stay as they are."""
    before = {name: rig.stack.address(name, port) for name, port in PORTS.items()}
    opened, epoch = line(rig, "outside", "app-east"), rig.stack.links.epoch()
    rig.stack.up(Deadline.after(30), lambda _: None)
    assert {name: rig.stack.address(name, port) for name, port in PORTS.items()} == before
    assert rig.stack.links.epoch() == epoch
    assert asked(opened) == "answered"
    assert set(rig.stack.states().values()) == {"running"}


def test_the_runtime_says_what_it_can(rig: Rig) -> None:
    for ability in (CanStop, CanThrottle, CanBlock, CanDestroyDisks, CanCutDisks):
        assert isinstance(rig.stack, ability)


def test_everybody_is_reached_from_everywhere(rig: Rig) -> None:
    """From inside its place, from another place and from outside."""
    assert {(n, p) for n in PORTS for p in rig.stack.topology.places if not reached(rig, n, p)} == set()


def test_a_replica_that_is_not_there_is_named(rig: Rig) -> None:
    with pytest.raises(StackError, match=r"no replica 'till'.*app-east"):
        rig.stack.address("till", 80)


def test_nobody_listens_but_on_the_loopback(rig: Rig) -> None:
    assert rig.listening() == {"127.0.0.1"}


# --- the fence


def test_a_fence_holds_both_ways_and_lets_go(rig: Rig) -> None:
    """Only what crosses it is silent; it reads back; established connections resume with what was sent meanwhile."""
    around = rig.stack.topology.flows_around("east")
    opened = line(rig, "outside", "app-east")
    rig.stack.links.fence(around, "test")
    rig.stack.links.fence(around, "test")
    assert rig.stack.links.fenced() == set(around)
    assert asked(opened, SILENCE_S) == "silent"
    assert all(silent(rig, "app-east", place) for place in ("west", "witness", "outside"))
    assert all(silent(rig, name, "east") for name in ("app-west", "store", "entry"))
    assert reached(rig, "app-east", "east")
    assert reached(rig, "app-west", "outside")
    rig.stack.links.lift(around, "test")
    rig.stack.links.lift(around, "test")
    assert rig.stack.links.fenced() == frozenset()
    assert opened.hear() == "answered"
    assert reached(rig, "app-east", "outside")


def test_a_fence_of_one_way_is_one_way(rig: Rig) -> None:
    """Clients on either side hang, since answers travel too; but one flow is held, and other links are not touched."""
    rig.stack.links.fence([EAST_WEST], "test")
    assert rig.stack.links.fenced() == {EAST_WEST}
    assert silent(rig, "app-west", "east")
    assert silent(rig, "app-east", "west")
    assert reached(rig, "app-west", "outside")
    rig.stack.links.lift([WEST_EAST], "test")
    assert rig.stack.links.fenced() == {EAST_WEST}
    rig.stack.links.lift([EAST_WEST], "test")
    assert reached(rig, "app-west", "east")


def test_fences_add_up(rig: Rig) -> None:
    """A second fence keeps the first; lifting one keeps the other."""
    rig.stack.links.fence([OUT_EAST], "test")
    rig.stack.links.fence([WEST_EAST], "test")
    assert rig.stack.links.fenced() == {OUT_EAST, WEST_EAST}
    rig.stack.links.lift([OUT_EAST], "test")
    assert reached(rig, "app-east", "outside")
    assert silent(rig, "app-east", "west")


def test_a_way_that_two_hold_opens_when_the_last_lets_go(rig: Rig) -> None:
    """Known bad: power for one of two dark sites opened its link to the other, which was dead, so that it refused at once."""
    east, west = rig.stack.topology.flows_around("east"), rig.stack.topology.flows_around("west")
    rig.stack.links.fence(east, "one")
    rig.stack.links.fence(west, "other")
    rig.stack.links.lift(east, "one")
    assert rig.stack.links.fenced() == set(west)
    assert reached(rig, "app-east", "outside")
    assert silent(rig, "app-west", "east")
    rig.stack.links.lift(west, "other")
    assert rig.stack.links.fenced() == frozenset()
    assert reached(rig, "app-west", "east")


def test_new_connections_hang_in_connect(rig: Rig) -> None:
    """Not one gets as far as a handshake; those that still wait when the fence is lifted go on within about a second."""
    around = rig.stack.topology.flows_around("east")
    rig.stack.links.fence(around, "test")
    with closing(rig.call("west", "app-east", PORTS["app-east"])) as client:
        assert client.hear(SILENCE_S) == "silent"
        assert rig.stack.links.lift(around, "test") == {}
        assert client.hear(ANSWER_S) == "connected"
        assert client.hear(ANSWER_S) == "answered"


def test_a_site_that_refuses_behind_a_fence_still_hangs(rig: Rig) -> None:
    """A link that was closed before the fence, or is closed behind it: no refusal gets out."""
    around = rig.stack.topology.flows_around("east")
    rig.stack.links.refuse([WEST_EAST])
    rig.stack.links.fence(around, "test")
    rig.stack.links.refuse([Flow("witness", "east")])
    for place in ("west", "witness"):
        with closing(rig.call(place, "app-east", PORTS["app-east"])) as client:
            assert client.hear(SILENCE_S) == "silent"
    rig.stack.links.lift(around, "test")
    assert first_call(rig, "west", "app-east") == "refused"


def test_death_behind_a_fence_is_silent(rig: Rig) -> None:
    """No FIN and no RST: established connections hang, and end when the fence is lifted; new ones hang in connect."""
    around = rig.stack.topology.flows_around("east")
    opened = line(rig, "outside", "app-east")
    rig.stack.links.fence(around, "test")
    assert rig.stack.kill(["app-east"]).targets >= 1
    assert opened.hear(SILENCE_S) == "silent"
    assert silent(rig, "app-east", "outside")
    with closing(rig.call("west", "app-east", PORTS["app-east"])) as client:
        assert client.hear(SILENCE_S) == "silent"
        heal(rig)
        assert client.hear(LATE_SYN_S) == "connected"
        assert client.hear(ANSWER_S) == "answered"
    assert asked(opened) == "ended"
    assert reached(rig, "app-east", "outside")


# --- refuse, reset, degrade


@pytest.mark.parametrize("verb", ["fence", "refuse", "reset", "degrade", "block-refuse", "block-silent"])
def test_each_disturbance_is_read_back_and_none_after_it_was_undone(rig: Rig, verb: str) -> None:
    """Known bad: a stack that is handed to the next trial with a toxic on one link."""
    links = rig.stack.links
    assert reached(rig, "app-east", "outside")  # so the link is there
    assert links.disturbances() == []
    if verb == "degrade":
        links.degrade([OUT_EAST], Degradation(latency_ms=5))
    elif verb.startswith("block"):
        rig.stack.block(["app-east"], "silent" if verb.endswith("silent") else "refuse")
    elif verb == "fence":
        links.fence([OUT_EAST], "test")
    else:
        getattr(links, verb)([OUT_EAST])
    assert links.disturbances() != []
    links.lift([OUT_EAST], "test")
    links.restore([OUT_EAST])
    rig.stack.unblock(["app-east"])
    assert links.disturbances() == []


def test_refuse_ends_and_refuses(rig: Rig) -> None:
    """Both what is established and what is new, that way only; undone, new connections are answered.

    Called from beside a replica: in front of a container's published port stands Docker's own proxy, which takes every call.
    """
    opened, other = line(rig, "west", "app-east"), line(rig, "east", "app-west")
    rig.stack.links.refuse([WEST_EAST])
    rig.stack.links.refuse([WEST_EAST])
    assert opened.hear() == "ended"
    assert first_call(rig, "west", "app-east") == "refused"
    assert asked(other) == "answered"
    assert reached(rig, "app-east", "outside")
    rig.stack.links.restore([WEST_EAST])
    assert first_call(rig, "west", "app-east") == "answered"
    assert asked(opened) == "ended"


def test_reset_ends_at_the_first_word(rig: Rig) -> None:
    """New connections and established ones, that way only."""
    opened, other = line(rig, "outside", "app-east"), line(rig, "outside", "app-west")
    rig.stack.links.reset([OUT_EAST])
    rig.stack.links.reset([OUT_EAST])
    assert first_call(rig, "outside", "app-east") == "ended"
    assert asked(opened) == "ended"
    assert asked(other) == "answered"
    rig.stack.links.restore([OUT_EAST])
    assert first_call(rig, "outside", "app-east") == "answered"


@pytest.mark.parametrize("flow", [OUT_EAST, EAST_OUT], ids=["requests", "answers"])
def test_degradation_is_felt_and_undone(rig: Rig, flow: Flow) -> None:
    """400 ms on what travels one way is more than a short call has, and no more than a long one has; it replaces another."""
    rig.stack.links.degrade([flow], Degradation(latency_ms=20_000))
    rig.stack.links.degrade([flow], Degradation(latency_ms=400))
    assert silent(rig, "app-east", "outside")
    assert reached(rig, "app-east", "outside")
    assert reached(rig, "app-west", "outside", 1.0)
    rig.stack.links.restore([flow])
    assert reached(rig, "app-east", "outside", 0.35)


# --- life and death


def test_who_is_killed_is_dead_and_says_nothing(rig: Rig) -> None:
    """Both at once; peers see the end; no other is touched; killing dead ones kills nothing; they can be started again."""
    opened = line(rig, "outside", "app-east")
    report = rig.stack.kill(["app-east", "app-west"])
    assert report.targets >= 2
    assert 0 <= report.skew_ms < 1000
    assert report.detail()["means"] in ("pids", "engine's API")
    assert rig.stack.states() == {"store": "running", "app-east": "dead", "app-west": "dead", "entry": "running"}
    assert asked(opened) == "ended"
    assert all(silent(rig, "app-east", place) for place in rig.stack.topology.places)
    assert rig.stack.kill(["app-east"]).targets == 0
    heal(rig)
    assert reached(rig, "app-east", "outside")


def test_start_waits_for_health_and_names_who_is_not(rig: Rig) -> None:
    """Without time it names the ill one; asked again with time it waits, and all is well when it returns.

    A replica may be up before its first check is: then it is killed once more.
    """
    for _ in range(5):
        rig.stack.kill(["app-east"])
        try:
            rig.stack.start(["app-east"], Deadline.after(0.0))
        except NotReady as late:
            assert re.search(r"not healthy.*app-east", str(late))
            break
    else:
        pytest.fail("a replica that was dead a moment ago was taken for healthy five times")
    rig.stack.start(["app-east", "app-west"], Deadline.after(30))
    assert reached(rig, "app-east", "east", SILENCE_S)


def test_who_is_paused_is_silent_and_resumes(rig: Rig) -> None:
    """Neither running nor dead; connections last, and what was asked meanwhile is answered."""
    opened = line(rig, "outside", "app-east")
    rig.stack.pause(["app-east"])
    rig.stack.pause(["app-east"])
    assert rig.stack.states()["app-east"] == "paused"
    assert asked(opened, SILENCE_S) == "silent"
    assert all(silent(rig, "app-east", place) for place in rig.stack.topology.places)
    rig.stack.resume(["app-east"])
    rig.stack.resume(["app-east"])
    assert rig.stack.states()["app-east"] == "running"
    assert opened.hear() == "answered"


def test_the_paused_can_be_killed(rig: Rig) -> None:
    rig.stack.pause(["app-east"])
    assert rig.stack.kill(["app-east"]).targets >= 1
    assert rig.stack.states()["app-east"] == "dead"


def test_a_stop_asks_and_then_kills(rig: Rig) -> None:
    """A replica that hears the signal ends; others are killed after the grace, and named; a dead one is not stopped."""
    report = rig.stack.stop(["app-east"], 5.0)
    assert (report.targets, report.killed) == (1, ())
    assert report.took_ms < 5000
    assert rig.stack.states()["app-east"] == "dead"
    assert rig.stack.stop(["app-east"], 5.0).targets == 0
    report = rig.stack.stop([DEAF], 1.0)
    assert (report.targets, report.killed) == (1, (DEAF,))
    assert report.took_ms >= 900
    assert rig.stack.states()[DEAF] == "dead"


def test_a_command_runs_in_a_replica_that_runs(rig: Rig) -> None:
    """Its output and its exit status; in a replica that is dead or frozen it cannot run."""
    stack = rig.stack
    assert isinstance(stack, CanExecute)
    ended = stack.execute("app-east", ["echo", "well", "done"], 10)
    assert (ended.status, ended.output) == (0, "well done\n")
    assert stack.execute("app-east", ["false"], 10).status == 1
    stack.pause(["app-east"])
    with pytest.raises(StackError):
        stack.execute("app-east", ["echo"], 10)
    stack.kill(["app-east"])
    with pytest.raises(StackError):
        stack.execute("app-east", ["echo"], 10)


def test_a_throttle_is_seen_and_lifted(rig: Rig) -> None:
    """About the share that was asked for, the last one; no other replica is touched."""
    assert rig.stack.observed_share("app-west") == 1.0
    rig.stack.throttle(["app-west"], 0.9)
    rig.stack.throttle(["app-west"], 0.2)
    wait_until("the throttle", lambda: _is_about(rig.stack.observed_share("app-west"), 0.2), Deadline.after(10))
    assert rig.stack.observed_share("app-east") == 1.0
    rig.stack.unthrottle(["app-west"])
    rig.stack.unthrottle(["app-west"])
    assert rig.stack.observed_share("app-west") == 1.0


def _is_about(seen: float, share: float) -> tuple[bool, float]:
    return share / 2 <= seen <= share * 2, seen


@pytest.mark.parametrize("mode", ["refuse", "silent"])
def test_a_blocked_replica_is_reached_within_its_site_and_by_excepted_flows(rig: Rig, mode: BlockMode) -> None:
    """One replica: others across the same link are reached. Restoring the links does not unblock it."""
    rig.stack.block(["app-east"], mode, except_flows=[WEST_EAST])
    rig.stack.block(["app-east"], mode, except_flows=[WEST_EAST])
    rig.stack.links.restore([OUT_EAST])
    assert silent(rig, "app-east", "outside")
    assert silent(rig, "app-east", "witness")
    assert reached(rig, "app-east", "west")
    assert reached(rig, "app-east", "east")
    assert reached(rig, "app-west", "outside")
    assert (first_call(rig, "witness", "app-east") == "refused") == (mode == "refuse")
    rig.stack.unblock(["app-east"])
    rig.stack.unblock(["app-east"])
    assert reached(rig, "app-east", "outside")


def test_disks_are_kept_until_they_are_destroyed(rig: Rig) -> None:
    """They outlive a kill; they are not destroyed under a replica that runs; a replica that starts without them is healthy."""
    rig.mark("store")
    rig.stack.kill(["store"])
    rig.stack.start(["store"], Deadline.after(30))
    assert rig.marked("store")
    with pytest.raises(StackError, match="store cannot be destroyed while they run"):
        rig.stack.destroy_disks(["store"])
    assert rig.marked("store")
    rig.stack.kill(["store"])
    rig.stack.destroy_disks(["store"])
    rig.stack.start(["store"], Deadline.after(30))
    assert not rig.marked("store")
    assert reached(rig, "store", "outside")


def test_a_cut_of_power_loses_what_was_never_synced(rig: Rig) -> None:
    """A kill alone loses nothing. Of what is cut, all that was synced is there; a file and an append that were not are gone.

    A second cut is like the first, and none happens under a replica that runs.
    """
    if why := rig.stack.why_no_cut():
        pytest.skip(why)
    rig.write("store", "before", "never synced", False)
    rig.stack.kill(["store"])
    rig.stack.start(["store"], Deadline.after(30))
    assert rig.read("store", "before") == "never synced"
    for number in ("first", "second"):
        rig.write("store", f"{number}-kept", "synced", True)
        rig.write("store", f"{number}-kept", ", appended", False)
        rig.write("store", f"{number}-gone", "never synced", False)
        with pytest.raises(StackError, match="store cannot be cut while they run"):
            rig.stack.cut_disks(["store"])
        rig.stack.kill(["store"])
        report = rig.stack.cut_disks(["store"])
        rig.stack.start(["store"], Deadline.after(30))
        assert report.volumes == ("store",)
        assert rig.read("store", f"{number}-kept") == "synced"
        assert rig.read("store", f"{number}-gone") == ""
    assert rig.read("store", "first-kept") == "synced"
    assert reached(rig, "store", "outside")


# --- the runtime itself, and its end: these two come last


def test_only_a_relay_that_restarts_changes_the_epoch(rig: Rig) -> None:
    """No fault of ours does. One that ended is trouble at once; one that came back is another."""
    before = rig.stack.links.epoch()
    rig.stack.links.fence([EAST_WEST], "test")
    rig.stack.kill(["app-west"])
    heal(rig)
    assert rig.stack.links.epoch() == before
    assert rig.stack.trouble() is None
    rig.over = True
    rig.end_relay()
    wait_until("trouble", lambda: (rig.stack.trouble() is not None, None), Deadline.after(5))
    assert _epoch_or_none(rig) != before
    rig.start_relay()
    assert _epoch_or_none(rig) not in (None, before)


def _epoch_or_none(rig: Rig) -> str | None:
    try:
        return rig.stack.links.epoch()
    except LinkError:
        return None


def test_down_leaves_nothing_however_often(rig: Rig) -> None:
    """Within the time that a run has for it."""
    assert rig.left()
    rig.over = True
    began_ns = SYSTEM.now_ns()
    assert rig.stack.down() == []
    assert rig.left() == []
    assert rig.stack.down() == []
    assert (SYSTEM.now_ns() - began_ns) / 1e9 < 20
