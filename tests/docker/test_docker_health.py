"""Whom a service waits for, what its health check is, and who is brought back, in Compose's own words. Needs no engine."""

from __future__ import annotations

from chaoslab.stack.docker_health import checks_of
from chaoslab.stack.docker_watch import Customs, needs_of, revived


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
    assert Customs(needs, {}, frozenset()).jobs == {"j"}


def test_who_is_brought_back():
    """By `restart`, or by `deploy`; `no` brings nobody back."""
    services = {
        "always": {"restart": "always"},
        "on-failure": {"restart": "on-failure:3"},
        "deployed": {"deploy": {"restart_policy": {"condition": "any"}}},
        "no": {"restart": "no"},
        "never": {"deploy": {"restart_policy": {"condition": "none"}}},
        "silent": {},
    }
    assert revived({"services": services}) == {"always", "on-failure", "deployed"}
