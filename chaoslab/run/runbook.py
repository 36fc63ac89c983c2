"""Finds steps of an experiment that would no longer work: without its stack, and on a stack that is booted for that."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from chaoslab.clock import SYSTEM, utc_now
from chaoslab.engine.steady_proof import why_not_steady
from chaoslab.engine.step_rehearsal import StepRehearsal
from chaoslab.errors import NotReady, StackError
from chaoslab.history.folder import RunFolder
from chaoslab.run.session import Options, checked_runtime, stack_in_the_end_undone
from chaoslab.run.shared_stack import STACKS
from chaoslab.spec.load import Loaded
from chaoslab.spec.secrets import secrets_of
from chaoslab.spec.step_rot import OWNER_MISSING, Rot, rot_without_stack
from chaoslab.stack.reach import RUN_VARIABLE


def find_rot(loaded: Loaded, options: Options | None, on_message: Callable[[str], None] = lambda _: None) -> list[Rot]:
    """What would not work of the steps of an experiment, in their order. `options` None: without a stack.

    A step that fails the checks without a stack is not checked on one. Raises as `run_once`; NotReady for a stack that
    does not reach its steady state, without which no failover can be expected; StackError where something of it is left.
    """
    found = rot_without_stack(loaded, os.environ, utc_now().timestamp())
    known = frozenset(rot.step for rot in found if rot.rule != OWNER_MISSING)
    if options is None or known.issuperset(step.id for step in loaded.experiment.steps):
        return found
    runtime, secrets = checked_runtime(loaded, options), secrets_of(loaded, os.environ)
    home = RunFolder.create((options.project / options.root).resolve(), STACKS)
    with stack_in_the_end_undone(loaded, runtime, home, secrets, options) as made:
        try:
            made.session.prepare(on_message)
            made.session.make_ready(on_message)
            if (why := why_not_steady(made.session.stack, loaded, "rehearsal", SYSTEM)) is not None:
                raise NotReady(f"the stack of {loaded.experiment.name} is not in its steady state: {why}")
            on_message("the stack is up; sites are cut off as in the timeline, and the steps are checked")
            looked = StepRehearsal(loaded, made.session.stack, marks={RUN_VARIABLE: made.run_id}).rot(known)
            found += [replace(rot, message=secrets.text(rot.message)) for rot in looked]
        finally:
            left = made.session.down()
    if left := [*left, *made.left]:
        raise StackError(f"left behind: {'; '.join(left)}")
    order = [step.id for step in loaded.experiment.steps]
    return sorted(found, key=lambda rot: order.index(rot.step))
