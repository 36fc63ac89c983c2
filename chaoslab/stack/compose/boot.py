"""From the user's Compose file to the project that is started: config, images, networks, the rendered project."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaoslab.clock import Deadline
from chaoslab.errors import EnvironmentFault, SpecError
from chaoslab.spec.stackfile.topology import Replica, Topology
from chaoslab.stack.compose import images
from chaoslab.stack.compose.bring_up import StartRules, needs_of
from chaoslab.stack.compose.cli import ComposeCommand
from chaoslab.stack.compose.containers import Containers
from chaoslab.stack.compose.engine import Engine, engine_errors
from chaoslab.stack.compose.health import checks_of
from chaoslab.stack.compose.own_data import Copied, with_copies
from chaoslab.stack.compose.own_disks import OwnDisks, with_own_volumes
from chaoslab.stack.compose.project import Renderer, image_of, names_of, ports_of, shared_network
from chaoslab.stack.compose.wan import Network, Reach, Wan, plan_wans
from chaoslab.stack.ports import PortBlock
from chaoslab.stack.protocol import OnProgress
from chaoslab.stack.restarts import policies_of


@dataclass(frozen=True)
class Plan:
    """What was started: the WAN, how replicas are reached, what of the user's data is to be copied, and the disks to cut."""

    reach: Reach
    wans: tuple[Wan, ...]
    copies: tuple[Copied, ...] = ()
    disks: OwnDisks | None = None


def check_config(config: Mapping[str, Any], replicas: Sequence[Replica]) -> None:
    """Raises SpecError when Compose sees other services than we do, or a service that would get around the WAN."""
    missing = [replica.name for replica in replicas if replica.name not in config["services"]]
    if missing:
        raise SpecError(f"Compose does not start {', '.join(missing)}", cure="check: docker compose config --services")
    for replica in replicas:
        shared_network(config, replicas, replica)


def have_images(
    engine: Engine,
    config: Mapping[str, Any],
    topology: Topology,
    build: ComposeCommand,
    on_progress: OnProgress,
    deadline: Deadline,
) -> None:
    """Have every image that the stack and its WAN need: present, built or pulled.

    Raises EnvironmentFault, with a cure, for an image that cannot be had.
    """
    images.ensure_runtime_images(engine, on_progress)
    wanted = {replica.name: image_of(config, replica.name) for replica in topology.replicas}
    missing = {name: image for name, image in wanted.items() if not images.has(engine, image)}
    built = {image: name for name, image in missing.items() if config["services"][name].get("build")}
    if built:
        on_progress(f"building {', '.join(built)}")
        try:
            build.run("build", *built.values(), deadline=deadline)
        except EnvironmentFault as failed:
            cure = "docker compose build, or for the stacks of this project: make images"
            raise EnvironmentFault(str(failed), cure=cure) from failed
    for image in sorted(set(missing.values()) - set(built)):
        if not images.pulled(engine, image, on_progress):
            users = ", ".join(name for name, used in missing.items() if used == image)
            cure = f"docker pull {image}, or docker load it; for the stacks of this project: make images"
            raise EnvironmentFault(f"image {image} (of {users}) is not on this machine and cannot be pulled", cure=cure)


def make_project(
    engine: Engine,
    containers: Containers,
    config: Mapping[str, Any],
    topology: Topology,
    run_id: str,
    ports: PortBlock,
    file: Path,
    *,
    use_binds: bool = False,
    within: bool = False,
    cut: Collection[str] = (),
) -> Plan:
    """Create the places' networks and write the project that stands on them, beside copies of the user's files.

    `use_binds`: the stack gets the user's own folders, files and external volumes instead of copies. `within`: replicas of
    one place reach each other through the WAN, too. `cut`: replicas whose volumes are such that their power can be cut.
    """
    config, copies = (config, ()) if use_binds else with_copies(config, file.parent)
    disks, devices = None, dict[str, str]()
    if cut:
        declared = {name: _image_config(engine, image_of(config, name)).get("Volumes") or () for name in cut}
        config, volumes = with_own_volumes(config, cut, declared, use_binds=use_binds)
        disks = OwnDisks(containers, topology.project, volumes)
        devices = dict(disks.make())
    exposed: dict[str, list[int]] = {}
    for image in {image_of(config, name) for name in config["services"]}:
        listed = _image_config(engine, image).get("ExposedPorts") or {}
        exposed[image] = [int(port.partition("/")[0]) for port in listed if not port.endswith("/udp")]
    listed_ports = ports_of(config, exposed)
    ports_by_name = {one.name: tuple(dict.fromkeys([*one.ports, *listed_ports[one.name]])) for one in topology.replicas}
    networks: dict[str, Network] = {}
    for place in topology.places:
        made = containers.create_network(f"{topology.project}_{place}", place)
        pool = made["IPAM"]["Config"][0]
        networks[place] = Network(made["Name"], pool["Subnet"], pool["Gateway"].partition("/")[0])
    reach = Reach(ports_by_name, names_of(config), networks)
    wans = plan_wans(topology, reach, within=within)
    renderer = Renderer(config, topology, reach, wans, run_id, take_port=ports.take, devices=devices)
    file.write_text(json.dumps(renderer.project(), indent=1))
    return Plan(reach, wans, copies, disks)


def with_ports(topology: Topology, reach: Reach) -> Topology:
    """The topology with every port that Compose and the images know of, after those of the file."""
    replicas = tuple(dataclasses.replace(one, ports=tuple(reach.ports[one.name])) for one in topology.replicas)
    return dataclasses.replace(topology, replicas=replicas)


def start_rules_of(engine: Engine, config: Mapping[str, Any]) -> StartRules:
    """How the services of the file start: what they wait for, when they are healthy, which of them are restarted."""
    of_images = {name: _image_config(engine, image_of(config, name)).get("Healthcheck") for name in config["services"]}
    return StartRules(needs_of(config), checks_of(config, of_images), frozenset(policies_of(config["services"])))


def _image_config(engine: Engine, image: str) -> dict[str, Any]:
    """How an image's containers are configured; nothing for an image that is not here."""
    if not images.has(engine, image):
        return {}
    with engine_errors(f"inspecting image {image}"):
        details = engine.client.api.inspect_image(image)  # type: ignore[no-untyped-call]
    return dict(details["Config"])
