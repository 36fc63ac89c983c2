"""Whether the Compose runtime can be used here for a stack, and what is missing where it cannot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaoslab.errors import ChaoslabError
from chaoslab.stack import docker_images as images
from chaoslab.stack.docker_boot import check_config
from chaoslab.stack.docker_cli import read_config
from chaoslab.stack.docker_engine import Engine, connect, require_compose
from chaoslab.stack.docker_project import image_of
from chaoslab.stack.topology import Replica

_REGISTRY_TIMEOUT_S = 5  # who has no network must not wait for long before a run without containers


@dataclass(frozen=True)
class Readiness:
    """`why`: one line, why Compose is taken or not. `cure`: what to do about it, where that is known."""

    ready: bool
    why: str
    cure: str | None = None


@dataclass(frozen=True)
class Found:
    """What answers here, and how Compose understands the files."""

    engine: Engine
    compose: str
    config: dict[str, Any]


def require(files: Sequence[Path], replicas: Sequence[Replica]) -> Found:
    """All but the images, which can be built and pulled during the boot. Changes nothing.

    Raises EnvironmentFault without an engine or Compose v2, SpecError when Compose does not take the files as they are.
    """
    engine, version = connect(), require_compose()
    config = read_config(files)
    check_config(config, replicas)
    return Found(engine, version, config)


def readiness(files: Sequence[Path], replicas: Sequence[Replica]) -> Readiness:
    """Whether everything is there, and the images of these replicas are too or can be had. Changes nothing."""
    try:
        found = require(files, replicas)
        built = {image_of(found.config, one.name): "build" in found.config["services"][one.name] for one in replicas}
        missing = sorted(image for image in {images.WAN, *built} if not images.has(found.engine, image))
        had = all(_offered(found.engine, name) for name in _sources(missing, built))
    except ChaoslabError as failed:
        return Readiness(False, str(failed.args[0]).splitlines()[0], failed.cure)
    answers = f"Docker {found.engine.version} and Compose {found.compose} answer"
    if not missing:
        return Readiness(True, f"{answers}, and all images are there")
    if had:
        return Readiness(True, f"{answers}; to be built or pulled first: {', '.join(missing)}")
    why = f"{answers}, but there is no {', '.join(missing)}, and no registry offers what is needed for it"
    return Readiness(False, why, "make images")


def _sources(missing: Iterable[str], built: Mapping[str, bool]) -> set[str]:
    """What a registry has to offer, so that these can be had. What a Dockerfile begins with is known only once it is built."""
    wan = {images.BASE, images.TOXIPROXY} if images.WAN in missing else set()
    return wan | {images.BASE if built[image] else image for image in missing if image != images.WAN}


def _offered(engine: Engine, image: str) -> bool:
    engine.client.api.timeout = _REGISTRY_TIMEOUT_S
    return images.offered(engine, image)
