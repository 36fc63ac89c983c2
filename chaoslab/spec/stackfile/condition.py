"""The models of conditions: facts about the stack, how each is looked up, and how it is brought about. Pure data."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from chaoslab.spec.stackfile.journey import Method, Redis, Sql
from chaoslab.spec.yaml.model import Model
from chaoslab.spec.yaml.short import Short

_BY_ALIAS = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
Urls = Annotated[list[str], Short(lambda raw: [raw], str), Field(min_length=1, max_length=16)]
Command = Annotated[list[str], Field(min_length=1)]
WAYS = ("get", "request", "post", "run", "redis", "sql")


class ReplicaRequest(Model):
    """A request of HTTP to a URL of `replica:port`. With several URLs they are asked in turn until one answers 2xx."""

    method: Method = "GET"
    url: Urls
    headers: dict[str, str] = {}
    body: Any = Field(default=None, alias="json")
    model_config = _BY_ALIAS


class Way(Model):
    """One way to ask the stack: `request`, or a command to `run` in a replica, or `redis` or `sql` at a `replica:port`.

    A command is an argument list: in a container it runs inside of it, on the embedded runtime as a process beside the
    replica, with its environment and its working folder.
    """

    request: ReplicaRequest | None = None
    run: Command | None = None
    in_: Annotated[str | None, Field(alias="in")] = None
    redis: Redis | None = None
    sql: Sql | None = None
    at: str | None = None
    model_config = _BY_ALIAS

    @property
    def ways(self) -> list[str]:
        """What is written; a sound one has one way."""
        return [way for way in WAYS if getattr(self, way, None) is not None]


class Look(Way):
    """A way to look something up, `get` for short for a GET of a URL.

    What is looked at is the JSON of an HTTP answer, the reply of Redis, the rows of SQL (a list of objects), or what a command
    writes: as JSON where it is, else as text.
    """

    get: str | None = None

    @property
    def http(self) -> ReplicaRequest | None:
        return ReplicaRequest(url=[self.get]) if self.get is not None else self.request


class Moment(Look):
    """When the stack decided something: once what `changes` (JMESPath) finds is another value than it was before the fault.

    Nothing (null) is no value: what changes to nothing has not changed yet.
    """

    changes: str


class Decisions(Model):
    """How the stack's own decisions on an outage are seen. Without `acted`: once another of its `writers` takes writes."""

    detected: Moment
    decided: Moment
    acted: Moment | None = None

    @property
    def moments(self) -> dict[str, Moment]:
        """By name, in order."""
        named = {"detected": self.detected, "decided": self.decided, "acted": self.acted}
        return {name: moment for name, moment in named.items() if moment is not None}


class Writer(Look):
    """How it is seen that a replica takes writes: `expect` (JMESPath) is true of what is looked up."""

    expect: str


class Pick(Look):
    """A value of the stack: what `pick` (JMESPath) finds in what is looked up."""

    pick: str


class BringAbout(Way):
    """What makes a condition true, such as a POST to Patroni's /switchover; `post` is short for a request with that method.

    `json`, headers, commands and statements may use {name} for each value that is looked up first, under `with`.
    """

    post: Urls | None = None
    body: Any = Field(default=None, alias="json")
    headers: dict[str, str] = {}
    values: dict[str, Pick] = Field(default={}, alias="with")

    @property
    def http(self) -> ReplicaRequest | None:
        if self.post is None:
            return self.request
        return ReplicaRequest(method="POST", url=self.post, headers=self.headers, json=self.body)


class ConditionSpec(Look):
    """A fact about the stack: `expect` (JMESPath) is true of what is looked up. Without it, a command has to end with status 0.

    `bring_about` establishes it, where it does not hold already.
    """

    expect: str | None = None
    bring_about: BringAbout | None = None
