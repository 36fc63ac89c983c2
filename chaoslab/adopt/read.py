"""Reads a user's Compose project: with `docker compose config` if Compose is installed, else with our own reader."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from chaoslab.adopt.entry import Served
from chaoslab.adopt.facts import Project, Service, items, mapping, plain, project_of, service_of
from chaoslab.errors import EnvironmentFault, SpecError
from chaoslab.spec.stackfile.compose import merged_data, read_files
from chaoslab.spec.yaml.problems import SpecErrors
from chaoslab.spec.yaml.source import EXTENSION, read
from chaoslab.stack.compose.cli import read_config
from chaoslab.stack.compose.engine import require_compose
from chaoslab.stack.ports import LOOPBACK

_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")  # in Compose's order
_TEXT_MAX = 64 * 1024
_TEXTS_MAX = 40  # files of one service
_SETTINGS = (".conf", ".cfg", ".caddy", ".yaml", ".yml", ".toml", ".json", ".env", ".template", ".ini", ".properties", ".sh")
_SKIPPED = {"node_modules", ".git", ".venv", "venv", "__pycache__", "target", "dist", "vendor", "runs"}
_DOCUMENTS = ("openapi.json", "v3/api-docs", "swagger.json", "api/openapi.json", "api/docs.json")
_COPY = re.compile(r"(?im)^\s*(?:COPY|ADD)\s+(.+)$")
_ANSWER_S = 1.0
_ANSWER_MAX = 2 * 1024 * 1024


@dataclass(frozen=True)
class Found:
    """A project, what read it, in words, and the services that start only because their profile is set here."""

    project: Project
    read_by: str
    enabled: tuple[str, ...] = ()


def find_files(folder: Path, given: Sequence[Path]) -> tuple[Path, ...]:
    """The files that `docker compose` would take in this folder. Raises SpecError when there is none."""
    if given:
        missing = [str(file) for file in given if not (folder / file).is_file()]
        if missing:
            raise SpecError(f"there is no file {', '.join(missing)}", cure="name the Compose files of your project")
        return tuple((folder / file).absolute() for file in given)
    if named := os.environ.get("COMPOSE_FILE"):
        return find_files(folder, [Path(part) for part in named.split(os.environ.get("COMPOSE_PATH_SEPARATOR", os.pathsep))])
    base = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    if base is None:
        raise SpecError(f"no Compose file in {folder}", cure="run this beside your compose.yaml, or name the file")
    over = [base.with_name(f"{base.stem}.override{suffix}") for suffix in (".yaml", ".yml")]
    return (base.absolute(), *(file.absolute() for file in over if file.is_file()))


def read_project(files: Sequence[Path]) -> Found:
    """Raises SpecError when the files are broken, or have a section of ours already."""
    try:
        version = require_compose()
    except EnvironmentFault:
        documents, problems = read_files(files)
        if documents is None or problems:
            raise SpecErrors(problems) from None
        config = merged_data(documents)
        services = {name: one for name, one in mapping(config.get("services")).items() if not mapping(one).get("profiles")}
        config, read_by = {**config, "services": services}, "chaoslab's own reader, because docker compose is not available"
    else:
        config, read_by = read_config(files), f"docker compose {version}"
    if EXTENSION in config:
        raise SpecError(f"{files[-1].name} already has an {EXTENSION} section", cure="chaoslab check reads it")
    if not mapping(config.get("services")):
        raise SpecError(f"{files[0].name} has no services that start without a profile", cure="set COMPOSE_PROFILES")
    if odd := [str(name) for name, entry in config["services"].items() if not isinstance(entry, dict)]:
        raise SpecError(f"{files[0].name}: service {', '.join(odd)} is not a mapping", cure="give it an image or a build")
    folder = files[0].parent
    texts = {str(name): dict(_texts_of(mapping(entry), config, folder)) for name, entry in config["services"].items()}
    enabled = tuple(name for name, entry in config["services"].items() if mapping(entry).get("profiles"))
    own = mapping(read(files[0], "compose").data).get("services") if len(files) == 1 else None
    whole = {str(name) for name in mapping(own)} - {*enabled}
    return Found(project_of(config, texts, str(folder), whole), read_by, enabled)


def _texts_of(entry: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, str]]:
    """The files that configure a service: its Dockerfile, mounted files, configs, and files that are built into it."""
    service: Service = service_of("", entry, {})
    build = entry.get("build")
    sources = [folder / mount.source for mount in service.mounts if mount.is_path]
    for one in items(entry.get("configs")):
        key = one.get("source") if isinstance(one, dict) else one
        config_file = mapping(mapping(config.get("configs")).get(str(key)))
        sources += [folder / plain(config_file["file"])] if config_file.get("file") else []
        if config_file.get("content"):
            yield str(key), plain(config_file["content"])
    if service.build and "://" not in service.build:
        context = folder / service.build
        dockerfile = context / plain(mapping(build).get("dockerfile") or "Dockerfile")
        if (text := _text(dockerfile)) is not None:
            yield "Dockerfile", text
            copied = [word for line in _COPY.findall(text) for word in line.split()[:-1] if not word.startswith("--")]
            sources += [context / word for word in copied if (context / word).is_file()]
        sources.append(context)
    count = 0
    for source in sources:
        for file in _settings_in(source):
            text = _text(file)
            if text is not None and count < _TEXTS_MAX:
                count += 1
                yield file.name, text


def _settings_in(source: Path) -> Iterator[Path]:
    """The file itself; for a folder, files that look like settings, up to three levels deep."""
    if not source.is_dir():
        yield source
        return
    for folder, folders, files in os.walk(source):
        depth = len(Path(folder).relative_to(source).parts)
        folders[:] = sorted(one for one in folders if one not in _SKIPPED and not one.startswith(".")) if depth < 3 else []
        for name in sorted(files):
            if name.endswith(_SETTINGS) or name in ("Caddyfile", "nginx", "default"):
                yield Path(folder, name)


def _text(file: Path) -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if file.is_file() and file.stat().st_size <= _TEXT_MAX:
            return file.read_text(encoding="utf-8")
    return None


def openapi_document(port: int | None, folder: Path) -> Served:
    """The OpenAPI document of an application: one that answers on a port of this machine now, or a file of the folder.

    Only GET requests are sent, to the loopback, for a few seconds at most.
    """
    for name in ("openapi.json", "openapi.yaml", "openapi.yml", "swagger.json", "swagger.yaml"):
        with contextlib.suppress(SpecErrors):
            if (folder / name).is_file() and isinstance(data := read(folder / name, "compose").data, dict):
                return Served(data, name)
    if port is None:
        return Served()
    return asyncio.run(_openapi_served_at(f"http://{LOOPBACK}:{port}"))


async def _openapi_served_at(here: str) -> Served:
    statuses: dict[str, int] = {}
    within = aiohttp.ClientTimeout(total=_ANSWER_S)
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with aiohttp.ClientSession(timeout=within) as session:
            async with session.get(f"{here}/", allow_redirects=False) as answer:
                statuses["/"] = answer.status
            for path in _DOCUMENTS:
                async with session.get(f"{here}/{path}", allow_redirects=False) as answer:
                    body = b""
                    while answer.status == 200 and len(body) < _ANSWER_MAX and (part := await answer.content.read(64 * 1024)):
                        body += part
                with contextlib.suppress(ValueError):  # no JSON
                    if isinstance(data := json.loads(body), dict) and isinstance(data.get("paths"), dict):
                        return Served(data, f"{here}/{path}", statuses)
    return Served({}, here, statuses)
