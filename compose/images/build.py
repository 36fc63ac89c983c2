"""Make every image that the Compose runtime and the two-site stack need: `python compose/images/build.py`.

Pulls where a registry answers, makes the rest here, and says which it did. Wheels are fetched on this machine, with its own
trust in its package index, and copied into the build, which therefore needs no index. Nothing is done twice.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from chaoslab import process
from chaoslab.errors import ChaoslabError, EnvironmentFault, ExitCode
from chaoslab.stack import docker_images as images
from chaoslab.stack.docker_engine import Engine, connect, last_lines

ROOT = Path(__file__).resolve().parents[2]
TWO_SITE = ROOT / "compose" / "two-site"
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
    images.build(engine, two_site_recipe(), tell)
    tell(f"{images.BASE}, {images.TOXIPROXY}, {images.WAN}, chaoslab/two-site:latest: there")


def tell(line: str) -> None:
    sys.stdout.write(f"images: {line}\n")


def two_site_recipe() -> images.Recipe:
    """The two-site stack's image; its wheels follow from requirements.txt and are fetched only when it is built."""
    files = [*TWO_SITE.glob("*.py"), *TWO_SITE.glob("*.sql"), TWO_SITE / "Dockerfile", TWO_SITE / "requirements.txt"]
    here = sys.platform == "linux" and sys.version_info[:2] == _PYTHON_OF_BOOKWORM
    return images.Recipe(
        "chaoslab/two-site:latest",
        {file.name: file for file in files},
        late=wheels if here else dict,  # wheels of another system or Python would not fit: the build fetches its own then
        arguments={"PIP_NO_INDEX": "1"} if here else {},
    )


def wheels() -> dict[str, bytes | Path]:
    """The wheels of requirements.txt by their names in the build, fetched when they are not here yet.

    Raises EnvironmentFault when that fails.
    """
    requirements = TWO_SITE / "requirements.txt"
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
