"""The images that the Compose runtime itself needs: pulled if a registry answers, and built here if none does.

`debian:bookworm-slim` (from Debian's packages), `ghcr.io/shopify/toxiproxy` (from its Go module), both under the names that
users pull, and `chaoslab/wan`: that same Toxiproxy with a packet filter beside it. An image that is built carries a hash of
its inputs, so that it is not built again without need.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import requests
from docker.errors import APIError, BuildError, ImageNotFound

from chaoslab import process
from chaoslab.errors import EnvironmentFault
from chaoslab.files import last_lines
from chaoslab.stack.compose.engine import Engine, engine_errors
from chaoslab.stack.protocol import OnProgress

BASE = "debian:bookworm-slim"
TOXIPROXY_VERSION = "2.12.0"
TOXIPROXY = f"ghcr.io/shopify/toxiproxy:{TOXIPROXY_VERSION}"
WAN = "chaoslab/wan:latest"
CONTROL = "/usr/local/lib/chaoslab/control.py"  # in the image of the WAN, as its Dockerfile has it
INPUTS = "chaoslab.inputs"  # label: hash of what an image was made from

_GO_MODULE = "github.com/Shopify/toxiproxy/v2"
_CURE_GO = (
    "install Go 1.23 or newer (Debian 12: apt-get install -t bookworm-backports golang-go; .ci/image-tools does that),"
    " or pull the image on a machine with a registry and `docker load` it here"
)
_BUILD_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Recipe:
    """An image to build: every file of its context by name, `Dockerfile` among them.

    `late` adds files that need not be hashed, because other files determine them; it is asked only when a build is needed.
    """

    tag: str
    files: Mapping[str, bytes | Path]
    late: Callable[[], Mapping[str, bytes | Path]] = dict
    arguments: Mapping[str, str] | None = None

    @property
    def inputs(self) -> str:
        """A hash of the files and the arguments."""
        seen = hashlib.sha256(repr(sorted((self.arguments or {}).items())).encode())
        for name in sorted(self.files):
            seen.update(name.encode() + b"\0" + hashlib.sha256(_content(self.files[name])).digest())
        return seen.hexdigest()


def _content(file: bytes | Path) -> bytes:
    return file if isinstance(file, bytes) else file.read_bytes()


def ensure_runtime_images(engine: Engine, on_progress: OnProgress) -> None:
    """Have the image of the WAN's containers. Raises EnvironmentFault when it can neither be pulled nor made."""
    recipe = wan_recipe()
    if is_fresh(engine, recipe):
        return
    ensure_base(engine, on_progress)
    ensure_toxiproxy(engine, on_progress)
    build(engine, recipe, on_progress)


def wan_recipe() -> Recipe:
    """The image of the WAN: Toxiproxy, a packet filter, the script that starts them, and the control server."""
    folder = resources.files("chaoslab.stack.compose") / "wan_image"
    dockerfile = (folder / "Dockerfile").read_bytes()
    control = (resources.files("chaoslab.machine") / "control.py").read_bytes()
    entry = (folder / "wan-entry").read_bytes()
    return Recipe(WAN, {"Dockerfile": dockerfile, "wan-entry": entry, "control.py": control})


def ensure_base(engine: Engine, on_progress: OnProgress) -> None:
    """Have `debian:bookworm-slim`: present, pulled, or made from Debian's packages by mmdebstrap."""
    if has(engine, BASE) or pulled(engine, BASE, on_progress):
        return
    _require_program("mmdebstrap", BASE, "apt-get install mmdebstrap (Debian, as root; .ci/image-tools)")
    on_progress(f"{BASE}: no registry answers; made from Debian's packages")
    with tempfile.TemporaryDirectory(prefix="chaoslab-base-") as folder:
        tar = f"{folder}/base.tar"
        _run(["mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", "bookworm", tar], BASE)
        with engine_errors(f"importing {BASE}"), Path(tar).open("rb") as content:
            name, _, tag = BASE.partition(":")
            engine.client.api.import_image_from_data(content, repository=name, tag=tag)


def ensure_toxiproxy(engine: Engine, on_progress: OnProgress) -> None:
    """Have Toxiproxy under the name that users pull: present, pulled, or made from its Go module."""
    if has(engine, TOXIPROXY) or pulled(engine, TOXIPROXY, on_progress):
        return
    _require_program("go", TOXIPROXY, _CURE_GO)
    on_progress(f"{TOXIPROXY}: no registry answers; made from its Go module")
    with tempfile.TemporaryDirectory(prefix="chaoslab-toxiproxy-") as folder:
        flags = f"-s -w -X {_GO_MODULE}.Version={TOXIPROXY_VERSION}"
        command = ["go", "install", "-ldflags", flags, f"{_GO_MODULE}/cmd/server@v{TOXIPROXY_VERSION}"]
        _run(command, TOXIPROXY, _CURE_GO, env={**os.environ, "GOBIN": folder, "CGO_ENABLED": "0", "GOOS": "linux"})
        dockerfile = b'FROM scratch\nCOPY toxiproxy /toxiproxy\nEXPOSE 8474\nENTRYPOINT ["/toxiproxy"]\nCMD ["-host=0.0.0.0"]\n'
        build(engine, Recipe(TOXIPROXY, {"Dockerfile": dockerfile, "toxiproxy": Path(folder, "server")}), on_progress)


def has(engine: Engine, tag: str) -> bool:
    """Whether the engine has an image."""
    with engine_errors(f"looking for image {tag}"):
        try:
            engine.client.api.inspect_image(tag)  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return False
    return True


def is_fresh(engine: Engine, recipe: Recipe) -> bool:
    """Whether the image was made from exactly these files."""
    with engine_errors(f"looking for image {recipe.tag}"):
        try:
            image = engine.client.api.inspect_image(recipe.tag)  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return False
    return bool((image["Config"].get("Labels") or {}).get(INPUTS) == recipe.inputs)


def pulled(engine: Engine, tag: str, on_progress: OnProgress) -> bool:
    """Try to pull an image; returns whether that worked."""
    try:
        engine.client.images.pull(tag)
    except APIError:
        return False
    on_progress(f"{tag}: pulled")
    return True


def offered(engine: Engine, tag: str) -> bool:
    """Whether a registry offers an image to the engine; nothing is fetched. A registry that is too slow counts as none."""
    try:
        engine.client.images.get_registry_data(tag)
    except (APIError, requests.RequestException):
        return False
    return True


def build(engine: Engine, recipe: Recipe, on_progress: OnProgress) -> None:
    """Build an image, unless it was made from the same files.

    Raises EnvironmentFault with the last lines of a build that fails.
    """
    if is_fresh(engine, recipe):
        return
    context = _tar({**recipe.files, **recipe.late()})
    with engine_errors(f"building {recipe.tag}"):
        try:
            engine.client.images.build(
                fileobj=context,
                custom_context=True,
                tag=recipe.tag,
                rm=True,
                forcerm=True,
                labels={INPUTS: recipe.inputs},
                buildargs=dict(recipe.arguments or {}),
                timeout=int(_BUILD_TIMEOUT_S),
            )
        except BuildError as failed:
            output = "".join(str(line.get("stream", line.get("error", ""))) for line in failed.build_log)
            raise EnvironmentFault(f"building {recipe.tag} failed:\n{last_lines(output, 12)}") from failed
    on_progress(f"{recipe.tag}: built")


def _tar(files: Mapping[str, bytes | Path]) -> io.BytesIO:
    """These files as the context of a build; programs and scripts are executable."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, file in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            content = _content(file)
            entry.size = len(content)
            entry.mode = 0o755 if content[:4] == b"\x7fELF" or content[:2] == b"#!" else 0o644
            tar.addfile(entry, io.BytesIO(content))
    packed.seek(0)
    return packed


def _require_program(program: str, tag: str, cure: str) -> None:
    if shutil.which(program) is None:
        raise EnvironmentFault(f"image {tag} is not available: no registry answers, and {program} is missing here", cure=cure)


def _run(command: list[str], tag: str, cure: str | None = None, env: Mapping[str, str] | None = None) -> None:
    done = process.run(command, timeout_s=_BUILD_TIMEOUT_S, env=env)
    if done.returncode:
        raise EnvironmentFault(f"making image {tag} failed: {command[0]} reported\n{last_lines(done.stderr, 12)}", cure=cure)
