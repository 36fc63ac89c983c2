"""One target, ready to be sent: its slots as bytes, and what an answer to one of them means."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Protocol

import jmespath
import msgspec

from chaoslab import __version__
from chaoslab.clock import NS_PER_S
from chaoslab.errors import SpecError
from chaoslab.events import Outcome
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.payload import Values, fill, fill_path, is_template, write_values
from chaoslab.probe.plan import Target
from chaoslab.probe.wire import Answer, Wire

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f]")
_FORBIDDEN_IN_PATH = re.compile(r"\s")


class Assessment(NamedTuple):
    """What an answer means. `error` says why it is not good."""

    good: bool
    outcome: Outcome
    error: str | None = None


class Shooter(Protocol):
    """Sends a slot and judges its answer. `timeout_s` counts from the due time and is hard."""

    @property
    def timeout_s(self) -> float: ...

    async def shoot(self, slot: int, *, fresh: bool, left_s: float) -> Answer: ...

    def assess(self, answer: Answer, due_ns: int) -> Assessment: ...


class HttpShooter:
    """A journey's request through one endpoint."""

    def __init__(self, target: Target, endpoint: Endpoint, writer: str, wire: Wire) -> None:
        self.target = target
        self.timeout_s = target.timeout_s
        self._endpoint, self._writer, self._wire = endpoint, writer, wire
        self._head = target.method == "HEAD"
        self._right = Rightness(target)
        self._template = Template(target.method, target.path, target.headers, target.body)
        trial = (self._render(0, fresh=False), self._render(0, fresh=True))  # a request that cannot be sent shows now
        self._same = None if self._template.varies else trial

    async def shoot(self, slot: int, *, fresh: bool, left_s: float) -> Answer:
        request = self._same[fresh] if self._same else self._render(slot, fresh=fresh)
        return await self._wire.exchange(request, timeout_s=left_s, fresh=fresh, head=self._head)

    def assess(self, answer: Answer, due_ns: int) -> Assessment:
        return self._right.assess(answer, due_ns)

    def _render(self, slot: int, *, fresh: bool) -> bytes:
        return render(self._endpoint, self._template, write_values(self._writer, slot), fresh=fresh)


class TcpShooter:
    """A bare connect: good when it is taken in time."""

    def __init__(self, target: Target, wire: Wire) -> None:
        self.target = target
        self.timeout_s = target.timeout_s
        self._wire = wire

    async def shoot(self, slot: int, *, fresh: bool, left_s: float) -> Answer:
        return await self._wire.touch(timeout_s=left_s)

    def assess(self, answer: Answer, due_ns: int) -> Assessment:
        error = answer.error or _late(answer, due_ns, self.target.within_s)
        return Assessment(error is None, "bad" if error else "ok", error)


class Rightness:
    """What an answer to a target means, by measurement.md, sections 1 and 3. Pure."""

    def __init__(self, target: Target) -> None:
        """Raises SpecError when `expect` is not JMESPath."""
        self._target = target
        self._statuses = frozenset(target.statuses)
        try:
            self._expect = jmespath.compile(target.expect) if target.expect else None
        except jmespath.exceptions.JMESPathError as wrong:
            raise SpecError(f"{target.name}: expect: {wrong}") from wrong

    def assess(self, answer: Answer, due_ns: int) -> Assessment:
        wrong = self._wrong(answer)
        error = wrong or _late(answer, due_ns, self._target.within_s)
        return Assessment(error is None, self._outcome(answer, wrong is None), error)

    def _wrong(self, answer: Answer) -> str | None:
        """Why this is not the right answer, were it in time."""
        if answer.status is None:
            return answer.error or "no answer"
        if answer.status not in self._statuses:
            return f"status {answer.status}"
        return None if self._expect is None else self._unexpected(answer.body)

    def _unexpected(self, body: bytes) -> str | None:
        try:
            said: Any = self._expect.search(msgspec.json.decode(body)) if self._expect else None
        except msgspec.DecodeError:
            return "not JSON"
        except jmespath.exceptions.JMESPathError as odd:
            return f"expect: {odd}"
        return None if said is True else "not as expected"

    def _outcome(self, answer: Answer, right: bool) -> Outcome:
        if self._target.op == "read":
            return "ok" if right else "bad"
        if right:
            return "acked"
        unsent = not answer.sent
        return "rejected" if unsent or answer.status in self._target.not_applied else "indeterminate"


class Template(NamedTuple):
    """A request before its placeholders are filled. `body` None sends none."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any = None

    @property
    def varies(self) -> bool:
        """Whether two slots of it can differ."""
        return is_template(self.path) or is_template(self.headers) or is_template(self.body)


def render(endpoint: Endpoint, template: Template, values: Values, *, fresh: bool) -> bytes:
    """A whole request, `endpoint`'s own path in front. Raises SpecError when a line of it would break."""
    method, path, headers, body = template
    payload = b"" if body is None else msgspec.json.encode(fill(body, values))
    lines = {"Host": endpoint.authority, "User-Agent": f"chaoslab-probe/{__version__}", "Accept": "*/*"}
    if body is not None:
        lines["Content-Type"] = "application/json"
    if body is not None or method not in ("GET", "HEAD"):
        lines["Content-Length"] = str(len(payload))
    if fresh:
        lines["Connection"] = "close"
    lines.update((name, str(fill(value, values))) for name, value in headers.items())
    where = endpoint.prefix.rstrip("/") + fill_path(path, values) or "/"
    head = [f"{method} {where} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
    if _FORBIDDEN.search("".join(head)) or _FORBIDDEN_IN_PATH.search(where):
        raise SpecError(f"{method} {where!r}: a path or a header holds a character that no request may hold")
    return "\r\n".join([*head, "", ""]).encode("latin-1", "replace") + payload


def _late(answer: Answer, due_ns: int, within_s: float) -> str | None:
    taken_ns = answer.end_ns - due_ns
    return None if taken_ns <= within_s * NS_PER_S else f"late: {taken_ns // 1_000_000} ms"
