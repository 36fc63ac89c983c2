"""Verdicts, their order, exit codes, and every error that chaoslab raises on purpose.

    ChaoslabError
    ├── SpecError            the command line or a file is wrong; nothing was started   exit 2
    ├── EnvironmentFault     the machine or a tool on it is not as needed               exit 5
    │   └── NotReady         something did not come up within its deadline
    │       └── NotHealthy   a replica that was started did not get healthy: the stack's doing, and a fail after a heal
    ├── StackError           a stack operation failed
    ├── LinkError            the relay or Toxiproxy refused, or a change could not be verified
    ├── FaultNotEffective    a fault was injected and its effect was not seen           exit 3
    └── Interrupted          a signal asked the run to end                              exit 130

Each message says what happened, where, and what to do about it; `cure` holds the last part when it is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Literal, Protocol

Verdict = Literal["pass", "fail", "error", "aborted", "inconclusive"]


class ExitCode(IntEnum):
    """What the process exits with: judge/README.md, Verdicts."""

    PASS = 0
    FAIL = 1  # an objective was missed
    USAGE = 2  # the command line or the spec is wrong; nothing was started
    INCONCLUSIVE = 3  # it could not be told
    ABORTED = 4  # an abort condition fired
    ERROR = 5  # the harness or the environment broke
    UNCLEAN = 6  # the verdict stands, but cleaning up is incomplete
    INTERRUPTED = 130  # interrupted, healed and cleaned


VERDICT_EXITS: Mapping[Verdict, ExitCode] = {  # the worst first
    "fail": ExitCode.FAIL,
    "error": ExitCode.ERROR,
    "aborted": ExitCode.ABORTED,
    "inconclusive": ExitCode.INCONCLUSIVE,
    "pass": ExitCode.PASS,
}
WORST_FIRST: tuple[Verdict, ...] = tuple(VERDICT_EXITS)


class RunEnd(Protocol):
    """What the exit code of a run depends on; a `Result` has it."""

    @property
    def verdict(self) -> Verdict: ...
    @property
    def interrupted(self) -> bool: ...
    @property
    def cleanup(self) -> str: ...
    @property
    def left_behind(self) -> list[str]: ...


def worst_verdict(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst wins: fail, error, aborted, inconclusive, pass. Without any, pass."""
    return min(verdicts, key=WORST_FIRST.index, default="pass")


def exit_code_of(run: RunEnd) -> ExitCode:
    """What a process that ran this should exit with."""
    if run.cleanup == "incomplete" or run.left_behind:
        return ExitCode.UNCLEAN
    return ExitCode.INTERRUPTED if run.interrupted else VERDICT_EXITS[run.verdict]


class ChaoslabError(Exception):
    """Base of every error that chaoslab raises on purpose."""

    exit_code: ExitCode = ExitCode.ERROR

    def __init__(self, message: str, *, cure: str | None = None) -> None:
        super().__init__(message)
        self.cure = cure

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n  cure: {self.cure}" if self.cure else message


class SpecError(ChaoslabError):
    """The command line or a spec is wrong; nothing was started."""

    exit_code = ExitCode.USAGE


class EnvironmentFault(ChaoslabError):
    """The machine or a tool on it is not as needed."""


class NotReady(EnvironmentFault):
    """Something did not come up within its deadline."""


class NotHealthy(NotReady):
    """A replica was started, and did not get healthy within its deadline. After a heal that says something of the stack."""


class StackError(ChaoslabError):
    """A stack operation failed."""


class LinkError(ChaoslabError):
    """The relay or Toxiproxy refused, or a change could not be verified."""


class FaultNotEffective(ChaoslabError):
    """A fault was injected and its effect was not seen."""

    exit_code = ExitCode.INCONCLUSIVE


class Interrupted(ChaoslabError):
    """A signal asked the run to end."""

    exit_code = ExitCode.INTERRUPTED
