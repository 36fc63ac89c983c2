"""Whether the Compose runtime can be used here for a stack, and what is missing where it cannot."""

from __future__ import annotations

from collections.abc import Sequence
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


def require(files: Sequence[Path], replicas: Sequence[Replica], *, allow_remote: bool = False) -> Found:
    """All but the images, which can be built and pulled during the boot. Changes nothing.

    Raises EnvironmentFault without an engine or Compose v2, SpecError when Compose does not take the files as they are.
    """
    engine, version = connect(allow_remote=allow_remote), require_compose()
    config = read_config(files)
    check_config(config, replicas)
    return Found(engine, version, config)


def readiness(files: Sequence[Path], replicas: Sequence[Replica], *, allow_remote: bool = False) -> Readiness:
    """Whether everything is there, and the images of these replicas too. Changes nothing."""
    try:
        found = require(files, replicas, allow_remote=allow_remote)
        wanted = {images.WAN, *(image_of(found.config, replica.name) for replica in replicas)}
        missing = sorted(image for image in wanted if not images.has(found.engine, image))
    except ChaoslabError as failed:
        return Readiness(False, str(failed.args[0]).splitlines()[0], failed.cure)
    if missing:
        return Readiness(False, f"Docker {found.engine.version} answers, but has no {', '.join(missing)}", "make images")
    return Readiness(True, f"Docker {found.engine.version} and Compose {found.compose} answer, and all images are there")
