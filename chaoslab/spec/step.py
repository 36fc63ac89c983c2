"""One step of a timeline: what a person or a program does beside the faults, such as the commands of a runbook. Pure.

A step is named by its kind: `run`, `http`, `sql`, `bring_about` or `manual`. What it does: `chaoslab/engine/timeline_steps`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Discriminator, Field, GetJsonSchemaHandler, Tag, TypeAdapter, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from chaoslab.spec.fault import ID, FaultBase
from chaoslab.spec.fault_types import FAULTS
from chaoslab.spec.runbook import RunbookUse
from chaoslab.spec.stackfile.condition import ConditionSpec
from chaoslab.spec.stackfile.journey import SqlStatement
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.yaml.model import Model, Status
from chaoslab.spec.yaml.quantities import Seconds, UnderSeconds
from chaoslab.spec.yaml.tagged import OneOrMore, Tagged

StepKind = Literal["run", "http", "sql", "bring_about", "manual"]
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class InlineCondition(Model):
    """A fact about the stack: GET a URL of `replica:port`; `expect` (JMESPath) must be true for its JSON."""

    get: str
    expect: str

    @property
    def spec(self) -> ConditionSpec:
        return ConditionSpec(get=self.get, expect=self.expect)


Fact = Annotated[
    Annotated[str, Tag("name")] | Annotated[InlineCondition, Tag("inline")],
    Discriminator(lambda raw: "inline" if isinstance(raw, dict | InlineCondition) else "name"),
]
Facts = Annotated[list[Fact], OneOrMore()]
Command = Annotated[list[str], Field(min_length=1)]


class Needs(Model):
    """What a step needs when it begins; `chaoslab runbook check` checks it, a run does not."""

    env: Annotated[list[str], Field(description="Environment variables that must be set.")] = []
    files: Annotated[list[Path], Field(description="Files that must be readable, relative to the step's folder.")] = []
    addresses: Annotated[list[str], Field(description="Replicas that must be reachable, each with its port.")] = []


class StepBase(Model):
    """`at` counts from the end of the steady state, or from what the step comes `after`."""

    id: Annotated[str, Field(pattern=ID, description="The name of this step in rows and reports; its objective is step.<id>.")]
    at: Annotated[Seconds, Field(description="When it begins, counted from the end of the steady state, or from `after`.")] = (
        0.0
    )
    after: Annotated[
        str | None, Field(description="A fault whose effect must have been seen first, or a step that must have finished.")
    ] = None
    after_heal: Annotated[str | None, Field(description="A fault whose heal must have been verified first.")] = None
    precondition: Annotated[
        Facts, Field(description="Conditions that must hold; otherwise the step fails and does not begin.")
    ] = []
    verify: Annotated[Facts, Field(description="Conditions that must hold before the step counts as finished.")] = []
    budget: Annotated[
        Seconds, Field(gt=0, description="How long it may take, including its verification; after that it has failed.")
    ] = 60.0
    within: Annotated[UnderSeconds | None, Field(description="An objective for its duration, tighter than the budget.")] = None
    undo: Annotated[
        Command | None,
        Field(description="A command that reverts what must not outlast the run; it must work from any state."),
    ] = None
    cwd: Annotated[
        Path | None, Field(description="The folder of its commands, relative to the project's, which is the default.")
    ] = None
    from_: Annotated[
        str,
        Field(
            alias="from",
            description="The place from which it is carried out. HTTP requests are sent from there; commands and SQL are not,"
            " but the step fails while that place is cut off.",
        ),
    ] = OUTSIDE
    needs: Annotated[Needs, Field(description="What it needs when it begins, for `chaoslab runbook check`.")] = Needs()
    restores: Annotated[
        list[str],
        Field(
            description="Services whose data it restores from one backup. The last line of its output must be JSON with"
            " `holds_until`, the time of the last transaction in the backup; the run then fails if anything else is lost."
        ),
    ] = []
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    kind: ClassVar[StepKind]

    @property
    def limit_s(self) -> float:
        """Seconds after which it has failed, with what was only declared of it."""
        return self.budget

    @property
    def at_most_s(self) -> float:
        """Seconds that it takes of an unattended run at most."""
        return self.budget

    @property
    def templated(self) -> Any:
        """The part of it in whose texts `${NAME}` stands for an environment variable."""
        return None

    @property
    def runs_commands(self) -> bool:
        """Whether it has commands of the spec's author, which need permission: spec/permission."""
        return self.undo is not None

    @property
    def commands(self) -> dict[str, list[str]]:
        """Its commands, by their keys."""
        return {} if self.undo is None else {"undo": self.undo}

    @property
    def target(self) -> str:
        """What it does, in words, for rows and reports."""
        raise NotImplementedError


class RunStep(StepBase):
    """A command, as an argument list; no shell. It fails when its exit status is not 0. `CHAOSLAB_ENTRY` is the entry's URL."""

    run: Command
    check: Annotated[
        Command | None,
        Field(description="A command that changes nothing and shows that `run` would work, for `chaoslab runbook check`."),
    ] = None
    kind: ClassVar[StepKind] = "run"

    @property
    def runs_commands(self) -> bool:
        return True

    @property
    def commands(self) -> dict[str, list[str]]:
        return {"run": self.run, **({} if self.check is None else {"check": self.check}), **super().commands}

    @property
    def target(self) -> str:
        return " ".join(self.run)


class HttpCall(Model):
    """One request: to a `path` of the entry, or a `url` of `replica:port`. Without `status`, any 2xx is expected."""

    method: Literal["GET", "POST", "PUT", "DELETE", "PATCH"] = "POST"
    path: str | None = None
    url: str | None = None
    headers: dict[str, str] = {}
    body: Any = Field(default=None, alias="json")
    status: Status | None = None
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="after")
    def one_address(self) -> HttpCall:
        if (self.path is None) == (self.url is None):
            raise ValueError("name either a path of the entry, or a url such as http://app-east:8000/promote")
        if self.path is not None and not self.path.startswith("/"):
            raise ValueError(f"path {self.path!r} must begin with a slash")
        return self


class HttpCheck(HttpCall):
    """A request that changes nothing. Without headers, those of the step are sent."""

    method: Literal["GET", "HEAD", "OPTIONS"] = "GET"  # type: ignore[assignment]


class HttpStep(StepBase):
    """An HTTP request to the stack. It fails when the answer has another status, or does not come.

    `${NAME}` stands for an environment variable in its URL, headers and JSON.
    """

    http: HttpCall
    check: Annotated[
        HttpCheck | None,
        Field(description="A request that changes nothing and shows that `http` would work, for `chaoslab runbook check`."),
    ] = None
    kind: ClassVar[StepKind] = "http"

    @property
    def templated(self) -> Any:
        return [call.model_dump(by_alias=True) for call in (self.http, self.check) if call is not None]

    @property
    def target(self) -> str:
        return f"{self.http.method} {self.http.path or self.http.url}"


class SqlCall(SqlStatement):
    """A statement at a `replica:port`. Without `expect` (JMESPath over the rows, a list of objects) any answer is as expected.

    `${NAME}` stands for an environment variable in `database`, `user` and `password`.
    """

    at: str
    expect: str | None = None


class SqlStep(StepBase):
    """A statement of SQL. It fails when the server refuses it, does not answer, or `expect` is not true of the rows."""

    sql: SqlCall
    kind: ClassVar[StepKind] = "sql"

    @property
    def templated(self) -> Any:
        return [self.sql.database, self.sql.user, self.sql.password]

    @property
    def target(self) -> str:
        return f"{self.sql.statement} at {self.sql.at}"


class BringAboutStep(StepBase):
    """Bring about a condition of the stack, as its `bring_about` says: a switchover. It is over once the condition holds."""

    bring_about: str
    kind: ClassVar[StepKind] = "bring_about"

    @property
    def target(self) -> str:
        return self.bring_about


class ManualStep(StepBase):
    """What a person does, as text. An attended run waits until they confirm it, an unattended one for the `delay`.

    If the delay is longer than the budget, an unattended run waits for the budget only. The rest is declared: it is added to
    the times that the step and the outages around it took.
    """

    manual: Annotated[str, Field(min_length=1)]
    owner: Annotated[str | None, Field(description="Who does it.")] = None
    delay: Annotated[Seconds, Field(description="How long the person takes in nine of ten cases.")]
    kind: ClassVar[StepKind] = "manual"

    @property
    def waits_s(self) -> float:
        """How long an unattended run waits for the person."""
        return min(self.delay, self.budget)

    @property
    def declared_s(self) -> float:
        """What is added to that."""
        return self.delay - self.waits_s

    @property
    def limit_s(self) -> float:
        return self.budget if self.delay < self.budget else self.delay + self.budget

    @property
    def at_most_s(self) -> float:
        return self.limit_s - self.declared_s

    @property
    def target(self) -> str:
        return f"{self.owner}: {self.manual}" if self.owner else self.manual


def variables_in(tree: Any) -> set[str]:
    """The environment variables that the texts of a tree stand for."""
    if isinstance(tree, Mapping):
        return variables_in([*tree.values()])
    if isinstance(tree, list):
        return set().union(*map(variables_in, tree))
    return set(_VARIABLE.findall(tree)) if isinstance(tree, str) else set()


def fill_variables(tree: Any, environ: Mapping[str, str]) -> Any:
    """A tree with each `${NAME}` replaced. Raises KeyError with the name of a variable that is not set."""
    if isinstance(tree, Mapping):
        return {key: fill_variables(value, environ) for key, value in tree.items()}
    if isinstance(tree, list):
        return [fill_variables(item, environ) for item in tree]
    return _VARIABLE.sub(lambda found: environ[found[1]], tree) if isinstance(tree, str) else tree


_KINDS: dict[str, type[StepBase]] = {
    "run": RunStep,
    "http": HttpStep,
    "sql": SqlStep,
    "bring_about": BringAboutStep,
    "manual": ManualStep,
}


def _kind_of(raw: Any) -> str | None:
    """The tag of a step as written: its first key that names a kind. With a space, so that no key is taken for it."""
    found = raw.kind if isinstance(raw, StepBase) else next((kind for kind in _KINDS if kind in raw), None)
    return f"step {found}" if found else None


@cache
def steps() -> TypeAdapter[StepBase]:
    """Reads a step of any kind."""
    options: Any = Annotated[RunStep, Tag("step run")] | Annotated[HttpStep, Tag("step http")]
    options = options | Annotated[SqlStep, Tag("step sql")]
    options = options | Annotated[BringAboutStep, Tag("step bring_about")] | Annotated[ManualStep, Tag("step manual")]
    return TypeAdapter(Annotated[options, Discriminator(_kind_of)])


class _FaultOrStep(Tagged):
    """A mapping with a key `fault` is read as that fault, one with the key of a step as that step."""

    def __init__(self) -> None:
        super().__init__(FAULTS.tag, FAULTS.models)

    def model_for(self, tag: object) -> Any:
        return _KINDS.get(str(tag).removeprefix("step ")) if str(tag).startswith("step ") else super().model_for(tag)

    def read(self, raw: Any) -> Any:
        is_step = isinstance(raw, dict) and "fault" not in raw and _kind_of(raw) is not None
        return steps().validate_python(raw) if is_step else super().read(raw)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        runbook = handler(TypeAdapter(RunbookUse).core_schema)  # what the steps of its file take the place of
        return {"anyOf": [super().__get_pydantic_json_schema__(schema, handler), handler(steps().core_schema), runbook]}


TimelineEntry = Annotated[FaultBase | StepBase, _FaultOrStep()]
