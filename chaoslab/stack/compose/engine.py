"""The Docker engine that the user's `docker` command would use, with its errors mapped to those of chaoslab."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import docker
import requests
from docker.constants import MINIMUM_DOCKER_API_VERSION
from docker.context import ContextAPI
from docker.errors import APIError, DockerException
from docker.tls import TLSConfig
from docker.utils import kwargs_from_env

from chaoslab import process
from chaoslab.errors import ChaoslabError, EnvironmentFault, StackError
from chaoslab.files import last_lines
from chaoslab.stack.ports import LOOPBACK

_LOCAL_HOSTS = (LOOPBACK, "localhost", "::1")
_CHOICES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")  # which engine it is
_API_TIMEOUT_S = 60
_FIRST_ANSWER_S = 10  # another program may listen there
_CURE_ENGINE = "start Docker (for Debian, as root, a clone of chaoslab has .ci/docker-up), or use --runtime embedded"
_CURE_ACCESS = "as root: usermod -aG docker USER, then log in again; or use --runtime embedded"
_CURE_PORT = "run it again: another program took the port while the stack was coming up"
_CURES = {
    "no space left on device": "free some space where the engine keeps its data: docker system df, docker system prune",
    "address already in use": _CURE_PORT,
    "port is already allocated": _CURE_PORT,
}
_CURE_COMPOSE = "install the Compose v2 plugin (package docker-compose-plugin, or docker-compose in Debian 13)"


@dataclass(frozen=True)
class Engine:
    """A Docker engine of this machine that answers."""

    client: docker.DockerClient
    url: str
    version: str


def connect() -> Engine:
    """The engine of DOCKER_HOST, DOCKER_CONTEXT or the current context.

    Raises EnvironmentFault when none answers, or when it is on another machine: the APIs of the links and the gates into the
    sites have no authentication, so they are published on the loopback alone.
    """
    try:
        if os.environ.get("DOCKER_HOST"):
            url, tls = os.environ["DOCKER_HOST"], kwargs_from_env().get("tls")
        else:
            name = _context_name()
            context = ContextAPI.get_context(name)
            if context is None:
                raise EnvironmentFault(f"there is no Docker context {name!r}", cure="docker context ls")
            url, tls = context.Host or "unix:///var/run/docker.sock", context.TLSConfig
        remote = is_remote(url)
    except (DockerException, ValueError) as wrong:
        raise EnvironmentFault(
            f"no Docker engine can be found: {wrong}", cure="check DOCKER_HOST and docker context ls"
        ) from wrong
    if remote:
        raise EnvironmentFault(
            f"the Docker engine {url} is on another machine, where anyone who can reach it could control the faults of a run",
            cure="run chaoslab on that machine, or unset DOCKER_HOST and `docker context use default`",
        )
    try:
        found = _client(url, tls, MINIMUM_DOCKER_API_VERSION).api.version(api_version=False)
        client = _client(url, tls, str(found["ApiVersion"]))
        client.api.timeout = _API_TIMEOUT_S
    except (DockerException, requests.RequestException, ValueError, OverflowError) as broken:
        cause = _cause(broken)
        if isinstance(cause, PermissionError):
            raise EnvironmentFault(
                f"this user may not use the Docker engine at {url}: {_words(cause)}", cure=_CURE_ACCESS
            ) from broken
        raise EnvironmentFault(f"no Docker engine answers at {url}: {_words(cause)}", cure=_CURE_ENGINE) from broken
    return Engine(client, url, str(found["Version"]))


def _cause(broken: BaseException) -> BaseException:
    """What the operating system raised, where a library wrapped that."""
    wrapped = next((part for part in broken.args if isinstance(part, BaseException)), None)
    return broken if wrapped is None else _cause(wrapped)


def _words(broken: BaseException) -> str:
    return (isinstance(broken, OSError) and broken.strerror) or str(broken)


def _client(url: str, tls: TLSConfig | None, api_version: str) -> docker.DockerClient:
    """A client that uses neither proxies nor a .netrc of the environment, and so needs the API version from the start."""
    client = docker.DockerClient(base_url=url, tls=tls or False, timeout=_FIRST_ANSWER_S, max_pool_size=32, version=api_version)
    client.api.trust_env = False
    return client


def is_remote(url: str) -> bool:
    """Whether an engine's URL leads to another machine. A forwarded port on this one counts as here."""
    parts = urlsplit(url)
    return parts.scheme not in ("unix", "npipe", "http+unix") and parts.hostname not in _LOCAL_HOSTS


def same_engine() -> list[str]:
    """The `env` command before a command that makes it reach the engine which this process reaches, from any shell."""
    chosen = {key: value for key in _CHOICES if (value := os.environ.get(key))}
    if "DOCKER_HOST" not in chosen:
        chosen["DOCKER_CONTEXT"] = _context_name()
    others = [word for key in _CHOICES if key not in chosen for word in ("-u", key)]
    return ["env", *others, *(f"{key}={value}" for key, value in chosen.items())]


def _context_name() -> str:
    if named := os.environ.get("DOCKER_CONTEXT"):
        return named
    current = ContextAPI.get_current_context()
    if current is None:
        raise EnvironmentFault(
            "the current Docker context does not exist", cure="docker context ls, docker context use default"
        )
    return str(current.Name)


def require_compose() -> str:
    """The version of Compose v2. Raises EnvironmentFault when `docker compose` does not answer."""
    answer = process.run(["docker", "compose", "version", "--short"], timeout_s=20)
    if answer.returncode or not answer.stdout.strip():
        raise EnvironmentFault(f"`docker compose` does not answer: {last_lines(answer.stderr, 3)}", cure=_CURE_COMPOSE)
    return answer.stdout.strip()


def cure_of(message: str) -> str | None:
    """What to do about an error message of the engine, where that is known."""
    return next((cure for text, cure in _CURES.items() if text in message), None)


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turn what the Docker SDK raises into StackError, or EnvironmentFault when the engine itself is gone."""
    try:
        yield
    except ChaoslabError:
        raise
    except APIError as refused:
        message = str(refused.explanation or refused)
        raise StackError(f"{doing}: {message}", cure=cure_of(message)) from refused
    except (requests.RequestException, DockerException) as gone:
        raise EnvironmentFault(f"{doing}: the Docker engine no longer answers: {gone}", cure=_CURE_ENGINE) from gone
