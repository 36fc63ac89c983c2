"""What a service waits for, and its health check, as Compose writes it. Needs no engine."""

from __future__ import annotations

import pytest

from chaoslab.clock import Deadline, FakeClock
from chaoslab.errors import NotReady
from chaoslab.stack.compose.bring_up import StartRules, bring_up, needs_of
from chaoslab.stack.compose.containers import ContainerInfo
from chaoslab.stack.compose.health import checks_of


def test_checks_are_the_services_own_else_the_images():
    """As a command, a shell line, switched off either way, or not there at all."""
    config = {
        "services": {
            "own": {"healthcheck": {"test": ["CMD", "check", "me"]}},
            "shell": {"healthcheck": {"test": ["CMD-SHELL", "curl x || exit 1"]}},
            "line": {"healthcheck": {"test": "curl y"}},
            "off": {"healthcheck": {"disable": True}},
            "none": {"healthcheck": {"test": ["NONE"]}},
            "timing": {"healthcheck": {"interval": "1s"}},
            "image": {},
            "bare": {},
        }
    }
    of_images = {name: {"Test": ["CMD", "of-image"]} for name in ("own", "off", "none", "timing", "image")}
    assert checks_of(config, of_images) == {
        "own": ("check", "me"),
        "shell": ("sh", "-c", "curl x || exit 1"),
        "line": ("sh", "-c", "curl y"),
        "timing": ("of-image",),
        "image": ("of-image",),
    }


def test_a_dollar_of_a_check_is_one_dollar():
    """`docker compose config` writes it twice, as a Compose file does; Docker's word on an image does not."""
    config = {"services": {"own": {"healthcheck": {"test": ["CMD", "bash", "-c", "test $${UP%s}"]}}, "image": {}}}
    checks = checks_of(config, {"image": {"Test": ["CMD-SHELL", "echo $$"]}})
    assert checks == {"own": ("bash", "-c", "test ${UP%s}"), "image": ("sh", "-c", "echo $$")}


def test_needs_are_the_conditions_and_the_owner_of_a_shared_network():
    """A container cannot join a network that is not there yet."""
    config = {
        "services": {
            "a": {"depends_on": {"b": {"condition": "service_healthy"}, "j": {"condition": "service_completed_successfully"}}},
            "b": {"network_mode": "service:c"},
            "c": {},
            "j": {},
        }
    }
    needs = needs_of(config)
    assert needs["a"] == {"b": "service_healthy", "j": "service_completed_successfully"}
    assert needs["b"] == {"c": "service_started"}
    assert StartRules(needs, {}, frozenset()).awaited == {"j"}


class OneReplica:
    """The containers of a replica that has one, which runs from a moment on."""

    def __init__(self, clock: FakeClock, runs_at_ns: int) -> None:
        self._clock, self._runs_at_ns = clock, runs_at_ns

    def of(self, names):
        state = "running" if self._clock.now_ns() >= self._runs_at_ns else "created"
        return [ContainerInfo("1", name, "replica", state, state) for name in names]

    def at_once(self, work, ids):
        pass

    def start(self, id_):
        raise AssertionError("it is not dead")

    def logs(self, name, lines):
        return []


def test_healthy_for_the_first_time_at_the_deadline_is_in_time():
    """Known bad: the error about what is unhealthy broke, since nothing was."""
    clock = FakeClock()
    deadline = Deadline.after(3.0, clock)
    rules = StartRules({"pay": {}}, {}, frozenset())
    bring_up(OneReplica(clock, clock.now_ns() + 3 * 10**9), rules, ["pay"], deadline, lambda: None)
    late = OneReplica(clock, clock.now_ns() + 9 * 10**9)
    with pytest.raises(NotReady, match="not healthy after waiting up to 3 s: pay"):
        bring_up(late, rules, ["pay"], Deadline.after(3.0, clock), lambda: None)
