"""The doctor's questions to Docker. Each returns what was found, or raises EnvironmentFault with the cure."""

from __future__ import annotations

from chaoslab.errors import EnvironmentFault
from chaoslab.process import run
from chaoslab.stack import docker_images
from chaoslab.stack.docker_engine import connect, last_lines, require_compose

_TEST_NET = "192.0.2.1"  # RFC 5737: nobody's address


def engine_version() -> str:
    """The engine that the user's own `docker` command talks to."""
    engine = connect()
    return f"{engine.version} at {engine.url}"


def compose_version() -> str:
    """Compose v2, the plugin."""
    return require_compose()


def runtime_images() -> str:
    """The images of the links. They are made or pulled before a run; who has none and no network cannot."""
    engine = connect()
    missing = [tag for tag in (docker_images.TOXIPROXY, docker_images.WAN) if not docker_images.has(engine, tag)]
    if missing:
        raise EnvironmentFault(f"{', '.join(missing)}: not there yet", cure="make images (a run also tries to)")
    return "there"


def packet_rules() -> str:
    """Sets one packet rule in the network namespace of a container that ends at once."""
    engine = connect()
    if not docker_images.has(engine, docker_images.WAN):
        raise EnvironmentFault("not tried without its image", cure="make images, then ask again")
    rule = ["--entrypoint", "iptables", docker_images.WAN, "-A", "OUTPUT", "-d", _TEST_NET, "-j", "DROP"]
    answer = run(["docker", "run", "--rm", "--network", "none", "--cap-add", "NET_ADMIN", *rule], timeout_s=30)
    if answer.returncode:
        cure = "allow containers NET_ADMIN, and load the kernel's iptables modules"
        raise EnvironmentFault(last_lines(answer.stderr, 2), cure=cure)
    return "a container may set them"
