"""The prober's plan: made from the stack's journeys, and handed over as a line of JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from chaoslab.errors import SpecError

if TYPE_CHECKING:  # pydantic stays out of the prober's process
    from chaoslab.spec.model import Experiment
    from chaoslab.spec.stackfile.journey import Before, Journey, LedgerSpec, PythonClass, RedisCommand, Request, SqlStatement
    from chaoslab.spec.stackfile.model import StackSpec


class EntryTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where a target's slots go. `url`: https for TLS. `ca`: a file of certificates to trust; None: the system's.

    `server_name`: what a certificate must be made out to; None: the host of the URL.
    """

    url: str
    ca: str | None = None
    server_name: str | None = None


class HttpCall(msgspec.Struct, frozen=True, kw_only=True, tag="call"):
    """A request before its placeholders are filled. `body`: what becomes JSON; `form`: what becomes a form."""

    method: str = "GET"
    path: str
    headers: dict[str, str] = {}
    body: Any = None
    form: dict[str, str] | None = None


class Prelude(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent before the slots, and again when it has run out: see the spec's Before."""

    call: HttpCall
    statuses: tuple[int, ...]
    keep: dict[str, str] = {}
    again_on: tuple[int, ...] = (401,)
    every_s: float | None = None


class Http(msgspec.Struct, frozen=True, kw_only=True, tag="http"):
    """Slots are requests of HTTP. `statuses`: those of a good answer."""

    call: HttpCall
    statuses: tuple[int, ...] = (200,)
    before: Prelude | None = None


class Tcp(msgspec.Struct, frozen=True, kw_only=True, tag="tcp"):
    """Slots are connections, on which `send` is sent and `expect`, a regular expression, awaited."""

    send: str | None = None
    expect: str | None = None


class Redis(msgspec.Struct, frozen=True, kw_only=True, tag="redis"):
    """Slots are commands of Redis."""

    command: tuple[str, ...]
    user: str | None = None
    password: str | None = None
    database: int = 0


class Sql(msgspec.Struct, frozen=True, kw_only=True, tag="sql"):
    """Slots are statements of SQL. `driver`: the package that sends them."""

    statement: str
    database: str | None = None
    user: str | None = None
    password: str | None = None
    driver: Literal["asyncpg", "psycopg"] = "asyncpg"


class Python(msgspec.Struct, frozen=True, kw_only=True, tag="python"):
    """Slots are attempts of a user's class, `module:Class`. `folder`: where the module is looked for first."""

    name: str
    folder: str | None = None
    settings: dict[str, Any] = {}


How = Http | Tcp | Redis | Sql | Python


class LedgerTarget(msgspec.Struct, frozen=True, kw_only=True):
    """How the writes of a target are read back: see the spec's LedgerSpec.

    `site`: how from one site. `entry`: how through the entry, None for not at all.
    """

    site: HttpCall | Redis | Sql | Python
    entry: HttpCall | Redis | Sql | None = None
    items: str | None = None
    pattern: str | None = None
    next: str | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One journey as the prober needs it.

    `within_s` and `timeout_s` count from the due time. `expect`: JMESPath that must be true of the answer. `not_applied`:
    statuses or codes that prove that a write was not executed. `entry` None: the plan's `base_url`.
    """

    name: str
    service: str
    op: Literal["read", "write"]
    how: How
    entry: EntryTarget | None = None
    expect: str | None = None
    within_s: float = 0.5
    timeout_s: float = 2.0
    not_applied: tuple[int | str, ...] = ()
    ledger: LedgerTarget | None = None


class ProbePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one prober does.

    `base_url`: the main entry. `history`: the file that rows are appended to. `writer`: prefix of all writers' names. `rate`:
    slots a second for each target, above 0. Ledgers are read every `ledger_every_s`, for the writes of the last
    `ledger_window_s`.
    """

    base_url: str
    history: str
    writer: str
    targets: list[Target]
    rate: float = 50.0
    ledger_every_s: float = 1.0
    ledger_window_s: float = 10.0


def plan_for(
    stack: StackSpec, experiment: Experiment, address: Callable[[str, int], object], history: Path, writer: str
) -> ProbePlan:
    """The plan of an experiment: the journeys that it names, or all of the stack's, through their entries.

    `address`: host:port at which a replica's port is reached from outside.
    """
    names = experiment.probe.journeys if experiment.probe.journeys is not None else list(stack.journeys)
    entries = {name: entry_target(stack, name, address) for name in (None, *stack.entries)}
    return ProbePlan(
        base_url=entries[None].url,
        history=str(history),
        writer=writer,
        targets=[
            target_of(name, stack.journeys[name], entries[stack.journeys[name].entry], experiment.probe.timeout)
            for name in names
        ],
        rate=experiment.probe.slots_per_s,
    )


def entry_target(stack: StackSpec, name: str | None, address: Callable[[str, int], object]) -> EntryTarget:
    """One of the stack's entries, the main one for None; its certificate has to name the replica, where nothing else is set."""
    entry = stack.entry_named(name)
    replica, _, port = entry.address.partition(":")
    where = address(replica, int(port))
    if entry.tls is None:
        return EntryTarget(url=f"http://{where}")
    ca = str(entry.tls.ca) if entry.tls.ca else None
    return EntryTarget(url=f"https://{where}", ca=ca, server_name=entry.tls.server_name or replica)


def target_of(name: str, journey: Journey, entry: EntryTarget | None = None, timeout_s: float | None = None) -> Target:
    """A journey of the spec as a target of the prober. `timeout_s`: instead of the journey's own."""
    return Target(
        name=name,
        service=journey.service,
        op=journey.op,
        how=_how(journey),
        entry=entry,
        expect=journey.good.expect,
        within_s=journey.good.within,
        timeout_s=journey.timeout if timeout_s is None else timeout_s,
        not_applied=tuple(journey.not_applied),
        ledger=_ledger(journey, journey.ledger) if journey.ledger else None,
    )


def _how(journey: Journey) -> How:
    if journey.tcp is not None:
        return Tcp(send=journey.tcp.send, expect=journey.tcp.expect)
    if journey.redis is not None:
        return redis_of(journey.redis)
    if journey.sql is not None:
        return sql_of(journey.sql)
    if journey.python is not None:
        return _python(journey.python)
    if journey.request is None:
        raise SpecError(f"a journey of {journey.service} does not define what it sends")
    prelude = None
    if (before := journey.before) is not None:
        again_on, statuses = tuple(before.again_on), tuple(before.status)
        prelude = Prelude(call=_call(before), statuses=statuses, keep=before.keep, again_on=again_on, every_s=before.every)
    return Http(call=_call(journey.request), statuses=tuple(journey.good.status), before=prelude)


def _python(spec: PythonClass) -> Python:
    return Python(name=spec.class_, folder=str(spec.folder) if spec.folder else None, settings=spec.settings)


def _call(request: Request | Before) -> HttpCall:
    return HttpCall(method=request.method, path=request.path, headers=request.headers, body=request.body, form=request.form)


def redis_of(spec: RedisCommand) -> Redis:
    """A command of the spec as the prober needs it."""
    return Redis(command=tuple(spec.command), user=spec.user, password=spec.password, database=spec.database)


def sql_of(spec: SqlStatement) -> Sql:
    """A statement of the spec as the prober needs it."""
    return Sql(statement=spec.statement, database=spec.database, user=spec.user, password=spec.password, driver=spec.driver)


def _ledger(journey: Journey, spec: LedgerSpec) -> LedgerTarget:
    """Only what speaks the journey's own protocol is also read through its entry, and no class in Python is."""
    entry: HttpCall | Redis | Sql | None = None
    site: HttpCall | Redis | Sql | Python
    if spec.sql is not None:
        site = sql_of(spec.sql)
        entry = site if journey.sql is not None and spec.from_ is None else None
    elif spec.redis is not None:
        site = redis_of(spec.redis)
        entry = site if journey.redis is not None and spec.from_ is None else None
    elif journey.python is not None and spec.path is None and spec.local is None:
        site = _python(journey.python)
    else:
        headers = spec.headers if spec.headers is not None else journey.request.headers if journey.request else {}
        site = HttpCall(method=spec.method, path=spec.local or spec.path or "/", headers=headers, body=spec.body)
        if spec.path is not None and journey.request is not None:
            entry = HttpCall(method=spec.method, path=spec.path, headers=headers, body=spec.body)
    return LedgerTarget(entry=entry, site=site, items=spec.items, pattern=spec.pattern, next=spec.next)


def writer_of(prefix: str, journey: str) -> str:
    """The name under which the prober writes one journey; two journeys never share a sequence."""
    return f"{prefix}.{journey}"


def encode_plan(plan: ProbePlan) -> bytes:
    """The plan as the line of JSON that `python -m chaoslab.probe` reads."""
    return msgspec.json.encode(plan)


def decode_plan(raw: bytes) -> ProbePlan:
    """The plan in a line of JSON. Raises msgspec.MsgspecError when it does not hold one."""
    return msgspec.json.decode(raw, type=ProbePlan)
