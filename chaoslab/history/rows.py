"""The rows of a run's `history.jsonl`: the interface between engine, prober, judge and report.

One frozen struct per kind; the tag is the `kind` field. Instants are monotonic nanoseconds. Rows are appended
whole, one `write` a line, by several processes to one O_APPEND file; readers sort by `t_ns`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from chaoslab.errors import ChaoslabError

Outcome = Literal["acked", "rejected", "indeterminate", "ok", "bad"]
HARNESS, BY_LOAD, OUTSIDE, OTHERS, KERNEL, STOLEN = "harness", "load", "outside", "others", "kernel", "stolen"  # see Machine
NOT_HIDDEN = "connects_not_hidden"  # in a fault's detail: those that succeeded behind its fence, by link's end
Phase = Literal["boot", "steady", "faults", "failback", "drain", "verify", "down"]


class Row(msgspec.Struct, frozen=True, tag_field="kind", kw_only=True, omit_defaults=True):
    """Base of all rows. `t_ns`: when the row was made."""

    t_ns: int


class Anchor(Row, frozen=True, tag="anchor"):
    """Ties monotonic time to the wall, once, as the first row: `t_ns` and `wall` (ISO 8601, UTC) are the same instant."""

    wall: str
    experiment: str
    run: str
    runtime: str
    facts: dict[str, Any] = {}


class PhaseRow(Row, frozen=True, tag="phase"):
    """A phase of the run began or ended."""

    phase: Phase
    event: Literal["begin", "end"]
    detail: dict[str, Any] = {}


class Probe(Row, frozen=True, tag="probe", omit_defaults=False, gc=False):
    """One slot of the open-loop prober. A write's `outcome` is acked, rejected or indeterminate; a read's ok or bad.

    `due_ns` is when the slot had to be sent, `sent_ns` when it was, `end_ns` when its answer was read whole or given up.
    `good`: right answer, within the journey's latency objective counted from `due_ns`.
    """

    journey: str
    service: str
    op: Literal["read", "write"]
    due_ns: int
    sent_ns: int
    end_ns: int
    good: bool
    outcome: Outcome
    id: str | None = None  # of the write; "<writer>-<seq>"
    writer: str | None = None
    seq: int | None = None
    hash: str | None = None
    status: int | None = None
    error: str | None = None
    pooled: bool = False


class LedgerRead(Row, frozen=True, tag="ledger"):
    """One read of a ledger. `site` is None through the public entry.

    The read covers writes with a sequence above `after_seq`. Of a `final` one: `settled` is whether the round of reads before
    it showed the same; `differed_ns`, when the sites were last seen to differ, None for never.
    """

    journey: str
    service: str
    writer: str
    begin_ns: int
    end_ns: int
    ok: bool
    site: str | None = None
    after_seq: int = -1
    final: bool = False
    items: list[tuple[str, str | None]] = []  # (id, hash), as the service returned them; None where it returns no hash
    error: str | None = None
    settled: bool = True
    differed_ns: int | None = None


class Fault(Row, frozen=True, tag="fault"):
    """inject and heal: about to be called. effective and healed: verified from outside. reconnected: what the fault had ended
    is started, and its links are open; written by faults whose heal starts replicas.
    """

    id: str
    name: str
    target: str
    event: Literal["inject", "effective", "ineffective", "heal", "reconnected", "healed", "unhealed"]
    detail: dict[str, Any] = {}


class Start(Row, frozen=True, tag="start"):
    """A replica that a fault had ended comes back. returning: the heal was called. answers: its ports do again."""

    replica: str
    service: str
    fault: str
    event: Literal["returning", "answers"]


class Ask(Row, frozen=True, tag="ask"):
    """Connections from one replica to a port of another without an answer, since the last row about them."""

    client: str
    client_service: str
    target: str
    target_service: str
    port: int
    how: Literal["refused", "silent"]
    times: int


class Step(Row, frozen=True, tag="step"):
    """A change to the stack besides the faults. begin: about to be called. returned: what was called is over. end: its effect
    was seen. failed: it will not be; without a begin it was not called. undone: its undo was run, `detail` says why not.
    """

    id: str
    name: str
    event: Literal["begin", "returned", "end", "failed", "undone"]
    detail: dict[str, Any] = {}


class Condition(Row, frozen=True, tag="condition"):
    """A named condition of the stack was looked at. `role`: before the fault, for failback, or to bring it about."""

    id: str
    holds: bool
    observed: str
    role: Literal["steady", "failback", "fault", "bring-about"] = "steady"


class Answer(Row, frozen=True, tag="answer"):
    """What the stack said of its own decisions or writers, as often as it said the same in a row.

    `about`: a moment of the stack's `decisions`, or whether a `replica` of a `service` in a `site` "writes". `value`: what was
    found in the answer, True or False for "writes"; None for nothing. `error`: why there was no answer. The first of these
    looks was sent at `asked_ns` and answered at `answered_ns`, the last was sent at `last_asked_ns` and answered at `t_ns`.
    """

    about: Literal["detected", "decided", "acted", "writes"]
    asked_ns: int
    answered_ns: int
    last_asked_ns: int
    replica: str = ""
    service: str = ""
    site: str = ""
    value: str | bool | None = None
    error: str | None = None


class Load(Row, frozen=True, tag="load"):
    """One second of Locust, from its rows: counts in that second, latency of the successes."""

    requests: int
    failures: int
    users: int
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class Abort(Row, frozen=True, tag="abort"):
    """A safety condition fired; the run heals and ends."""

    condition: str
    observed: str


class Decided(Row, frozen=True, tag="decided"):
    """The objectives that the experiment expects to fail have failed for good, so the run heals and ends.

    `settled_ns`: until when the slots had been told by then; `latest_ns`: when the observation would have ended at the latest.
    """

    objectives: list[str]
    settled_ns: int
    latest_ns: int


class Note(Row, frozen=True, tag="note"):
    """A warning, an error of the harness, an interruption; or links that broke, so that nothing can be observed (`blind`)."""

    level: Literal["info", "warning", "error", "interrupted", "blind"]
    text: str
    detail: dict[str, Any] = {}


class Machine(Row, frozen=True, tag="machine"):
    """One second of the machine, from `begin_ns` to `t_ns`; longer when the sampler itself was kept waiting.

    Owners are the names of the stack's sites, "outside" (replicas in no site), "load", "harness" (all that chaoslab itself
    starts, relays and Toxiproxies included), "others", "kernel" (its own threads, interrupts, and what no process was found
    for) and "stolen". What cannot be read on a machine is left out.
    `busy`: processors used, by owner. `waiting`: processors' worth of time spent runnable without one, by owner.
    `writes_mb`: megabytes a second written to disks, by owner. `psi`: share of the second, from 0 to 1, in which some task
    waited for "cpu", "io" or "memory". `memory`: "used" from 0 to 1, "swapped_mb" in and out in that second.
    `control_ms`: the longest that the control kept a "read" and a "fsync" waiting, from its due time to its answer or, without
    one yet, to the end of the second; None when it refused.
    `starved`: the control was late or the sampler itself stood still, and `why` says so; `late` names what was late: "read",
    "fsync", "tick" (of the sampler), "sleep", or "journey": a row of the prober, which the class of a journey blocked.
    `slept_s`: how long the machine slept.
    `top`: the largest processes outside the run, as "name (pid) 0.85" in processors, and what they wrote when that is much.
    """

    begin_ns: int
    busy: dict[str, float] = {}
    waiting: dict[str, float] = {}
    writes_mb: dict[str, float] = {}
    psi: dict[str, float] = {}
    memory: dict[str, float] = {}
    control_ms: dict[str, float | None] = {}
    starved: bool = False
    late: list[str] = []
    why: str = ""
    slept_s: float = 0.0
    top: list[str] = []


AnyRow = (
    Anchor
    | PhaseRow
    | Probe
    | LedgerRead
    | Fault
    | Start
    | Ask
    | Step
    | Condition
    | Answer
    | Load
    | Abort
    | Decided
    | Note
    | Machine
)

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(AnyRow)
_BLOCK_BYTES = 1 << 18  # read at once


def encode(row: Row) -> bytes:
    """One line of history, newline included."""
    return _ENCODER.encode(row) + b"\n"


def decode(line: bytes) -> AnyRow:
    """The row in one line. Raises msgspec.MsgspecError on anything else."""
    row: AnyRow = _DECODER.decode(line)
    return row


def read_history(path: Path) -> Iterator[AnyRow]:
    """All rows of a stored run, in file order. A last line that a crash cut short is left out.

    Raises ChaoslabError, naming the line, when any other line is broken.
    """
    with path.open("rb") as file:
        number = 1
        while lines := file.readlines(_BLOCK_BYTES):
            if not lines[-1].endswith(b"\n"):
                lines.pop()
            try:
                rows = list(map(_DECODER.decode, lines))  # together, which is faster; one by one only to say which is broken
            except msgspec.MsgspecError:
                for line_number, line in enumerate(lines, number):
                    try:
                        decode(line)
                    except msgspec.MsgspecError as broken:
                        raise ChaoslabError(f"{path}:{line_number}: not a row of history: {broken}") from broken
                raise
            yield from rows
            number += len(lines)
