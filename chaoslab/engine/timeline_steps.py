"""The steps of an experiment's timeline.

A command, an HTTP request, a SQL statement, a condition to bring about, or a manual step.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any, Generic, TypeVar

import jmespath

from chaoslab import process
from chaoslab.background import in_thread
from chaoslab.cleanup import active_runs
from chaoslab.cleanup.journal import EndProcesses, RunCommand, UndoJournal, perform
from chaoslab.clock import NS_PER_S, Clock, utc_now
from chaoslab.engine.asking import Asking, NoAnswer
from chaoslab.engine.conditions import Conditions
from chaoslab.engine.steps import Begun, PlannedStep, Seen, StepFailed
from chaoslab.errors import EnvironmentFault, StackError
from chaoslab.faults.command import MARK
from chaoslab.files import log_tail
from chaoslab.history.confirmations import Ask, Confirmations
from chaoslab.history.rows import Row
from chaoslab.history.rows import Step as StepRow
from chaoslab.spec.stackfile.condition import Look
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Flow
from chaoslab.spec.step import (
    BringAboutStep,
    Fact,
    HttpCall,
    HttpStep,
    InlineCondition,
    ManualStep,
    RunStep,
    SqlCall,
    SqlStep,
    StepBase,
    fill_variables,
)
from chaoslab.stack.protocol import Stack

_POLL_S = 0.1
_TAIL_LINES = 12
_ANSWER_MAX = 1000  # characters of an answer that a row keeps

Detail = dict[str, Any]
S = TypeVar("S", bound=StepBase)


@dataclass(frozen=True)
class Surroundings:
    """What all steps of one trial share. `write` takes rows from any thread; outputs of commands go to `logs`.

    `people`: where people confirm their steps, in a run of this `run_id`; None in an unattended run.
    """

    stack: Stack
    journal: UndoJournal
    logs: Path
    write: Callable[[Row], None]
    clock: Clock
    people: Confirmations | None = None
    run_id: str = ""


def planned_step(spec: StepBase, around: Surroundings) -> PlannedStep:
    """A step for the runner of the trial. Raises TypeError for an unknown kind."""
    step = next(step for kind, step in _STEPS.items() if isinstance(spec, kind))
    limit_s = spec.at_most_s if around.people is None else spec.limit_s
    return PlannedStep(step(spec, around), spec.at, limit_s, spec.after, spec.after_heal)


class TimelineStep(Generic[S]):
    """One step of a timeline: its precondition, its call in a thread of its own, and what verifies it.

    Its undo, and how to end what its command starts, are stored before the call.
    """

    def __init__(self, spec: S, around: Surroundings) -> None:
        self.spec = spec
        self.around = around
        self.id, self.name = spec.id, spec.kind
        self.undo_timeout_s = spec.budget if spec.undo is not None else 0.0
        self.token = token_hex(8)
        self.over = threading.Event()  # set when its effect was seen, it failed, or the trial ends
        self._conditions = Conditions(around.stack, [], around.clock)
        self._called: Future[int] = Future()
        self._facts: list[Fact] = [*([spec.bring_about] if isinstance(spec, BringAboutStep) else []), *spec.verify]
        self._awaited = ""
        self._unseen_ns: int | None = None
        self._roster = around.journal.path.with_name(".steps")  # of commands, which may hide the mark in their environment
        self._leftovers = EndProcesses(MARK, self.token, str(self._roster))
        self._undo: RunCommand | None = None
        self.child: subprocess.Popen[bytes] | None = None  # of its command
        self._planned: list[int] = []  # numbers of undo steps

    # --- for the runner ---------------------------------------------------------------------------------

    def begin(self) -> Begun | None:
        place = self.spec.from_
        if place != OUTSIDE and {Flow(place, OUTSIDE), Flow(OUTSIDE, place)} & self.around.stack.links.fenced():
            raise StepFailed(f"it did not begin: it would run from {place}, which is cut off")
        missing = self._missing(self.spec.precondition)
        if missing is not None:
            raise StepFailed(f"it did not begin: its precondition does not hold: {missing}")
        if self.over.is_set():
            return None
        around, spec = self.around, self.spec
        if spec.undo is not None:
            self._undo = RunCommand(list(spec.undo), str(self.cwd), spec.budget)
            self._planned.append(around.journal.plan(self._undo))
        if isinstance(spec, RunStep):
            self._planned.append(around.journal.plan(self._leftovers))
        begun_ns = around.clock.now_ns()
        self._called = in_thread(self._carry_out, f"the call of step {spec.id}")
        return Begun(begun_ns, {"target": spec.target})

    def verify(self) -> Seen | None:
        if not self._called.done():
            self._awaited = self.under_way
            return None
        called_ns, asked_ns = self._called.result(), self.around.clock.now_ns()
        missing = self._missing(self._facts)
        if missing is not None:
            self._awaited, self._unseen_ns = f"its effect was not seen: {missing}", asked_ns
            return None
        unseen_ns = called_ns if self._unseen_ns is None else self._unseen_ns
        return Seen(self.around.clock.now_ns(), unseen_ns) if self._facts else Seen(called_ns)

    def awaited(self) -> str:
        return self._awaited

    def end(self) -> None:
        self.over.set()
        if not self._called.done():
            if self.child is not None:  # its group, too: a command may hide the mark in its environment
                process.end_group(self.child, grace_s=0)
            self._end_leftovers()

    def undo(self) -> None:
        self._end_leftovers()
        if self._undo is not None:
            try:
                left = perform(self._undo)
            except EnvironmentFault as failed:  # it could not start, or did not end
                left = [str(failed)]
            self.around.write(self._row("undone", {"why": left[0]} if left else {}))
            if left:
                raise StackError(left[0])
        for number in self._planned:
            self.around.journal.done(number)

    def _end_leftovers(self) -> None:
        if isinstance(self.spec, RunStep) and (left := perform(self._leftovers)):
            raise StackError(f"left running: {', '.join(left)}")

    # --- in threads -------------------------------------------------------------------------------------------

    @property
    def cwd(self) -> Path:
        """Where its commands run; a loaded step has its folder."""
        return self.spec.cwd or Path.cwd()

    def wait(self, seconds: float) -> None:
        """Let time pass, until the step is over."""
        until_ns = self.around.clock.now_ns() + round(seconds * NS_PER_S)
        while not self.over.is_set() and (left_ns := until_ns - self.around.clock.now_ns()) > 0:
            self.around.clock.sleep(min(_POLL_S, left_ns / NS_PER_S))

    under_way = "it has not ended"  # in words, until its call is over

    def call(self) -> Detail:
        """Do what its kind does. Raises StepFailed."""
        raise NotImplementedError

    def filled(self, tree: Any) -> Any:
        """The text with the values of environment variables. Raises StepFailed for one that is not set."""
        try:
            return fill_variables(tree, os.environ)
        except KeyError as missing:
            raise StepFailed(f"the environment variable {missing.args[0]} is not set") from missing

    def _carry_out(self) -> int:
        """Call it; returns when the call was over. Raises StepFailed."""
        detail = self.call()
        over_ns = self.around.clock.now_ns()
        if not self.over.is_set():
            self.around.write(self._row("returned", detail, over_ns))
        return over_ns

    def _row(self, event: Any, detail: Mapping[str, Any], at_ns: int | None = None) -> StepRow:
        t_ns = self.around.clock.now_ns() if at_ns is None else at_ns
        return StepRow(t_ns=t_ns, id=self.id, name=self.name, event=event, detail=dict(detail))

    def _missing(self, facts: list[Fact]) -> str | None:
        """The first of these conditions that does not hold now, and what was observed; None if all hold."""
        known = self.around.stack.topology.spec.conditions
        for fact in facts:
            name, spec = ("", fact.spec) if isinstance(fact, InlineCondition) else (f"{fact}: ", known[fact])
            holds, observed = self._conditions.observe(spec)
            if not holds:
                return name + observed
        return None


# --- the kinds --------------------------------------------------------------------------------------------------


class Run(TimelineStep[RunStep]):
    def call(self) -> Detail:
        """Run it; its output goes to a log of its own, and the end of the output into the rows."""
        command, log = self.spec.run, self.around.logs / f"step-{self.id}.log"
        name, port = self.around.stack.topology.entry
        env = {**os.environ, MARK: self.token, "CHAOSLAB_ENTRY": f"http://{self.around.stack.address(name, port)}"}
        try:
            child = self.child = process.spawn(command, log=log, env=env, cwd=self.cwd)
            process.remember(child.pid, {MARK: self.token}, self._roster)
        except EnvironmentFault as missing:
            if self.child is not None:
                process.end_group(self.child, grace_s=0)
            raise StepFailed(str(missing)) from missing
        if self.over.is_set():  # while it was started
            process.end_group(child, grace_s=0)
        status = child.wait()
        output = "\n".join(log_tail(log, _TAIL_LINES))
        if status != 0:
            raise StepFailed(f"{command[0]}: exit status {status}", output=output)
        return {"status": status, "output": output}


class Request(TimelineStep[HttpStep]):
    def call(self) -> Detail:
        call, stack = self.spec.http, self.around.stack
        call = HttpCall.model_validate(self.filled(call.model_dump(by_alias=True)))
        name, port = stack.topology.entry
        url = call.url if call.url is not None else f"http://{name}:{port}{call.path}"
        try:
            asking = Asking(stack, sent_from=self.spec.from_)
            answer = asking.send(call.method, url, self.spec.budget, call.body, call.headers)
        except NoAnswer as failed:
            raise StepFailed(str(failed)) from failed
        detail = {"status": answer.status, "output": answer.text[:_ANSWER_MAX]}
        if not (200 <= answer.status < 300 if call.status is None else answer.status == call.status):
            expected = "2xx" if call.status is None else call.status
            raise StepFailed(f"{call.method} {url}: status {answer.status}, expected {expected}", **detail)
        return detail


class Sql(TimelineStep[SqlStep]):
    def call(self) -> Detail:
        call = self.spec.sql
        account = {key: self.filled(getattr(call, key)) for key in ("database", "user", "password")}
        call = SqlCall.model_validate(call.model_dump() | account)
        look = Look(sql=call, at=call.at)
        try:
            exchange = Asking(self.around.stack).exchange(look, {}, self.spec.budget)
        except NoAnswer as failed:
            raise StepFailed(f"sql at {call.at}: {failed}") from failed
        if exchange.error is not None:
            raise StepFailed(f"sql at {call.at}: {exchange.error}")
        detail = {"output": json.dumps(exchange.value, default=str)[:_ANSWER_MAX]}
        try:
            as_expected = call.expect is None or jmespath.search(call.expect, exchange.value) is True
        except jmespath.exceptions.JMESPathError as failed:
            raise StepFailed(f"sql at {call.at}: {call.expect}: {failed}", **detail) from failed
        if not as_expected:
            raise StepFailed(f"sql at {call.at}: not true of the rows: {call.expect}", **detail)
        return detail


class BringAbout(TimelineStep[BringAboutStep]):
    def call(self) -> Detail:
        """Ask until a replica accepts; after a refusal, ask again, as in failback."""
        condition = self.spec.bring_about
        conditions = Conditions(self.around.stack, [condition], self.around.clock, sent_from=self.spec.from_)
        if conditions.observe(self.around.stack.topology.spec.conditions[condition])[0]:
            raise StepFailed(f"{condition} already holds, so there was nothing to bring about", skipped=True)
        while not self.over.is_set():
            attempt = conditions.bring_about(condition)
            if attempt is not None:
                self.around.write(attempt.row)
                if not attempt.refused:
                    return {"output": attempt.row.observed}
            self.wait(_POLL_S)
        return {}


class Manual(TimelineStep[ManualStep]):
    under_way = "it has not been confirmed"

    def call(self) -> Detail:
        """Wait until a person confirms it; in an unattended run, for its delay, up to the budget."""
        people, spec = self.around.people, self.spec
        if people is None:
            self.wait(spec.waits_s)
            return {"waited_s": spec.waits_s, "declared_s": spec.declared_s} if spec.declared_s else {}
        since, limit = utc_now(), timedelta(seconds=spec.limit_s)
        times = {"since": since.isoformat(timespec="seconds"), "until": (since + limit).isoformat(timespec="seconds")}
        try:
            where = {"run_id": self.around.run_id, "registry": str(active_runs.folder())}
            people.ask(Ask(step=self.id, what=spec.manual, owner=spec.owner, **where, **times))
        except EnvironmentFault as failed:
            raise StepFailed(str(failed)) from failed
        try:
            while not self.over.is_set():
                if (answer := people.answer_to(self.id)) is not None:
                    if answer.failed is not None:
                        raise StepFailed(f"{answer.by} answered that it failed: {answer.failed}", by=answer.by)
                    return {"by": answer.by}
                self.wait(_POLL_S)
        finally:
            people.withdraw(self.id)
        return {}


_STEPS: dict[type[StepBase], Callable[[Any, Surroundings], TimelineStep[Any]]] = {
    RunStep: Run,
    HttpStep: Request,
    SqlStep: Sql,
    BringAboutStep: BringAbout,
    ManualStep: Manual,
}
