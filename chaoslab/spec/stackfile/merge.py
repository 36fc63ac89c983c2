"""Compose's rules for a file and its overlays: short forms made long, then merged. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from chaoslab.spec.yaml.problems import KeyPath
from chaoslab.spec.yaml.source import EXTENSION, Override, Reset

_REPLACED = ("command", "entrypoint", "test")  # argument lists are replaced whole


def long_form(service: Mapping[str, Any]) -> dict[str, Any]:
    """A service with environment, labels and depends_on as mappings, and its health check's test as a list."""
    long = dict(service)
    for key in ("environment", "labels"):
        if isinstance(long.get(key), list):
            pairs = [str(entry).partition("=") for entry in long[key]]
            long[key] = {name: value if sign else None for name, sign, value in pairs}
    if isinstance(long.get("depends_on"), list):
        long["depends_on"] = {str(name): {"condition": "service_started"} for name in long["depends_on"]}
    check = long.get("healthcheck")
    if isinstance(check, dict) and isinstance(check.get("test"), str):
        long["healthcheck"] = {**check, "test": ["CMD-SHELL", check["test"]]}
    return long


def merged(base: Any, over: Any, path: KeyPath = ()) -> Any:
    """What `over` makes of `base` at this path of a Compose file. None and `!reset` remove a key."""
    if isinstance(over, Override):
        return _plain(over.value, path)
    if isinstance(over, dict):
        return _merged_maps(base if isinstance(base, dict) else {}, over, path)
    if isinstance(over, list) and isinstance(base, list) and path[:1] != (EXTENSION,) and path[-1] not in _REPLACED:
        if path[-1] == "volumes":  # one mount for each path in the container
            return list({volume_target(item): item for item in [*base, *over]}.values())
        return base + [item for item in over if item not in base]
    return _plain(over, path)


def _merged_maps(base: dict[str, Any], over: dict[str, Any], path: KeyPath) -> dict[str, Any]:
    result = dict(base)
    from_shell = path[-1:] == ("environment",)  # there a variable without a value is taken from the shell that starts Compose
    for key, value in over.items():
        if isinstance(value, Reset) or (value is None and key in base and not from_shell):
            result.pop(key, None)
        else:
            result[key] = merged(base.get(key), value, (*path, key))
    return result


def _plain(value: Any, path: KeyPath) -> Any:
    """The value without overlay tags."""
    if isinstance(value, dict):
        return _merged_maps({}, value, path)
    if isinstance(value, list):
        return [_plain(item, path) for item in value if not isinstance(item, Reset)]
    return None if isinstance(value, Reset) else value


def volume_target(volume: Any) -> str:
    """The path in the container of a volume in short or long form."""
    if isinstance(volume, dict):
        return str(volume.get("target", ""))
    parts = str(volume).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def mount_of(volume: Any) -> tuple[str, str, bool]:
    """Source, bind or volume, and whether it is mounted to be read alone."""
    if isinstance(volume, dict):
        return str(volume.get("source") or ""), str(volume.get("type") or "volume"), volume.get("read_only") is True
    text = re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", str(volume))
    source, colon, rest = text.partition(":")
    if not colon:
        return "", "volume", False
    kind = "bind" if source.startswith((".", "/", "~", "$")) else "volume"
    return source, kind, "ro" in rest.partition(":")[2].split(",")
