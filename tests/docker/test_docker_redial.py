"""Dials that began while a replica was dead are ended when it is back. Needs no engine."""

from __future__ import annotations

import re
from collections.abc import Iterable

from chaoslab.spec.stackfile.model import OUTSIDE, StackSpec
from chaoslab.spec.stackfile.topology import Flow, Replica, Topology, places_of
from chaoslab.stack.compose.links import Crossing, DockerLinks
from chaoslab.stack.compose.wan import Network, Reach, plan_wans


class Spoken:
    """Namespaces that keep the rules they were given, and remember whose pending calls were ended."""

    def __init__(self) -> None:
        self.rules: dict[str, str] = {}
        self.ended: list[str] = []

    def began(self, containers: Iterable[str]) -> dict[str, str]:
        return dict.fromkeys(containers, "once")

    def run(self, name: str, script: str) -> str:
        if "ss -K" in script:
            self.ended.append(name)
        elif given := re.match(r"printf %s '(.*?)' \|", script, re.DOTALL):
            self.rules[name] = given[1]
        return self.rules.get(name, "")


def links_of(spoken: Spoken) -> DockerLinks:
    replicas = (Replica("a", "a", "east", (80,)), Replica("b", "b", "west", (80,)), Replica("entry", "entry", OUTSIDE, (80,)))
    places = places_of(replicas)
    networks = {place: Network(f"p_{place}", f"10.0.{n}.0/24", f"10.0.{n}.1") for n, place in enumerate(places)}
    reach = Reach({one.name: one.ports for one in replicas}, {one.name: (one.name,) for one in replicas}, networks)
    topology = Topology("p", replicas, StackSpec(sites=["east", "west"], entry="entry:80"), places)
    crossings = [Crossing(wan, "127.0.0.1:1") for wan in plan_wans(topology, reach)]
    return DockerLinks(crossings, reach, spoken, spoken, ["gate-east", "gate-west"])


def test_every_dial_that_waits_is_ended() -> None:
    """Known bad: Toxiproxy dials one after the other, so all later dials wait behind one that was never refused."""
    spoken = Spoken()
    links_of(spoken).redial()
    assert {"wan-outside-east", "wan-outside-west", "wan-east-west", "gate-east", "gate-west"} <= {*spoken.ended}


def test_what_a_fence_holds_goes_on_waiting() -> None:
    """Known bad: its clients would see the end of their connects, as if there had been an answer."""
    spoken = Spoken()
    links = links_of(spoken)
    links.fence([Flow("east", "west"), Flow("west", "east")], "test")
    links.redial()
    assert spoken.ended
    assert not {"wan-east-west", "wan-west-east", "gate-east", "gate-west"} & {*spoken.ended}
