"""The ports that images of this machine expose, as Docker says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache

from chaoslab import process
from chaoslab.errors import EnvironmentFault

_TIMEOUT_S = 5.0


@cache
def exposed_by(images: frozenset[str]) -> Mapping[str, tuple[int, ...]]:
    """The TCP ports of each of these images that is here; empty where Docker does not answer."""
    if not images:
        return {}
    command = ["docker", "image", "inspect", "--format", "{{json .RepoTags}}\t{{json .Config.ExposedPorts}}", *sorted(images)]
    try:
        answer = process.run(command, timeout_s=_TIMEOUT_S).stdout
    except EnvironmentFault:
        return {}
    found: dict[str, tuple[int, ...]] = {}
    for line in answer.splitlines():
        tags, tab, ports = line.partition("\t")
        if tab:
            tcp = (port.partition("/")[0] for port in json.loads(ports) or {} if not port.endswith("/udp"))
            found |= dict.fromkeys(json.loads(tags) or [], tuple(sorted(map(int, tcp))))
    tagged = {image: image if ":" in image.rpartition("/")[2] else f"{image}:latest" for image in images}
    return {image: found[full] for image, full in tagged.items() if full in found}
