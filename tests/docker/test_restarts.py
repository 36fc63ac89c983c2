"""Restart policies hold while a stack runs, except for what a fault has down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restart_contract import check_who_is_started_again

from chaoslab.clock import Deadline
from chaoslab.stack.compose.stack import ComposeStack
from chaoslab.stack.restarts import Policy, policies_of

MORTAL = "while ! test -e /tmp/end; do sleep 0.1; done; status=$(cat /tmp/end); rm /tmp/end; exit $status"


@pytest.mark.parametrize(
    ("service", "status", "done", "again"),
    [
        ({"restart": "always"}, 0, 9, True),
        ({"restart": "unless-stopped"}, 1, 0, True),
        ({"restart": "on-failure"}, 0, 0, False),
        ({"restart": "on-failure"}, 137, 9, True),
        ({"restart": "on-failure:3"}, 1, 2, True),
        ({"restart": "on-failure:3"}, 1, 3, False),
        ({"deploy": {"restart_policy": {}}}, 0, 0, False),
        ({"deploy": {"restart_policy": {"condition": "any"}}}, 0, 0, True),
        ({"deploy": {"restart_policy": {"condition": "on-failure", "max_attempts": 1}}}, 1, 1, False),
        ({"deploy": {"restart_policy": {"condition": "none"}}}, 1, 0, False),
        ({"restart": "no", "deploy": {"restart_policy": {"condition": "any"}}}, 1, 0, False),
        ({}, 1, 0, False),
    ],
)
def test_policies(service: dict[str, Any], status: int, done: int, again: bool) -> None:
    """As Docker has them: what it starts again, and how often."""
    policy = policies_of({"a": service}).get("a", Policy(after_success=False, at_most=0))
    assert policy.covers(status, done) is again


@pytest.mark.docker
@pytest.mark.timeout(120)
def test_who_ends_by_itself_is_started_again(make_stack: Callable[..., ComposeStack], write_stack: Callable[..., Path]) -> None:
    """Known bad: nobody was, so a service that ends when its database vanishes stayed dead, a false fail."""

    def mortal(**more: Any) -> dict[str, Any]:
        return {"image": "chaoslab/two-site:latest", "user": "0:0", "command": ["sh", "-c", MORTAL.replace("$", "$$")], **more}

    once = {"image": "chaoslab/two-site:latest", "command": ["true"]}  # a job for whose end nobody waits
    services = {"always": mortal(restart="always"), "failing": mortal(restart="on-failure"), "never": mortal()}
    stack = make_stack(write_stack({**services, "once": once}))
    stack.up(Deadline.after(60), lambda _: None)
    assert stack.states()["once"] == "dead", "known bad: it `ended while starting`"
    stack.start(["once"], Deadline.after(5))  # and is not started again
    assert stack.states()["once"] == "dead"
    assert list(stack.restarts()) == []

    def end(name: str, status: int) -> None:
        stack.execute(name, ["sh", "-c", f"echo {status} > /tmp/end"], 10)

    check_who_is_started_again(stack, end, quiet_s=1.5)
    assert stack.down() == []


@pytest.mark.docker
@pytest.mark.timeout(60)
def test_who_waits_for_a_job_starts_after_it(make_stack: Callable[..., ComposeStack], write_stack: Callable[..., Path]) -> None:
    """Known bad: a job that had not ended yet counted as healthy, so the others started beside it."""
    image = {"image": "chaoslab/two-site:latest", "user": "0:0", "volumes": ["done:/done"]}
    services = {
        "job": {**image, "command": ["sh", "-c", "sleep 1.5; touch /done/it"]},
        "app": {
            **image,
            "command": ["sh", "-c", "test -e /done/it && sleep 600"],
            "depends_on": {"job": {"condition": "service_completed_successfully"}},
        },
    }
    file = write_stack(services)
    file.write_text(f"{file.read_text()}volumes: {{done: {{}}}}\n")
    stack = make_stack(file)
    stack.up(Deadline.after(30), lambda _: None)
    assert (stack.states()["job"], stack.states()["app"]) == ("dead", "running")
    assert stack.down() == []
