"""Outage truth: what is said of outages whose truth is known, here and by other instruments, on the same outages at once.

    python tests/bench/bench_outages.py [--rounds 10] [--only silent]... [--without-peers] [--json FILE] [--lanes 6]

A server in a process of its own goes wrong by script and notes when (tests/bench/outage_server.py); the real prober asks it
50 times a second, and the real clocks of the judge run from the instant at which it went wrong. A slot is truly bad when it is
answered wrongly, never, or later than its due time + `within`; so a server that holds all answers and then gives
them at once is away until `within` before that.

Full outages: the interval [low, high] holds the truth, and neither end is further from it than one slot and the time that an
answer took. Shares (only some requests are hurt): the interval holds the truth, and is no wider than a slot, an answer, and the
widening for the share that was seen (judge/README.md, Clocks). One in a hundred may miss it, as defined there.
Where a slot at an edge of the outage was sent more than a period late, or the server's own loop stood still there for half a
period, the machine was too busy to tell: such an outage is counted as disturbed and not scored.

Of a share, the table has the median width beside the width for the share that was really hurt. Of a server that stalls, the
first good answer itself takes up to `within`: the upper end is as much later. What peers are and how they are read is said in
tests/bench/outage_peers.py; they are installed on demand into ~/.cache/chaoslab-bench, which takes minutes the first time.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from outage_peers import READY_S, Peers, Told, install, polled_s

from chaoslab.clock import NS_PER_S, Deadline
from chaoslab.history.rows import Probe, read_history
from chaoslab.judge.clocks import Clock, EventTimeline, counted_slots, run_clocks
from chaoslab.judge.intervals import chance_slots
from chaoslab.judge.run_record import Injection
from chaoslab.judge.slots import Slots
from chaoslab.probe.plan import Http, HttpCall, ProbePlan, Target
from chaoslab.probe.process import ProberProcess
from chaoslab.process import HIGH_PRIORITY, spawn

RATE = 50.0
PERIOD_NS = round(NS_PER_S / RATE)
WITHIN_S, TIMEOUT_S = 0.2, 1.0
STEADY_S, GAP_S = 1.5, 3.0
SIMULATED = 1000
EDGE_NS = 100_000_000  # so near to an edge of an outage, a machine that stands still moves it
NEAR_NS = 5_000_000  # an answer so near its limit may be on either side of it for who reads it
SERVER = Path(__file__).with_name("outage_server.py")
OF_ALL = ("Locust", "k6")  # they tell of a whole run, not of each outage
PEERS = ("Chaos Toolkit", "blackbox", *OF_ALL)


@dataclass(frozen=True)
class Shape:
    """One kind of outage. `rounds_max`: how many one lane plays; the others run in lanes of their own."""

    name: str
    kind: str
    least_s: float
    most_s: float
    share: float | None = None  # of the requests that are hurt; None for all
    rounds_max: int = 10


SHAPES = (
    Shape("silent", "silent", 0.6, 2.0),
    Shape("refused", "refused", 0.6, 2.0),
    Shape("reset", "reset", 0.6, 2.0),
    Shape("503", "503", 0.6, 2.0),
    Shape("stall, then all", "stall", 0.6, 2.0),
    Shape("late", "late", 0.6, 2.0),
    Shape("one-way", "one-way", 0.6, 2.0),
    Shape("very short", "silent", 0.1, 0.1),
    Shape("long", "silent", 30.0, 30.0, rounds_max=2),
    Shape("flap", "flap", 1.2, 3.0, share=0.5),
    Shape("slow tail 20 %", "tail", 2.0, 3.5, share=0.2),
    Shape("brown-out 30 %", "brown-out", 2.0, 3.5, share=0.3),
    Shape("half of the replicas", "half", 2.0, 3.5, share=0.5),
)


@dataclass(frozen=True)
class Lane:
    """Some outages of one shape, on a port of their own. `windows`: begin and length in seconds."""

    name: str
    shape: Shape
    windows: Sequence[tuple[float, float]]

    @property
    def end_s(self) -> float:
        at_s, for_s = self.windows[-1]
        return at_s + for_s + GAP_S


@dataclass(frozen=True)
class Found:
    """One outage, and what was said of it. Seconds; `told`: what each peer said. `disturbed`: why it cannot be told."""

    shape: str
    truth_s: float
    low_s: float | None = None
    high_s: float | None = None
    answer_s: float = 0.0  # how long the first good answer took
    widening_s: float = 0.0
    disturbed: str = ""
    slots: int = 0
    wrong_slots: int = 0  # judged other than the server saw them
    told: Mapping[str, float] | None = None

    @property
    def held(self) -> bool:
        return self.low_s is not None and self.high_s is not None and self.low_s <= self.truth_s <= self.high_s

    @property
    def error_s(self) -> float:
        """How far the further end is from the truth, beyond the time that an answer (below: a request) is under way."""
        if self.low_s is None or self.high_s is None:
            return self.truth_s
        under_way_s = min(self.answer_s, NEAR_NS / NS_PER_S)
        return max(self.truth_s - self.low_s - under_way_s, self.high_s - self.truth_s - self.answer_s)

    @property
    def excess_s(self) -> float:
        """How much wider the interval is than a slot, an answer and its widening."""
        if self.low_s is None or self.high_s is None:
            return self.truth_s
        return self.high_s - self.low_s - PERIOD_NS / NS_PER_S - self.answer_s - self.widening_s


# --- playing ------------------------------------------------------------------------------------------------------


def lanes_of(shapes: Sequence[Shape], rounds: int, seed: int) -> list[Lane]:
    """The longest first, so that those run beside each other."""
    lanes = []
    for shape in shapes:
        for first in range(0, rounds, shape.rounds_max):
            name = re.sub("[^a-z0-9]+", "-", f"{shape.name}-{first}")
            luck = random.Random(f"{seed} {name}")  # noqa: S311
            lanes.append(Lane(name, shape, _windows(shape, min(shape.rounds_max, rounds - first), luck)))
    return sorted(lanes, key=lambda lane: -lane.end_s)


def _windows(shape: Shape, count: int, luck: random.Random) -> list[tuple[float, float]]:
    windows, at_s = [], STEADY_S
    for _ in range(count):
        at_s += luck.uniform(0.0, 0.5)
        windows.append((at_s, luck.uniform(shape.least_s, shape.most_s)))
        at_s = sum(windows[-1]) + GAP_S
    return windows


def play(lanes: Sequence[Lane], seed: int, missing: Mapping[str, str] | None) -> list[Found]:
    """These lanes at once. `missing`: peers that could not be installed; None leaves all of them out."""
    for_s = READY_S + max(lane.end_s for lane in lanes) + GAP_S
    told: Told | None = None
    with tempfile.TemporaryDirectory(prefix="chaoslab-bench-") as name, ExitStack() as ends:
        folder = Path(name)
        server = Server(lanes, seed, folder)
        ends.callback(server.end)
        urls = {lane: f"http://127.0.0.1:{port}" for lane, port in (server.line() or {}).items()}
        peers = None if missing is None else Peers(urls, for_s, folder, missing)
        if peers is not None:
            ends.callback(peers.stop)
            peers.start()
            await_peers(peers.agents(), server)
        with probed(urls, folder):
            server.go()
            server.await_word("played")
            time.sleep(GAP_S)
        if peers is not None:
            told = peers.end()
        server.go()
        server.await_word("told")
        truths = json.loads((folder / "truths.json").read_text())
        return [found for lane in lanes for found in judge_lane(lane, truths, read_slots(folder, lane.name), told)]


class Server:
    """tests/bench/outage_server.py, running; it has the processor first, like the prober: its instants are the truth."""

    def __init__(self, lanes: Sequence[Lane], seed: int, folder: Path) -> None:
        script = {lane.name: {"kind": lane.shape.kind, "windows": lane.windows} for lane in lanes}
        told = {"seed": seed, "truths": str(folder / "truths.json"), "lanes": script}
        (folder / "script.json").write_text(json.dumps(told))
        self._said = folder / "server.jsonl"
        command = [sys.executable, str(SERVER), str(folder / "script.json")]
        self._child = spawn(command, log=self._said, stdin=subprocess.PIPE, niceness=HIGH_PRIORITY)
        self._lines = self._said.open()

    def line(self, timeout_s: float = 600.0) -> Any:
        """What it says next; None when it says nothing in time."""
        deadline = Deadline.after(timeout_s)
        while not (text := self._lines.readline()).endswith("\n"):
            if self._child.poll() is not None:
                raise RuntimeError(f"the server ended: {self._said.read_text()}")
            if deadline.passed:
                return None
            time.sleep(0.05)
        return json.loads(text)

    def await_word(self, word: str) -> None:
        while self.line() not in (word, None):
            pass

    def go(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(b"go\n")
        self._child.stdin.flush()

    def end(self) -> None:
        self._child.kill()
        self._child.communicate()
        self._lines.close()


def await_peers(wanted: set[tuple[str, str]], server: Server) -> None:
    """Until each peer has asked each lane: one that is not there yet would miss the first outages."""
    deadline = Deadline.after(READY_S)
    while wanted and (said := server.line(deadline.left_s)) is not None:
        wanted.discard((said["lane"], said["agent"]))
    if wanted:
        print(f"not asking after {READY_S:.0f} s: {sorted(wanted)}", file=sys.stderr)


@contextmanager
def probed(urls: Mapping[str, str], folder: Path) -> Iterator[None]:
    """A prober for each lane: a prober has one address."""
    with ExitStack() as ends:
        for lane, url in urls.items():
            place = folder / f"probe-{lane}"
            place.mkdir()
            prober = ProberProcess(place)
            ends.callback(prober.stop)
            prober.start()
            prober.begin(plan(lane, url, place))
        yield


def plan(lane: str, url: str, folder: Path) -> ProbePlan:
    target = Target(
        name="read",
        service=lane,
        op="read",
        how=Http(call=HttpCall(path="/?seq={seq}")),
        within_s=WITHIN_S,
        timeout_s=TIMEOUT_S,
    )
    return ProbePlan(base_url=url, history=str(folder / "history.jsonl"), writer="bench", rate=RATE, targets=[target])


def read_slots(folder: Path, lane: str) -> Slots:
    slots = Slots()
    for row in read_history(folder / f"probe-{lane}" / "history.jsonl"):
        if isinstance(row, Probe):
            slots.add(row.due_ns, row.sent_ns, row.end_ns, row.good)
    return slots.ordered(period_ns=PERIOD_NS, within_ns=round(WITHIN_S * NS_PER_S))


# --- judging ------------------------------------------------------------------------------------------------------


def judge_lane(lane: Lane, truths: Mapping[str, Any], slots: Slots, told: Told | None) -> Iterator[Found]:
    own = truths["lanes"][lane.name]
    fates = {int(seq): fate for seq, fate in own["fates"].items()}
    begins = [begin_ns for begin_ns, _ in own["windows"][1:]]
    ends = [*(begin_ns - NS_PER_S // 10 for begin_ns in begins), slots.due[-1] + 1]
    for (begin_ns, end_ns), until_ns in zip(own["windows"], ends, strict=True):
        since_ns = begin_ns - NS_PER_S
        seen = slots.due_in(since_ns, until_ns)
        timeline = timeline_of(begin_ns, until_ns)
        clocks = run_clocks("read", counted_slots(seen, timeline), timeline)
        away_ns = end_ns - begin_ns - (round(WITHIN_S * NS_PER_S) if lane.shape.kind == "stall" else 0)
        yield Found(
            shape=lane.shape.name,
            truth_s=away_ns / NS_PER_S,
            disturbed=disturbed(seen, truths["lags"], begin_ns, end_ns),
            slots=len(seen),
            wrong_slots=wrong_slots(slots, slots.numbers(since_ns, until_ns), fates),
            told=peers_said(told, lane, since_ns, until_ns) if told else None,
            **said(clocks, seen),
        )


def peers_said(told: Told, lane: Lane, since_ns: int, until_ns: int) -> dict[str, float]:
    """How long the outage between these instants was, by each peer; by those that tell of a whole run, each one of it."""
    polled = {name: polled_s(by_lane[lane.name], since_ns, until_ns) for name, by_lane in told.polls.items()}
    shares = {name: by_lane[lane.name] for name, by_lane in told.shares.items() if lane.name in by_lane}
    return polled | {name: share * told.for_s / len(lane.windows) for name, share in shares.items()}


def timeline_of(begin_ns: int, until_ns: int) -> EventTimeline:
    """One fault that begins when the server went wrong, and is not healed from outside."""
    fault = Injection("outage", "link.cut", "shop", begin_ns, begin_ns, None, None, effect_seen=True, heal_verified=False)
    return EventTimeline.of([fault], [], {}, end_ns=until_ns)


def said(clocks: Sequence[Clock], seen: Slots) -> dict[str, Any]:
    """The interval of the one clock that there may be; nothing where there is none, or where it did not end."""
    clock = clocks[0] if len(clocks) == 1 else None
    if clock is None or clock.back_ns is None or clock.high_s is None:
        return {}
    first_good = seen.end.index(clock.back_ns)
    return {
        "low_s": clock.low_s,
        "high_s": clock.high_s,
        "answer_s": (clock.back_ns - seen.due[first_good]) / NS_PER_S,
        "widening_s": (clock.chance_ns or 0) / NS_PER_S,
    }


def disturbed(seen: Slots, lags: Sequence[tuple[int, int]], begin_ns: int, end_ns: int) -> str:
    """How long the machine kept the server or the prober waiting at either edge of an outage; empty when it did not."""
    server_ns = prober_ns = 0
    for edge_ns in (begin_ns, end_ns):
        near = seen.due_in(edge_ns - EDGE_NS, edge_ns + EDGE_NS)
        prober_ns = max([prober_ns, *(sent_ns - due_ns for due_ns, sent_ns in zip(near.due, near.sent, strict=True))])
        server_ns = max([server_ns, *(lag_ns for at_ns, lag_ns in lags if abs(at_ns - edge_ns) < EDGE_NS)])
    waits = {"server": (server_ns, PERIOD_NS // 2), "prober": (prober_ns, PERIOD_NS)}
    return ", ".join(f"{who} {waited_ns / 1e6:.0f} ms" for who, (waited_ns, most_ns) in waits.items() if waited_ns > most_ns)


def wrong_slots(slots: Slots, numbers: range, fates: Mapping[int, tuple[int, bool]]) -> int:
    """How many slots were judged other than the server saw them. A slot's place is the number that it carried."""
    wrong = 0
    for number in numbers:
        answered_ns, well = fates.get(number, (0, False))
        limit_ns = slots.due[number] + slots.within_ns
        if abs(answered_ns - limit_ns) > NEAR_NS:
            wrong += bool(slots.good[number]) != (well and answered_ns <= limit_ns)
    return wrong


def simulated(shape: Shape, times: int, seed: int) -> list[Found]:
    """The same shares by chance alone, through the same clocks: real ones are too few to tell 99 % from 97 %."""
    luck = random.Random(f"{seed} {shape.name}")  # noqa: S311
    return [_chance(shape, luck) for _ in range(times)]


def _chance(shape: Shape, luck: random.Random) -> Found:
    begin_ns = 2 * NS_PER_S + luck.randrange(PERIOD_NS)
    end_ns = begin_ns + round(luck.uniform(shape.least_s, shape.most_s) * NS_PER_S)
    seen = Slots(period_ns=PERIOD_NS, within_ns=round(WITHIN_S * NS_PER_S))
    for due_ns in range(0, end_ns + round(GAP_S * NS_PER_S), PERIOD_NS):
        hurt = begin_ns <= due_ns < end_ns and luck.random() < (shape.share or 1.0)
        seen.add(due_ns, due_ns, due_ns + (NS_PER_S if hurt else 1_000_000), not hurt)
    timeline = timeline_of(begin_ns, seen.due[-1] + 1)
    clocks = run_clocks("read", counted_slots(seen, timeline), timeline)
    return Found(shape.name, (end_ns - begin_ns) / NS_PER_S, **said(clocks, seen))


# --- telling ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """All outages of one shape. `met`: of those that were scored."""

    shape: Shape
    found: Sequence[Found]

    @property
    def scored(self) -> list[Found]:
        return [one for one in self.found if not one.disturbed]

    @property
    def held(self) -> int:
        return sum(one.held for one in self.scored)

    @property
    def worst_s(self) -> float:
        """Full: the largest error. Share: the largest excess over the width that is allowed."""
        worst: Callable[[Found], float] = (lambda one: one.excess_s) if self.shape.share else (lambda one: one.error_s)
        return max(map(worst, self.scored), default=0.0)

    @property
    def met(self) -> bool:
        if not self.scored:
            return False
        if self.shape.share:  # the interval's hold is asked of all shares together
            return self.worst_s <= 1e-6
        return self.held == len(self.scored) and self.worst_s <= PERIOD_NS / NS_PER_S

    def cells(self, peers: Sequence[str]) -> list[str]:
        truth = spread([one.truth_s for one in self.found])
        width_ms = [1000 * (one.high_s - one.low_s) for one in self.scored if one.low_s is not None and one.high_s is not None]
        allowed_ms = (chance_slots(self.shape.share or 1.0) + 1) * PERIOD_NS / 1e6
        width = f"{statistics.median(width_ms):.0f} / {allowed_ms:.0f}" if width_ms else "-"
        worst = "-" if self.shape.share else f"{1000 * self.worst_s:.1f}"
        mine = [f"{self.held} of {len(self.scored)}", worst, width, str(len(self.found) - len(self.scored))]
        return [self.shape.name, truth, *mine, *(self.peer(name) for name in peers)]

    def peer(self, name: str) -> str:
        """What it said on average; where it tells outages apart, how far off it was and how many it saw at all."""
        told = [(one.told[name], one.truth_s) for one in self.found if one.told and name in one.told]
        if not told:
            return "-"
        mean = f"{statistics.mean(said_s for said_s, _ in told):.2f}"
        if name in OF_ALL:
            return mean
        off_s = max(abs(said_s - truth_s) for said_s, truth_s in told)
        return f"{mean}, off by up to {off_s:.2f}; saw {sum(said_s > 0 for said_s, _ in told)} of {len(told)}"


def spread(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.2f}" if high - low < 0.005 else f"{statistics.mean(values):.2f} ({low:.2f}–{high:.2f})"


def table(rows: Sequence[Row], peers: Sequence[str]) -> str:
    heads = [
        "outage",
        "truth (s)",
        "interval holds it",
        "largest error (ms)",
        "width (ms), median / for the true share",
        "disturbed",
    ]
    lines = [[*heads, *(f"{name} (s)" for name in peers)], ["---"] * (len(heads) + len(peers))]
    lines += [row.cells(peers) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def summary(rows: Sequence[Row]) -> str:
    """The targets in words."""
    hurt = [one for row in rows for one in row.found if one.disturbed]
    full = [one for row in rows if not row.shape.share for one in row.scored]
    shares = [one for row in rows if row.shape.share for one in row.scored]
    held, hurt_held = sum(one.held for one in shares), sum(one.held for one in hurt)
    enough = held >= 0.99 * len(shares)
    slots, wrong = (sum(getattr(one, name) for row in rows for one in row.scored) for name in ("slots", "wrong_slots"))
    missed = [row.shape.name for row in rows if not row.met] + ([] if enough else ["the shares"])
    near = sum(one.held and one.error_s <= PERIOD_NS / NS_PER_S for one in full)
    lines = [
        f"Full outages: {near} of {len(full)} within one slot ({PERIOD_NS / 1e6:.0f} ms) of the truth at both ends.",
        f"Shares: the interval holds the truth in {held} of {len(shares)}.",
        f"Slots judged other than the server saw them: {wrong} of {slots}.",
        f"Disturbed by the machine, and not scored: {len(hurt)}; the interval holds the truth in {hurt_held}.",
        f"Targets missed: {', '.join(missed) or 'none'}.",
    ]
    return "\n".join(lines)


def main() -> None:
    asked = arguments()
    missing = None if asked.without_peers else install()
    for name, why in (missing or {}).items():
        print(f"without {name}: {why}", file=sys.stderr)
    shapes = [shape for shape in SHAPES if not asked.only or shape.name in asked.only]
    found: list[Found] = []
    lanes = lanes_of(shapes, asked.rounds, asked.seed)
    groups = [lanes[first : first + asked.lanes] for first in range(0, len(lanes), asked.lanes)]
    for number, group in enumerate(groups, 1):
        print(f"group {number} of {len(groups)}: {', '.join(lane.name for lane in group)}", file=sys.stderr, flush=True)
        found += play(group, asked.seed, missing)
    rows = [Row(shape, [one for one in found if one.shape == shape.name]) for shape in shapes]
    peers = [] if missing is None else [name for name in PEERS if name not in missing]
    print(f"{table(rows, peers)}\n\n{summary(rows)}")
    for shape in shapes:
        if shape.share is not None and shape.kind != "flap":  # a flap is not by chance
            held = sum(one.held for one in simulated(shape, SIMULATED, asked.seed))
            print(f"{shape.name}, by chance alone: the interval holds the truth in {held} of {SIMULATED}.")
    if asked.json:
        asked.json.write_text(json.dumps([asdict(one) | {"held": one.held} for one in found], indent=1))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="outages of each shape (10)")
    parser.add_argument("--only", action="append", choices=[shape.name for shape in SHAPES], help="this shape; again for more")
    parser.add_argument("--lanes", type=int, default=6, help="how many ports go wrong at once (6)")
    parser.add_argument("--seed", type=int, default=15, help="of the lengths and the chances (15)")
    parser.add_argument("--without-peers", action="store_true", help="chaoslab alone")
    parser.add_argument("--json", type=Path, help="write every outage to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
