"""The Compose file, its overlays and the experiments, as chaoslab reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import APP

from chaoslab.spec.load import load_experiment
from chaoslab.spec.objectives import objectives_for
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.spec.timeline import lasts_s

ROOT = APP.parents[1]
STACK = APP / "compose.yaml"
KNOWN_BAD = ROOT / "compose" / "known-bad"
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))


def test_every_service_stands_in_both_sites() -> None:
    """Two of each service, one a site; a witness that stands in neither; an entry outside."""
    topology = load_stack([STACK]).topology()
    for service in ("auth", "talk", "pay", "partner", "pg"):
        assert {replica.site for replica in topology.of_service(service)} == {"pangyo", "anyang"}
    assert {replica.site for replica in topology.of_service("etcd")} == {"pangyo", "anyang", "witness"}
    assert topology.replica("entry").site not in ("pangyo", "anyang", "witness")


def test_every_replica_has_a_health_check() -> None:
    """Nothing is called up that was not looked at."""
    assert all(replica.healthcheck for replica in load_stack([STACK]).replicas)


def test_every_service_has_objectives_and_journeys_that_read_and_write() -> None:
    """A service without a tier or without a probe could die unnoticed."""
    spec = load_stack([STACK]).spec
    for name, service in spec.services.items():
        assert service.tier in spec.tiers
        assert {journey.op for journey in spec.journeys.values() if journey.service == name} == {"read", "write"}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_journey_has_a_name_for_the_business(path: Path) -> None:
    """Known bad: the page for the business spoke of pay.transfer."""
    assert all(journey.title for journey in load_experiment(path).compose.spec.journeys.values())


def test_every_service_that_may_lose_nothing_has_a_ledger() -> None:
    """An RPO without a ledger would be a claim that nobody checks."""
    spec = load_stack([STACK]).spec
    strict = {name for name, service in spec.services.items() if service.tier and spec.tiers[service.tier].rpo}
    assert strict == {journey.service for journey in spec.journeys.values() if journey.ledger}
    assert all(journey.ledger.local for journey in spec.journeys.values() if journey.ledger)


def test_the_known_bad_controller_stands_in_the_site_that_burns() -> None:
    """The overlay moves every etcd member to pangyo, and nothing else."""
    good = load_stack([STACK]).topology()
    bad = load_stack([STACK, KNOWN_BAD / "controller-in-fire.yaml"]).topology()
    assert {replica.site for replica in bad.of_service("etcd")} == {"pangyo"}
    moved = {replica.name for replica in good.replicas if bad.replica(replica.name).site != replica.site}
    assert moved == {"etcd-anyang", "etcd-witness"}


@pytest.mark.parametrize(
    ("overlay", "module"), [("ack-before-persist", "pay_ack_first"), ("pay-waits-for-login", "pay_waits_for_login")]
)
def test_the_known_bad_pay_is_in_place_in_both_sites(overlay: str, module: str) -> None:
    """The overlay swaps the program of pay, and nothing else."""
    good, bad = load_stack([STACK]).services, load_stack([STACK, KNOWN_BAD / f"{overlay}.yaml"]).services
    changed = {name for name in good if good[name] != bad[name]}
    assert changed == {"pay-pangyo", "pay-anyang"}
    assert all(bad[name]["command"] == ["python", "-m", module] for name in changed)


def test_more_time_for_a_far_leader_is_declared_for_what_needs_the_leader() -> None:
    """Writes, and reads that only the leader answers: no other journey, and nothing but the time."""
    strict, lenient = load_stack([STACK]).spec.journeys, load_stack([STACK, APP / "far-leader.yaml"]).spec.journeys
    changed = {name for name in strict if strict[name] != lenient[name]}
    assert changed == {"auth.login", "talk.send", "pay.transfer", "pay.balance"}
    for name in changed:
        good = strict[name].good.model_copy(update={"within": 1.0})
        assert lenient[name] == strict[name].model_copy(update={"good": good})


def test_the_archive_of_backups_is_in_neither_site() -> None:
    """Known bad: the overlay that moves it to pangyo, and nothing else."""
    backup = [STACK, APP / "backup.yaml"]
    good, bad = load_stack(backup).topology(), load_stack([*backup, KNOWN_BAD / "backup-in-fire.yaml"]).topology()
    assert good.replica("offsite").site not in ("pangyo", "anyang", good.replica("entry").site)
    assert {replica.name for replica in good.replicas if bad.replica(replica.name).site != replica.site} == {"offsite"}
    assert bad.replica("offsite").site == "pangyo"


@pytest.mark.parametrize(("overlay", "service"), [("keys", "secrets"), ("registry", "registry")])
def test_what_pay_starts_with_is_in_both_sites(overlay: str, service: str) -> None:
    """Known bad: the overlay that moves the store of anyang to pangyo, and nothing else."""
    stack = [STACK, APP / f"{service}.yaml"]
    good, bad = load_stack(stack).topology(), load_stack([*stack, KNOWN_BAD / f"{overlay}-burnt.yaml"]).topology()
    assert {replica.site for replica in good.of_service(service)} == {"pangyo", "anyang"}
    assert {replica.site for replica in bad.of_service(service)} == {"pangyo"}
    moved = {replica.name for replica in good.replicas if bad.replica(replica.name).site != replica.site}
    assert moved == {f"{service}-anyang"}


def test_each_site_has_a_cache_that_its_talk_uses() -> None:
    """And that no other site's talk uses. Known bad: the overlay that swaps the program of talk, and nothing else."""
    cached = [STACK, APP / "cache.yaml"]
    good, bad = load_stack(cached), load_stack([*cached, KNOWN_BAD / "no-limits.yaml"])
    assert {replica.name: replica.site for replica in good.topology().of_service("cache")} == {
        "cache-pangyo": "pangyo",
        "cache-anyang": "anyang",
    }
    for site in ("pangyo", "anyang"):
        assert good.services[f"talk-{site}"]["environment"]["CACHE"].endswith(f":-cache-{site}:6379}}")
    changed = {name for name in good.services if good.services[name] != bad.services[name]}
    assert changed == {"talk-pangyo", "talk-anyang"}
    assert all(bad.services[name]["command"] == ["python", "-m", "talk_unbounded"] for name in changed)


def test_shedding_is_declared_for_one_journey_and_for_pages_alone() -> None:
    """Who reads what is in the cache has to be served, and so has everybody else."""
    cached = [STACK, APP / "cache.yaml"]
    strict, lenient = load_stack(cached).spec, load_stack([*cached, APP / "shedding.yaml"]).spec
    changed = {name for name in strict.journeys if strict.journeys[name] != lenient.journeys[name]}
    assert changed == {"talk.browse"}
    assert lenient.journeys["talk.browse"].good.status == [200, 429]
    assert lenient.journeys["talk.browse"].good.within == strict.journeys["talk.browse"].good.within


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_is_sound_and_says_what_it_claims(path: Path) -> None:
    """It loads, its hypothesis is a sentence, and only what is tagged known-bad is expected to fail."""
    experiment = load_experiment(path).experiment
    assert experiment.hypothesis.endswith(".")
    assert (experiment.expect is not None) == ("known-bad" in experiment.tags)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_no_fault_is_healed_before_the_rto_of_who_is_probed(path: Path) -> None:
    """A service that only its heal brought back has missed its RTO only when that was over by then."""
    loaded = load_experiment(path)
    experiment, journeys = loaded.experiment, loaded.compose.spec.journeys
    probed = {journeys[name].service for name in experiment.probe.journeys or journeys}
    promised = objectives_for(experiment, loaded.compose.spec)
    longest_s = max((promised[name].rto.value for name in probed if promised[name].rto is not None), default=0.0)
    lasts = [lasts_s(fault, [*promised.values()]) for fault in experiment.faults]
    assert all(fault_s > longest_s for fault_s in lasts)
