"""The models of journeys: what one slot sends, what a good answer is, and how acknowledged writes are read back. Pure data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from chaoslab.spec.yaml.model import Flag, Model, Status, Whole
from chaoslab.spec.yaml.quantities import Seconds
from chaoslab.spec.yaml.short import Short, short_for

QUEUED = 202  # the status of a write that is acknowledged now and applied later
Method = Literal["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"]
Kind = Literal["request", "tcp", "redis", "sql", "python"]
KINDS: tuple[Kind, ...] = ("request", "tcp", "redis", "sql", "python")
_BY_ALIAS = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _code(raw: Any) -> int | str:
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise ValueError("a status of HTTP is needed here, or another protocol's code as text, such as READONLY")
    return raw


Code = Annotated[int | str, BeforeValidator(_code)]
Statuses = Annotated[list[Status], Short(lambda raw: [raw], int), Field(min_length=1, max_length=32)]


class Request(Model):
    """One HTTP request. {id}, {writer}, {seq}, {payload}, {hash}, and what `before` keeps, are filled in inside its texts.

    A body is `json` or a `form` (application/x-www-form-urlencoded), or there is none.
    """

    method: Method = "GET"
    path: str
    headers: dict[str, str] = {}
    body: Any = Field(default=None, alias="json")
    form: dict[str, str] | None = None
    model_config = _BY_ALIAS


class Before(Model):
    """A request that comes first, such as a login. Its cookies are sent with the journey's requests.

    `keep`: values of its JSON (JMESPath) by the names under which the journey's request uses them, as in `{token}`. It is sent
    once, again when the journey is answered with a status of `again_on`, and every `every`, where that is set.
    """

    method: Method = "POST"
    path: str
    headers: dict[str, str] = {}
    body: Any = Field(default=None, alias="json")
    form: dict[str, str] | None = None
    status: Statuses = [200, 201, 204]
    keep: dict[str, str] = {}
    again_on: Statuses = [401]
    every: Seconds | None = None
    model_config = _BY_ALIAS


class TcpTalk(Model):
    """Connect, send a text, and read until the answer matches a regular expression. Without `expect`, what was sent is enough.

    With neither, a connection that is accepted is good. Escapes of YAML hold in double quotes: send: "PING\\r\\n".
    """

    send: str | None = None
    expect: str | None = None


class RedisCommand(Model):
    """One command of Redis or Valkey, word by word."""

    command: Annotated[list[str], Field(min_length=1)]
    user: str | None = None
    password: str | None = None
    database: Annotated[Whole, Field(ge=0)] = 0


class SqlStatement(Model):
    """One statement, in a transaction of its own; {id} and the like become its parameters, never a part of its text.

    The driver is a package that you install beside chaoslab: asyncpg or psycopg.
    """

    statement: Annotated[str, Field(min_length=1)]
    database: str | None = None
    user: str | None = None
    password: str | None = None
    driver: Literal["asyncpg", "psycopg"] = "asyncpg"


class PythonClass(Model):
    """A class of your own, `module:Class`, of a module beside the Compose file or in `folder`; see chaoslab.Journey.

    `with`: settings that it finds as `self.settings`.
    """

    class_: Annotated[str, Field(alias="class")]
    settings: dict[str, Any] = Field(default={}, alias="with")
    folder: Path | None = None
    model_config = _BY_ALIAS


Redis = Annotated[RedisCommand, short_for("command", list)]
Sql = Annotated[SqlStatement, short_for("statement", str)]


class Good(Model):
    """What a good answer is: its latency from the due time, for HTTP its status, and a JMESPath expression over what it holds.

    `expect` looks at the JSON of an HTTP answer, at the reply of Redis, or at the rows of SQL (a list of objects).
    """

    status: Statuses = [200]
    within: Seconds = 0.5
    expect: str | None = None  # JMESPath; must be true


class LedgerSpec(Model):
    """How acknowledged writes are read back: `path` (HTTP), `sql` or `redis`; for a journey in Python, by its class.

    `path` is read through the entry during the run, and `local` (or `path`) at the end from each site's own replica of `from`,
    a service or `service:port`; without it, of the journey's service. `items` (JMESPath) finds a list of {id, hash}, of {id} or
    of ids, or an object of id to hash. `pattern`, a regular expression, takes ids (its group `id`, or the first; and the group
    `hash`) out of the texts that `items` finds, or out of the whole answer. {writer}, {after} and {next} are filled in: {after}
    reads page by page behind the last sequence, {next} with what `next` (JMESPath) finds in the page before.
    """

    path: str | None = None
    local: str | None = None
    method: Method = "GET"
    headers: dict[str, str] | None = None  # None: the journey's own
    body: Any = Field(default=None, alias="json")
    redis: Redis | None = None
    sql: Sql | None = None
    from_: Annotated[str | None, Field(alias="from")] = None
    items: str | None = None
    pattern: str | None = None
    next: str | None = None
    linearizable: Flag = False
    model_config = _BY_ALIAS


class Journey(Model):
    """A read or a write of one service, through an entry. It is one of `request` (HTTP), `tcp`, `redis`, `sql` and `python`.

    `title`: what its users call it, for the report's page for the business.
    `entry` names one of the stack's `entries`; without it, the main one. A journey is a write if `writes` says so; without
    that, an HTTP request by its method, and others if they have a ledger. A journey with a `ledger` is a write that counts.
    `not_applied`: statuses of HTTP, SQLSTATEs or first words of Redis errors that prove that nothing was executed.
    """

    service: str
    title: Annotated[str | None, Field(min_length=1)] = None
    entry: str | None = None
    before: Before | None = None
    request: Request | None = None
    tcp: TcpTalk | None = None
    redis: Redis | None = None
    sql: Sql | None = None
    python: Annotated[PythonClass, short_for("class", str)] | None = None
    writes: Flag | None = None
    good: Good = Good()
    not_applied: list[Code] = []
    timeout: Seconds = 2.0
    ledger: LedgerSpec | None = None

    @property
    def kinds(self) -> list[Kind]:
        """The kinds that are written; a sound journey has one."""
        return [kind for kind in KINDS if getattr(self, kind) is not None]

    @property
    def op(self) -> Literal["read", "write"]:
        if self.writes is not None:
            return "write" if self.writes else "read"
        writes = self.request.method not in ("GET", "HEAD") if self.request is not None else self.ledger is not None
        return "write" if writes else "read"
