"""Sites that are lost with their disks: empty machines take their place while the fault lasts, and the heal ends it."""

from __future__ import annotations

import pytest
from fake_stack import FakeStack
from fault_contract import Nowhere, fake

from chaoslab.clock import SYSTEM, Deadline, wait_until
from chaoslab.errors import FaultNotEffective
from chaoslab.faults import proof
from chaoslab.faults.destroy import DestroyFault, SiteDestroy
from chaoslab.faults.link import LinkFlap
from chaoslab.faults.service import ServiceKill
from chaoslab.faults.site import SitePowerLoss
from chaoslab.spec.yaml.report import Report

BOTH = ["east", "west"]


def destroy(sites: list[str], after_s: float = 0.0, id_: str = "fire") -> SiteDestroy:
    return SiteDestroy.model_validate({"id": id_, "fault": "site.destroy", "sites": sites, "replaced_after": f"{after_s}s"})


def burnt(stack: FakeStack, after_s: float = 0.0) -> DestroyFault:
    for name in stack.disks:
        stack.disks[name].add("a row")
    fault = DestroyFault(destroy(BOTH, after_s), stack)
    fault.prepare()
    fault.inject()
    return fault


def in_sites(stack: FakeStack) -> list[str]:
    return [replica.name for replica in stack.topology.replicas if replica.site in BOTH]


def test_everything_in_the_sites_is_lost_and_nothing_else() -> None:
    """Its processes, its links and its disks."""
    stack = fake()
    burnt(stack, after_s=60)
    names = in_sites(stack)
    assert {stack.states()[name] for name in names} == {"dead"}
    assert not any(stack.disks[name] for name in names)
    assert all(stack.disks[name] for name in stack.disks if name not in names)
    assert stack.links.fenced()


def test_empty_machines_come_while_the_fault_lasts() -> None:
    """Behind no fence, so that a runbook can reach them; only once the loss was seen."""
    stack = fake()
    fault = burnt(stack)
    assert set(map(stack.states().get, in_sites(stack))) == {"dead"}
    fault.verify()

    def are_there() -> tuple[bool, object]:
        return {stack.states()[name] for name in in_sites(stack)} == {"running"} and not stack.links.fenced(), stack.states()

    wait_until("the new machines", are_there, Deadline.after(5))
    assert not any(stack.disks[name] for name in in_sites(stack))
    fault.heal(Deadline.after(5))
    assert fault.verify_heal(Deadline.after(5)).since_ns <= SYSTEM.now_ns()


def test_a_heal_before_they_come_brings_them() -> None:
    """A run that ends early waits for nobody."""
    stack = fake()
    fault = burnt(stack, after_s=60)
    fault.verify()
    began_ns = SYSTEM.now_ns()
    fault.heal(Deadline.after(5))
    assert (SYSTEM.now_ns() - began_ns) / 1e9 < 2
    assert {stack.states()[name] for name in in_sites(stack)} == {"running"}
    assert not stack.links.fenced()


def test_new_machines_of_one_site_open_no_way_to_another_that_is_lost() -> None:
    """Known bad: both held the ways between them under one name, so the first to be replaced opened them."""
    stack = fake()
    east, west = (DestroyFault(destroy([site], 60, site), stack) for site in BOTH)
    for fault in (east, west):
        fault.prepare()
    for fault in (east, west):
        fault.inject()
    east.heal(Deadline.after(5))
    assert stack.links.fenced() == set(stack.topology.flows_around("west"))
    west.heal(Deadline.after(5))
    assert not stack.links.fenced()


def test_what_survives_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: one replica still runs."""
    monkeypatch.setattr(proof, "EFFECT_TIMEOUT_S", 0.0)
    stack = fake()
    fault = burnt(stack, after_s=60)
    stack.start(in_sites(stack)[:1], Deadline.after(1))
    with pytest.raises(FaultNotEffective, match="still running after the loss"):
        fault.verify()


@pytest.mark.parametrize(
    ("sites", "why"),
    [(["east", "east"], "listed twice"), (["esat"], "unknown site 'esat'"), (["outside"], "not a site that can fail")],
)
def test_a_site_that_cannot_be_lost_is_refused(sites: list[str], why: str) -> None:
    report = Report(Nowhere())
    destroy(sites).check(fake().topology, report)
    (problem,) = report.problems
    assert why in problem.message


def test_it_conflicts_with_what_brings_up_one_of_its_sites() -> None:
    power = SitePowerLoss(id="cut", fault="site.power-loss", site="west")
    assert destroy(BOTH).conflicts_with(power)
    assert not destroy(["east"]).conflicts_with(power)
    assert destroy(BOTH).conflicts_with(destroy(["west"]))
    everywhere = ServiceKill(id="kill", fault="service.kill", service="store")
    assert destroy(["east"]).conflicts_with(everywhere)
    assert not destroy(["east"]).conflicts_with(everywhere.model_copy(update={"site": "west"}))


def test_a_link_that_flaps_conflicts_with_the_loss_of_an_end_of_it() -> None:
    """Nothing answers across it, so neither its cuts nor its returns would be seen."""
    flap = LinkFlap.model_validate(
        {"id": "flap", "fault": "link.flap", "from": "east", "to": "outside", "period": "2s", "count": 2}
    )
    assert flap.conflicts_with(destroy(["east"]))
    assert not flap.conflicts_with(destroy(["west"]))
