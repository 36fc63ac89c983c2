"""Checks the steps of an experiment on a running stack, with those sites cut off that are lost when each step begins.

No step is carried out: its addresses are called, its conditions evaluated, its `check` run, its statement prepared.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests

from chaoslab import process
from chaoslab.clock import SYSTEM, Clock, Deadline
from chaoslab.engine.asking import Asking, NoAnswer, ask, reason_of, url_on
from chaoslab.errors import ChaoslabError, EnvironmentFault
from chaoslab.files import last_lines
from chaoslab.spec.load import Loaded
from chaoslab.spec.objectives import objectives_for
from chaoslab.spec.stackfile.condition import BringAbout, Look, ReplicaRequest
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Address
from chaoslab.spec.step import HttpCheck, HttpStep, RunStep, SqlCall, SqlStep, StepBase, fill_variables
from chaoslab.spec.step_rot import Lost, Rot, looks_of, lost_at, replicas_of
from chaoslab.stack.protocol import CanExecute, Stack

REACT_S = 20.0  # minimum time after a cut, in which health checks notice it; a service may need longer to recover
_ANSWER_S, _QUIET_S, _AGAIN_S = 2.0, 0.3, 0.5
_PREPARED = ("select", "insert", "update", "delete", "merge", "with", "values", "table")  # what PostgreSQL can prepare
_REFUSED = (401, 403, 405, 501)  # statuses that show a credential or a method that does not work, whatever the condition
_NO_PROGRAM = (126, 127)  # exit statuses
_LINES = 3  # lines of an output that a finding quotes
_HOLDER = "runbook check"  # of the fence

Look_ = Callable[[], str | None]  # why it would not work, in words; None when it would


class StepRehearsal:
    """The steps of one experiment on one stack. `marks`: variables in the environment of its checks, to find leftovers."""

    def __init__(
        self,
        loaded: Loaded,
        stack: Stack,
        clock: Clock = SYSTEM,
        react_s: float | None = None,
        marks: Mapping[str, str] | None = None,
    ) -> None:
        self._stack, self._clock, self._marks = stack, clock, marks or {}
        rtos = [one.rto.value for one in objectives_for(loaded.experiment, loaded.compose.spec).values() if one.rto is not None]
        self._react_s = max([REACT_S, *rtos]) if react_s is None else react_s
        self._steps = loaded.experiment.steps
        self._lost = lost_at(loaded.experiment, stack.topology)
        self._asking = Asking(stack)

    def rot(self, skip: frozenset[str] = frozenset()) -> list[Rot]:
        """What would not work, in the order of the steps. Blocks; leaves the stack unchanged.

        `skip`: ids of steps that are known not to work.
        """
        steps = [step for step in self._steps if step.id not in skip]
        asked = {(*endpoint, step.from_) for step in steps if step.from_ != OUTSIDE for endpoint in self._endpoints(step)}
        # Addresses that work but do not answer from their place, because only HTTP requests can be sent from there.
        not_http = frozenset(
            (replica, port, place)
            for replica, port, place in asked
            if not self._stack.reaches(replica, port, seen_from=place, timeout_s=_ANSWER_S)
            and _talks(self._stack.address(replica, port))
        )
        found: list[Rot] = []
        for sites in dict.fromkeys(self._lost[step.id].sites for step in steps):
            own = [step for step in steps if self._lost[step.id].sites == sites]
            with self._cut_off(sites):
                deadline = Deadline.after(self._react_s if sites else _ANSWER_S, self._clock)
                for step in own:
                    for rule, look in self._looks(step, not_http, self._lost[step.id]):
                        if (why := self._insist(look, deadline)) is not None:
                            found.append(Rot(step.id, rule, why))
        order = [step.id for step in self._steps]
        return sorted(found, key=lambda rot: order.index(rot.step))

    @contextlib.contextmanager
    def _cut_off(self, sites: frozenset[str]) -> Iterator[None]:
        flows = [flow for site in sorted(sites) for flow in self._stack.topology.flows_around(site)]
        if flows:
            self._stack.links.fence(flows, _HOLDER)
        try:
            yield
        finally:
            if flows:
                self._stack.links.lift(flows, _HOLDER)

    def _insist(self, look: Look_, deadline: Deadline) -> str | None:
        """Why it does not work, after the stack had time to react."""
        while True:
            try:
                why = look()
            except ChaoslabError as failed:  # the runtime knows no such port
                why = str(failed)
            if why is None or deadline.passed:
                return why
            self._clock.sleep(min(_AGAIN_S, deadline.left_s))

    # --- the checks --------------------------------------------------------------------------------------

    def _looks(self, step: StepBase, not_http: frozenset[tuple[str, int, str]], lost: Lost) -> Iterator[tuple[str, Look_]]:
        """Rules with their checks. A condition about lost replicas only is left out: it may hold before the step is over."""
        for replica, port in self._endpoints(step):
            if (replica, port, step.from_) not in not_http:
                yield "step.unreachable", partial(self._unreachable, replica, port, step.from_)
        for what, how in looks_of(step, self._stack.topology):
            if lost.replicas.issuperset(replicas_of(how)):
                continue
            if isinstance(how, BringAbout):
                yield "step.unreachable", partial(self._none_reachable, what, how, step.from_)
            else:
                yield "step.condition-silent", partial(self._silent, what, how)
        if isinstance(step, RunStep) and step.check is not None:
            yield "step.check-failed", partial(self._command_fails, step.check, step)
        if isinstance(step, HttpStep) and step.check is not None:
            yield "step.check-failed", partial(self._request_fails, step.check, step)
        if isinstance(step, SqlStep):
            yield "step.sql-refused", partial(self._statement_fails, step.sql)

    def _endpoints(self, step: StepBase) -> list[tuple[str, int]]:
        """The addresses that have to answer."""
        found = [(name, int(port)) for name, _, port in (address.partition(":") for address in step.needs.addresses)]
        if isinstance(step, HttpStep):
            for url in [call.url for call in (step.http, step.check) if call is not None and call.url is not None]:
                found.append(((parts := urlsplit(url)).hostname or "", parts.port or 80))
            if step.http.path is not None:
                found.append(self._stack.topology.entry)
        return [*dict.fromkeys(found)]

    def _unreachable(self, replica: str, port: int, place: str) -> str | None:
        if self._stack.reaches(replica, port, seen_from=place, timeout_s=_ANSWER_S):
            return None
        if place == OUTSIDE and _talks(self._stack.address(replica, port)):
            return None
        return f"{replica}:{port} does not answer, as seen from {place}"

    def _none_reachable(self, what: str, how: BringAbout, place: str) -> str | None:
        urls = how.http.url if how.http is not None else []
        asked = [((parts := urlsplit(url)).hostname or "", parts.port or 80) for url in urls]
        whys = [self._unreachable(replica, port, place) for replica, port in asked]
        return f"{what}: {'; '.join(why for why in whys if why)}" if whys and all(whys) else None

    def _silent(self, what: str, how: Look) -> str | None:
        """Why a condition gets no useful answer; it need not hold now."""
        try:
            if how.http is not None:
                return self._refused(what, how.http)
            if how.run is None:
                self._asking.look(how)
            elif isinstance(self._stack, CanExecute):
                ended = self._stack.execute(how.in_ or "", how.run, _ANSWER_S)
                if ended.status in _NO_PROGRAM:
                    return f"{what}: {how.run[0]} in {how.in_}: exit status {ended.status}: {ended.said.strip()}"
        except (NoAnswer, ChaoslabError) as failed:
            return f"{what}: {failed}"
        return None

    def _refused(self, what: str, how: ReplicaRequest) -> str | None:
        """Why none of its URLs gives a useful answer. Other statuses may be what the condition is about."""
        whys = []
        for url in how.url:
            try:
                status = ask(how.method, url_on(self._stack, url), _ANSWER_S, how.body, how.headers).status_code
                whys.append(f"{how.method} {url}: status {status}" if status in _REFUSED else None)
            except requests.RequestException as failed:
                whys.append(f"{how.method} {url}: {reason_of(failed)}")
        return f"{what}: {'; '.join(why for why in whys if why)}" if all(whys) else None

    def _command_fails(self, command: list[str], step: RunStep) -> str | None:
        name, port = self._stack.topology.entry
        env = {**os.environ, **self._marks, "CHAOSLAB_ENTRY": f"http://{self._stack.address(name, port)}"}
        try:
            done = process.run(command, timeout_s=step.budget, env=env, cwd=step.cwd)
        except EnvironmentFault as failed:
            return f"check: {failed}"
        said = last_lines(done.stderr or done.stdout, _LINES)
        return f"check: exit status {done.returncode}{said and f': {said}'}" if done.returncode else None

    def _request_fails(self, check: HttpCheck, step: HttpStep) -> str | None:
        call = check.model_dump(by_alias=True)
        call = self._filled(call | ({} if call["headers"] else {"headers": step.http.headers}))
        name, port = self._stack.topology.entry
        url = call["url"] or f"http://{name}:{port}{call['path']}"
        try:
            answer = ask(call["method"], url_on(self._stack, url), _ANSWER_S, call["json"], call["headers"])
        except requests.RequestException as failed:
            return f"check: {call['method']} {url}: {reason_of(failed)}"
        wanted = check.status
        if 200 <= answer.status_code < 300 if wanted is None else answer.status_code == wanted:
            return None
        return f"check: {call['method']} {url}: status {answer.status_code}, expected {wanted or '2xx'}"

    def _statement_fails(self, call: SqlCall) -> str | None:
        account = {key: self._filled(getattr(call, key)) for key in ("database", "user", "password")}
        body = call.statement.strip().rstrip(";")
        is_one = call.driver == "asyncpg" or ";" not in body  # psycopg would prepare the first of several, and execute the rest
        is_prepared = is_one and [*body.lower().split(maxsplit=1), ""][0] in _PREPARED
        statement = f"PREPARE chaoslab_check AS {body}" if is_prepared else "SELECT 1"
        asked = SqlCall.model_validate(call.model_dump() | account | {"statement": statement})
        try:
            exchange = self._asking.exchange(Look(sql=asked, at=call.at), {}, _ANSWER_S)
        except NoAnswer as failed:
            return f"sql at {call.at}: {failed}"
        return None if exchange.error is None else f"sql at {call.at}: {exchange.error}"

    def _filled(self, tree: Any) -> Any:
        return fill_variables(tree, os.environ)


def _talks(address: Address) -> bool:
    """Whether a server accepts a connection and keeps it, whatever it speaks."""
    try:
        connection = socket.create_connection(address, timeout=_ANSWER_S)
    except OSError:
        return False
    with connection:
        connection.settimeout(_QUIET_S)
        try:
            return bool(connection.recv(1))
        except TimeoutError:
            return True
        except OSError:
            return False
