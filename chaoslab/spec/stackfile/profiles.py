"""Which services of a Compose file start: those without a profile, and those whose profile is active."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaoslab.spec.yaml.report import Report

_VARIABLE = "COMPOSE_PROFILES"


def active_profiles(folder: Path, environ: Mapping[str, str] = os.environ) -> frozenset[str]:
    """The profiles that Compose starts: of COMPOSE_PROFILES, in the environment or else in the `.env` of this folder."""
    given = environ.get(_VARIABLE)
    if given is None:
        try:
            lines = (folder / ".env").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        pairs = [line.strip().removeprefix("export ").partition("=") for line in lines]
        given = next((value.strip().strip("'\"") for name, _, value in reversed(pairs) if name.strip() == _VARIABLE), "")
    return frozenset(filter(None, (name.strip() for name in given.split(","))))


def without_inactive(
    services: Mapping[str, dict[str, Any]], active: frozenset[str], report: Report
) -> dict[str, dict[str, Any]]:
    """The services that start, without their dependencies on others that need not; the others are reported."""
    given = {name: entry.get("profiles") or [] for name, entry in services.items()}
    profiles = {name: list(map(str, raw if isinstance(raw, list) else [raw])) for name, raw in given.items()}
    kept = {name: entry for name, entry in services.items() if not profiles[name] or active & {"*", *profiles[name]}}
    unused = {profile for name, own in profiles.items() if name not in kept for profile in own}
    if services and not kept:
        message = (
            "each service has a profile that is not active, so nothing would start; "
            f"set {_VARIABLE}={min(unused)}, or take it away in an overlay: profiles: !reset []"
        )
        report(("services",), message, "compose.profiles-all")
        return {}
    for name in services:
        if name not in kept:
            message = f"{name} is left out: its profile is not active; set {_VARIABLE}={profiles[name][0]} to start it"
            report(("services", name, "profiles"), message, "compose.profile-left-out", level="note")
    for name, entry in kept.items():
        needs = entry.get("depends_on")
        for other, how in needs.items() if isinstance(needs, dict) else ():
            is_optional = isinstance(how, dict) and how.get("required") is False
            if other in kept or not (is_optional or other in services):
                continue
            entry["depends_on"] = {need: how for need, how in entry["depends_on"].items() if need != other}
            if not is_optional:
                message = (
                    f"{name} depends on {other}, whose profile is not active; "
                    f"set {_VARIABLE}={profiles[other][0]}, or write required: false"
                )
                report(("services", name, "depends_on", other), message, "compose.profile-needed", key=True)
    return kept
