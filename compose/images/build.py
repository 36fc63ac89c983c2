"""Build every image that the Compose runtime and the reference stacks need: `python compose/images/build.py`.

Pulls an image if a registry answers, builds the others here, and prints what it did. Wheels are fetched on this machine, which
already trusts its package index, and copied into the build, which therefore needs no index. Images that exist are not rebuilt.
"""

from __future__ import annotations

import hashlib
import os
import sys
from functools import partial
from pathlib import Path

from chaoslab import process
from chaoslab.errors import ChaoslabError, EnvironmentFault, ExitCode
from chaoslab.files import last_lines
from chaoslab.stack.compose import images
from chaoslab.stack.compose.engine import Engine, connect

ROOT = Path(__file__).resolve().parents[2]
OWN = ("two-site", "queue")  # folders of compose/ with an image of their own
FOREIGN = {"valkey/valkey:8.0": "valkey", "rabbitmq:3": "rabbitmq"}  # folders of compose/images/, by the names that users pull
WHEELS = ROOT / "build" / "wheels"
_PYTHON_OF_BOOKWORM = (3, 11)
_FETCH_TIMEOUT_S = 600.0


def main() -> int:
    try:
        make_all(connect())
    except ChaoslabError as failed:
        sys.stderr.write(f"images: {failed}\n")
        return failed.exit_code
    return ExitCode.PASS


def make_all(engine: Engine) -> None:
    images.ensure_base(engine, tell)
    images.ensure_toxiproxy(engine, tell)
    images.ensure_runtime_images(engine, tell)
    for tag, folder in FOREIGN.items():
        if not images.has(engine, tag) and not images.pulled(engine, tag, tell):
            images.build(engine, images.Recipe(tag, {"Dockerfile": ROOT / "compose" / "images" / folder / "Dockerfile"}), tell)
    for name in OWN:
        images.build(engine, recipe(name), tell)
    own = [f"chaoslab/{name}:latest" for name in OWN]
    tell(f"{', '.join([images.BASE, images.TOXIPROXY, images.WAN, *FOREIGN, *own])}: there")


def tell(line: str) -> None:
    sys.stdout.write(f"images: {line}\n")


def recipe(name: str) -> images.Recipe:
    """A stack's own image; its wheels follow from requirements.txt and are fetched only when it is built."""
    folder = ROOT / "compose" / name
    files = [file for pattern in ("*.py", "*.sql", "*.sh") for file in folder.glob(pattern)]
    files += [folder / "Dockerfile", folder / "requirements.txt"]
    here = sys.platform == "linux" and sys.version_info[:2] == _PYTHON_OF_BOOKWORM
    return images.Recipe(
        f"chaoslab/{name}:latest",
        {file.name: file for file in files},
        # Wheels of another system or Python would not fit: the build fetches its own then.
        late=partial(wheels, folder / "requirements.txt") if here else dict,
        arguments={"PIP_NO_INDEX": "1"} if here else {},
    )


def wheels(requirements: Path) -> dict[str, bytes | Path]:
    """The wheels of a list of requirements by their names in the build, fetched when they are not here yet.

    Raises EnvironmentFault when that fails.
    """
    folder = WHEELS / hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    if not folder.exists():
        tell("fetching wheels")
        unfinished = folder.with_suffix(f".{os.getpid()}")
        command = [sys.executable, "-m", "pip", "wheel", "-q", "-w", str(unfinished), "-r", str(requirements)]
        done = process.run(command, timeout_s=_FETCH_TIMEOUT_S)
        if done.returncode:
            cure = "check the package index with: pip download aiohttp"
            raise EnvironmentFault(f"the wheels cannot be fetched:\n{last_lines(done.stderr, 8)}", cure=cure)
        unfinished.rename(folder)
    return {f"wheels/{wheel.name}": wheel for wheel in folder.glob("*.whl")}


if __name__ == "__main__":
    sys.exit(main())
