"""Whether the Compose runtime can be used here for a stack, and what is missing where it cannot."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from chaoslab.errors import ChaoslabError
from chaoslab.spec.stackfile.topology import Replica
from chaoslab.stack.compose import images
from chaoslab.stack.compose.boot import check_config
from chaoslab.stack.compose.cli import read_config
from chaoslab.stack.compose.engine import Engine, connect, require_compose
from chaoslab.stack.compose.project import image_of

_FROM = re.compile(r"(?im)^[ \t]*FROM[ \t]+(?:--\S+[ \t]+)*(\S+)(?:[ \t]+AS[ \t]+(\S+))?")
_REGISTRY_TIMEOUT_S = 5  # a machine without network must not wait for long before a run without containers


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
    """Whether all that is needed answers, and the images of these replicas are there or can be had. Changes nothing."""
    try:
        found = require(files, replicas)
        builds = {image_of(found.config, one.name): found.config["services"][one.name].get("build") for one in replicas}
        missing = sorted(image for image in {images.WAN, *builds} if not images.has(found.engine, image))
        sources = {image: _sources_of(image, builds.get(image), found.engine) for image in missing}
        found.engine.client.api.timeout = _REGISTRY_TIMEOUT_S
        offered = {one: images.offered(found.engine, one) for one in sorted({*chain.from_iterable(sources.values())})}
    except ChaoslabError as failed:
        return Readiness(False, str(failed.args[0]).splitlines()[0], failed.cure)
    answers = f"Docker {found.engine.version} and Compose {found.compose} answer"
    if not missing:
        return Readiness(True, f"{answers}, and all images are there")
    lacking = {image: [one for one in needed if not offered[one]] for image, needed in sources.items()}
    lacking = {image: needed for image, needed in lacking.items() if needed}
    if not lacking:
        return Readiness(True, f"{answers}; must be built or pulled first: {', '.join(missing)}")
    words = [image if needed == [image] else f"{image} (built from {', '.join(needed)})" for image, needed in lacking.items()]
    is_or_are = "is" if len(words) == 1 else "are"
    why = f"{answers}, but {', '.join(words)} {is_or_are} missing, and no registry has what is needed"
    foreign = [needed[0] for image, needed in lacking.items() if not image.startswith("chaoslab/")]
    cure = f"get {foreign[0]}: docker pull, docker load, or docker login to its registry" if foreign else "make images"
    return Readiness(False, why, cure)


def _sources_of(image: str, build: Mapping[str, Any] | None, engine: Engine) -> list[str]:
    """What has to come from a registry for a missing image: itself, or what it is built from and is not here.

    The images of this project are built from more than other images: without a registry there is `make images` for that.
    """
    if image == images.WAN:
        return [images.BASE, images.TOXIPROXY]
    if build is None:
        return [image]
    if image.startswith("chaoslab/"):
        return [images.BASE]
    return [base for base in sorted(bases_of(build)) if not images.has(engine, base)]


def bases_of(build: Mapping[str, Any]) -> set[str]:
    """The images that a Dockerfile begins its stages with, as it is written; none where it cannot be read from here."""
    text = build.get("dockerfile_inline")
    if text is None:
        try:
            text = Path(build.get("context", "."), build.get("dockerfile", "Dockerfile")).read_text(errors="replace")
        except OSError:  # of a repository elsewhere, or not there: the build will say it
            return set()
    stages, found = {"scratch"}, set[str]()
    for base, stage in _FROM.findall(text):
        if base.lower() not in stages and "$" not in base:  # a variable is known to the build alone
            found.add(base)
        stages.add(stage.lower())
    return found
