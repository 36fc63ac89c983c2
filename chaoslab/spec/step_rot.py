"""Steps of an experiment that would no longer work, as far as that can be known without its stack. Changes nothing.

Each step is checked as of the moment when it begins, with the sites lost that the timeline has taken down by then.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chaoslab.spec.fault import FaultBase, pairs
from chaoslab.spec.load import Loaded
from chaoslab.spec.model import Experiment
from chaoslab.spec.stackfile.condition import BringAbout, Look
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Topology
from chaoslab.spec.step import (
    BringAboutStep,
    HttpStep,
    InlineCondition,
    ManualStep,
    SqlStep,
    StepBase,
    fill_variables,
    variables_in,
)

OWNER_MISSING = "step.owner-missing"
_INTERPRETER = re.compile(r"(python|node|ruby|perl|bash|dash|sh|zsh)[\d.]*")
_SCRIPT = (".py", ".sh", ".js", ".mjs", ".rb", ".pl")
_NO_SCRIPT = ("-c", "-m", "-e")  # followed by code or a module
_JWT = re.compile(r"[\w-]+\.([\w-]+)\.[\w-]*")
_BEFORE = "precondition"  # what is looked up once, before the step begins
_SECRET_BYTES_MAX = 64 * 1024


@dataclass(frozen=True)
class Rot:
    """Why a step would not work when it is needed. `rule`: the id of what found it."""

    step: str
    rule: str
    message: str


@dataclass(frozen=True)
class Lost:
    """What is lost when a step begins: whole sites, and replicas, those in the sites included."""

    sites: frozenset[str] = frozenset()
    replicas: frozenset[str] = frozenset()


def rot_without_stack(loaded: Loaded, environ: Mapping[str, str], now_s: float) -> list[Rot]:
    """Of all steps, in their order. `now_s`: seconds since the epoch, to find what has expired."""
    topology = loaded.compose.topology()
    at_begin, to_the_end = lost_at(loaded.experiment, topology), lost_at(loaded.experiment, topology, to_the_end=True)
    found: list[Rot] = []
    for step in loaded.experiment.steps:
        rot: list[tuple[str, str]] = []  # rules and messages
        if step.from_ in at_begin[step.id].sites:
            rot.append(("step.from-lost", f"it runs from {step.from_}, which is lost by then"))
        if isinstance(step, ManualStep) and step.owner is None:
            rot.append((OWNER_MISSING, "it has no owner; name the person or role that does it"))
        for key, command in step.commands.items():
            rot += _rot_of_command(key, command, step.cwd or Path())
        rot += _rot_of_secrets(step, environ, now_s)
        for what, replicas in hosts_of(step):
            if at_begin[step.id].replicas.issuperset(replicas):
                rot.append(("step.host-lost", f"{what}: it calls {replicas[0]}, which is lost by then"))
        for what, how in looks_of(step, topology):
            replicas = replicas_of(how)  # it is asked until the step is over, but for a precondition
            lost = (at_begin if what.startswith(_BEFORE) else to_the_end)[step.id]
            if replicas and lost.replicas.issuperset(replicas):
                rot.append(("step.host-lost", f"{what}: it depends on {' and '.join(dict.fromkeys(replicas))}, lost by then"))
        if isinstance(step, SqlStep) and importlib.util.find_spec(step.sql.driver) is None:
            rot.append(("step.driver-missing", f"{step.sql.driver} is not installed; pip install {step.sql.driver}"))
        found += [Rot(step.id, rule, message) for rule, message in dict.fromkeys(rot)]
    return found


# --- what is lost by then ---------------------------------------------------------------------------------------


def lost_at(experiment: Experiment, topology: Topology, *, to_the_end: bool = False) -> dict[str, Lost]:
    """By step, what is lost when it begins; with `to_the_end`, what is then lost for as long as it may take."""
    faults = {fault.id: fault for fault in experiment.faults}
    back_s = {}  # when it is healed, or what it took is replaced; infinite where neither is known
    for id_, fault in faults.items():
        heal_after_s = fault.heal_after if isinstance(fault.heal_after, float) else math.inf
        back_s[id_] = fault.at + min(heal_after_s, math.inf if fault.replaced_after_s is None else fault.replaced_after_s)
    over_s: dict[str, float] = {id_: fault.at for id_, fault in faults.items()}
    healed: dict[str, set[str]] = {}  # by step, the faults that it waited for
    found = {}
    for step in experiment.steps:  # each begins at the earliest instant that its times allow
        begins_s = step.at + over_s.get(step.after or "", 0.0)
        healed[step.id] = {*healed.get(step.after or "", ()), *([step.after_heal] if step.after_heal else [])}
        if step.after_heal is not None and math.isfinite(back_s.get(step.after_heal, math.inf)):
            begins_s = max(begins_s, step.at + back_s[step.after_heal])
        active = [fault for id_, fault in faults.items() if id_ not in healed[step.id] and fault.at <= begins_s]
        down = _lost_under([fault for fault in active if begins_s < back_s[fault.id]], topology).replicas
        looks = [replicas_of(how) for what, how in looks_of(step, topology) if not what.startswith(_BEFORE)]
        waits = [replicas for replicas in looks if replicas and down.issuperset(replicas)]  # they cannot answer before
        back = min((back_s[fault.id] for fault in active if begins_s < back_s[fault.id] < math.inf), default=0.0)
        takes_s = step.waits_s if isinstance(step, ManualStep) else 0.0
        over_s[step.id] = max(begins_s + takes_s, back if waits else 0.0)
        until_s = begins_s + (step.limit_s if to_the_end else 0.0)
        found[step.id] = _lost_under([fault for fault in active if until_s < back_s[fault.id]], topology)
    return found


def _lost_under(faults: Iterable[FaultBase], topology: Topology) -> Lost:
    fences, down = set[frozenset[str]](), set[str]()
    for fault in faults:
        touched = fault.touches(topology)
        fences |= touched.fences
        down |= touched.replicas if fault.takes_down else frozenset()
    sites = {place for place in topology.places if place != OUTSIDE and pairs(topology.flows_around(place)) <= fences}
    return Lost(frozenset(sites), frozenset(down | {replica.name for site in sites for replica in topology.in_site(site)}))


# --- one step ---------------------------------------------------------------------------------------------------


def _rot_of_command(key: str, command: list[str], cwd: Path) -> Iterator[tuple[str, str]]:
    """The program, and the script where the program is an interpreter."""
    program, *arguments = command
    if shutil.which(cwd / program if os.sep in program else program) is None:
        yield "step.program-missing", f"{key}: the program {program!r} was not found, or is not executable, in {cwd}"
    elif _INTERPRETER.fullmatch(Path(program).name):
        for argument in arguments:
            if argument in _NO_SCRIPT:
                return
            if argument.endswith(_SCRIPT):
                is_there = False
                with contextlib.suppress(OSError):  # a name that is too long
                    is_there = (cwd / argument).is_file()
                if not is_there:
                    yield "step.script-missing", f"{key}: the script {argument!r} is not in {cwd}"
                return


def _rot_of_secrets(step: StepBase, environ: Mapping[str, str], now_s: float) -> Iterator[tuple[str, str]]:
    """Variables and files that are not there, are empty, or hold a token that has expired."""
    for name in sorted({*step.needs.env, *variables_in(step.templated)}):
        if not environ.get(name):
            yield "step.env-missing", f"the environment variable {name} is {'empty' if name in environ else 'not set'}"
        elif (since := _expired(environ[name], now_s)) is not None:
            yield "step.token-expired", f"the token in the environment variable {name} expired {since}"
    with_values = fill_variables(step.templated, dict.fromkeys(variables_in(step.templated), ""))
    for word in _words_in(with_values):
        if (since := _expired(word, now_s)) is not None:
            yield "step.token-expired", f"a token that is written into the step expired {since}"
    for file in step.needs.files:
        try:
            path = (step.cwd or Path()) / file.expanduser()
            if not path.is_file():
                yield "step.file-missing", f"the file {file} does not exist"
                continue
            with path.open("rb") as opened:
                content = opened.read(_SECRET_BYTES_MAX)
        except OSError as failed:
            yield "step.file-unreadable", f"the file {file} cannot be read: {failed.strerror}"
            continue
        except RuntimeError:  # nobody of that name has a home here
            yield "step.file-missing", f"the file {file} is not there"
            continue
        if not content.strip():
            yield "step.file-empty", f"the file {file} is empty"
        elif (since := _expired(content.decode(errors="replace").strip(), now_s)) is not None:
            yield "step.token-expired", f"the token in the file {file} expired {since}"


def _expired(text: str, now_s: float) -> str | None:
    """How long ago a JSON Web Token (with or without a scheme before it) expired, as text; None if it has not, or is none."""
    if (token := _JWT.fullmatch(text.rsplit(maxsplit=1)[-1] if text.split() else "")) is None:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(token[1] + "=" * (-len(token[1]) % 4)))
        expires_s = claims["exp"]
        hours = (now_s - expires_s) / 3600
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):  # no token, or one that does not say
        return None
    if isinstance(expires_s, bool) or not hours >= 0:
        return None
    return f"{hours / 24:.0f} days ago" if hours >= 48 else f"{hours:.1f} h ago"


def _words_in(tree: Any) -> Iterator[str]:
    if isinstance(tree, Mapping):
        tree = [*tree.values()]
    if isinstance(tree, list):
        for part in tree:
            yield from _words_in(part)
    elif isinstance(tree, str):
        yield from tree.split()


# --- the replicas that it needs ---------------------------------------------------------------------------------


def hosts_of(step: StepBase) -> Iterator[tuple[str, list[str]]]:
    """What a step calls when it begins: the key of the step, and the replica."""
    if isinstance(step, HttpStep):
        for key, call in (("http", step.http), ("check", step.check)):
            if call is not None and call.url is not None:
                yield key, [urlsplit(call.url).hostname or ""]
    if isinstance(step, SqlStep):
        yield "sql", [step.sql.at.partition(":")[0]]
    for address in step.needs.addresses:
        yield "needs", [address.partition(":")[0]]


def looks_of(step: StepBase, topology: Topology) -> Iterator[tuple[str, Look | BringAbout]]:
    """The conditions of a step, and how it brings about a condition, with their names."""
    known = topology.spec.conditions
    for key, facts in ((_BEFORE, step.precondition), ("verify", step.verify)):
        for fact in facts:
            yield (key, fact.spec) if isinstance(fact, InlineCondition) else (f"{key} {fact}", known[fact])
    if isinstance(step, BringAboutStep):
        condition = known[step.bring_about]
        yield step.bring_about, condition
        if condition.bring_about is not None:
            for name, value in condition.bring_about.values.items():
                yield f"bring_about of {step.bring_about}, {name}", value
            yield f"bring_about of {step.bring_about}", condition.bring_about


def replicas_of(how: Look | BringAbout) -> list[str]:
    """The replicas of which at least one has to answer."""
    if how.http is not None:
        return [urlsplit(url).hostname or "" for url in how.http.url]
    return [how.in_] if how.in_ is not None else [how.at.partition(":")[0]] if how.at is not None else []
