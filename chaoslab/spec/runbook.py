"""A runbook: a file with a list of steps, which take the place of the item of a timeline that names it.

    # Make the other site the one that serves.
    title: Fail over by hand
    owner: on-call lead
    with: {SITE: anyang}
    steps:
      - {id: approve, manual: Approve the failover, delay: 20s}
      - {id: promote, run: [scripts/promote.sh, "${SITE}"]}

In a timeline, `{id: switch, after: fire, runbook: runbooks/failover.yaml}` becomes the steps `switch.approve` and
`switch.promote`. Each begins once the one before it is over, unless it says `after` itself; what comes after `switch` comes
after the last of them. `with: {SITE: pangyo}` beside `runbook` gives another value than the one in the file.

`spec/runbook_steps` reads it. Pure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from chaoslab.spec.fault import ID
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.yaml.model import Model
from chaoslab.spec.yaml.quantities import Seconds

_Values = dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str]


class RunbookUse(Model):
    """The steps of a runbook, in this place of the timeline."""

    id: Annotated[str, Field(pattern=ID, description="The prefix of the ids of its steps, before a dot.")]
    runbook: Annotated[Path, Field(description="The file of the runbook, relative to this file.")]
    at: Annotated[Seconds, Field(description="When its first step begins, as for a step.")] = 0.0
    after: Annotated[str | None, Field(description="What its first step comes after, as for a step.")] = None
    after_heal: Annotated[str | None, Field(description="A fault whose heal must have been verified first.")] = None
    values: Annotated[
        _Values, Field(alias="with", description="Other values than those under `with` in the runbook, by their names.")
    ] = {}


class Runbook(Model):
    """What people do about a loss, step by step. The first comment of the file states its purpose."""

    title: Annotated[str, Field(min_length=1, description="A short title for lists.")]
    owner: Annotated[str | None, Field(description="Who does the manual steps that name no owner.")] = None
    from_: Annotated[str, Field(alias="from", description="The place from which steps run that name none.")] = OUTSIDE
    values: Annotated[
        _Values,
        Field(alias="with", description="What `${NAME}` stands for in the runbook, unless its use gives another value."),
    ] = {}
    steps: Annotated[list[dict[str, Any]], Field(min_length=1, description="Its steps, each as in a timeline.")]
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
