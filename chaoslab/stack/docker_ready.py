"""Whether the Compose runtime can be used here for a stack, and what is missing where it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chaoslab.errors import ChaoslabError
from chaoslab.stack import docker_images as images
from chaoslab.stack.docker_cli import read_config
from chaoslab.stack.docker_engine import connect, require_compose
from chaoslab.stack.docker_project import image_of


@dataclass(frozen=True)
class Readiness:
    """`why`: one line, why Compose is taken or not. `cure`: what to do about it, where that is known."""

    ready: bool
    why: str
    cure: str | None = None


def readiness(files: Sequence[Path], services: Sequence[str], *, allow_remote: bool = False) -> Readiness:
    """Look for an engine, Compose v2, and the images of these services of a Compose file. Changes nothing."""
    try:
        engine, version = connect(allow_remote=allow_remote), require_compose()
        config = read_config(files)
        wanted = {images.WAN, *(image_of(config, name) for name in services)}
        missing = sorted(image for image in wanted if not images.has(engine, image))
    except ChaoslabError as failed:
        return Readiness(False, str(failed.args[0]).splitlines()[0], failed.cure)
    if missing:
        return Readiness(False, f"Docker {engine.version} answers, but has no {', '.join(missing)}", "make images")
    return Readiness(True, f"Docker {engine.version} and Compose {version} answer, and all images are there")
