"""From the user's Compose file to the project that is started: config, images, networks, the rendered file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaoslab.clock import Deadline
from chaoslab.errors import EnvironmentFault, SpecError
from chaoslab.stack import docker_images as images
from chaoslab.stack.docker_cli import ComposeCommand
from chaoslab.stack.docker_containers import Containers
from chaoslab.stack.docker_engine import Engine, engine_errors
from chaoslab.stack.docker_health import checks_of
from chaoslab.stack.docker_project import Renderer, image_of, names_of, ports_of, shared_network
from chaoslab.stack.docker_watch import Customs, needs_of, revived
from chaoslab.stack.ports import PortBlock
from chaoslab.stack.protocol import Tell
from chaoslab.stack.topology import Replica, Topology
from chaoslab.stack.wan import Network, Reach, Wan, plan_wans


@dataclass(frozen=True)
class Plan:
    """What was started: the WAN, and how replicas are reached."""

    reach: Reach
    wans: tuple[Wan, ...]


def check_config(config: Mapping[str, Any], replicas: Sequence[Replica]) -> None:
    """Raises SpecError when Compose sees other services than we do, or one that would get around the WAN."""
    missing = [replica.name for replica in replicas if replica.name not in config["services"]]
    if missing:
        raise SpecError(f"Compose does not start {', '.join(missing)}", cure="look at: docker compose config --services")
    for replica in replicas:
        shared_network(config, replicas, replica)


def have_images(
    engine: Engine, config: Mapping[str, Any], topology: Topology, build: ComposeCommand, tell: Tell, deadline: Deadline
) -> None:
    """Have every image that the stack and its WAN need: present, built or pulled.

    Raises EnvironmentFault, with a cure, for one that cannot be had.
    """
    images.ensure_runtime_images(engine, tell)
    wanted = {replica.name: image_of(config, replica.name) for replica in topology.replicas}
    missing = {name: image for name, image in wanted.items() if not images.has(engine, image)}
    built = {image: name for name, image in missing.items() if config["services"][name].get("build")}
    if built:
        tell(f"building {', '.join(built)}")
        _build(build, list(built.values()), deadline)
    for image in sorted(set(missing.values()) - set(built)):
        if not images.pulled(engine, image, tell):
            users = ", ".join(name for name, used in missing.items() if used == image)
            cure = f"docker pull {image}, or docker load it; for the stacks of this project: make images"
            raise EnvironmentFault(f"image {image} (of {users}) is not here and cannot be pulled", cure=cure)


def _build(command: ComposeCommand, services: Sequence[str], deadline: Deadline) -> None:
    try:
        command.run("build", *services, deadline=deadline)
    except EnvironmentFault as failed:
        raise EnvironmentFault(
            str(failed), cure="docker compose build, or for the stacks of this project: make images"
        ) from failed


def make_project(
    engine: Engine,
    containers: Containers,
    config: Mapping[str, Any],
    topology: Topology,
    run_id: str,
    ports: PortBlock,
    file: Path,
) -> Plan:
    """Create the places' networks and write the project that stands on them."""
    declared = ports_of(config, _exposed(engine, config))
    ports_by_name = {one.name: tuple(dict.fromkeys([*one.ports, *declared[one.name]])) for one in topology.replicas}
    reach = Reach(ports_by_name, names_of(config), _networks(containers, topology))
    wans = plan_wans(topology, reach)
    renderer = Renderer(
        config,
        topology,
        reach,
        wans,
        run_id,
        take_port=ports.take,
    )
    file.write_text(json.dumps(renderer.project(), indent=1))
    return Plan(reach, wans)


def with_ports(topology: Topology, reach: Reach) -> Topology:
    """The topology with every port that Compose and the images know of; those of the file stay first."""
    replicas = tuple(dataclasses.replace(one, ports=tuple(reach.ports[one.name])) for one in topology.replicas)
    return dataclasses.replace(topology, replicas=replicas)


def customs_of(engine: Engine, config: Mapping[str, Any]) -> Customs:
    """How the services of the file live: whom they wait for, when they are well, who is brought back."""
    of_images = {name: _image(engine, image_of(config, name)).get("Healthcheck") for name in config["services"]}
    return Customs(needs_of(config), checks_of(config, of_images), revived(config))


def _exposed(engine: Engine, config: Mapping[str, Any]) -> dict[str, list[int]]:
    """The TCP ports that each image of the stack says it listens on."""
    wanted = {image_of(config, name) for name in config["services"]}
    exposed = {image: _image(engine, image).get("ExposedPorts") or {} for image in wanted}
    return {
        image: [int(port.partition("/")[0]) for port in ports if not port.endswith("/udp")] for image, ports in exposed.items()
    }


def _image(engine: Engine, image: str) -> dict[str, Any]:
    """How an image's containers are configured; nothing for one that is not here."""
    if not images.has(engine, image):
        return {}
    with engine_errors(f"inspecting image {image}"):
        details = engine.client.api.inspect_image(image)  # type: ignore[no-untyped-call]
    return dict(details["Config"])


def _networks(containers: Containers, topology: Topology) -> dict[str, Network]:
    return {place: _network(containers.create_network(f"{topology.project}_{place}", place)) for place in topology.places}


def _network(made: Mapping[str, Any]) -> Network:
    pool = made["IPAM"]["Config"][0]
    return Network(made["Name"], pool["Subnet"], pool["Gateway"].partition("/")[0])
