"""When faults are injected and healed."""

from chaoslab.faults.service import ServiceKill
from chaoslab.spec.model import ExperimentObjectives
from chaoslab.spec.timeline import Action, end_of, schedule
from chaoslab.units import parse_threshold


def kill(id_: str, at: float, heal_after: float | str | None) -> ServiceKill:
    lasts = f"{heal_after}s" if isinstance(heal_after, float | int) else heal_after
    return ServiceKill(id=id_, at=f"{at}s", heal_after=lasts, fault="service.kill", service="x")


def test_actions_come_in_order_of_time_and_healing_goes_first() -> None:
    """A fault that heals when the next begins is healed before that one is injected."""
    actions = schedule([kill("a", 0, 5), kill("b", 5, 5)], [])
    assert [(a.at_s, a.verb, a.id) for a in actions] == [
        (0.0, "inject", "a"),
        (5.0, "heal", "a"),
        (5.0, "inject", "b"),
        (10.0, "heal", "b"),
    ]


def test_a_fault_without_a_heal_time_outlasts_the_longest_rto() -> None:
    """Else no service could miss its objective."""
    rto = ExperimentObjectives(rto=parse_threshold("< 45s", unit="s", default="<"))
    assert end_of([kill("a", 10, None)], [rto]) == 10 + 45 * 1.2
    assert end_of([kill("a", 10, None)], []) == 40
    assert end_of([], []) == 0


def test_a_heal_at_recovery_has_a_latest_time() -> None:
    """When each service has had its RTO under that fault, a fifth of it, and at least 5 s."""
    web = ExperimentObjectives.model_validate({"rto": "< 45s", "under": {"b": {"rto": "< 10s"}}})
    actions = schedule([kill("a", 1, "recovered"), kill("b", 2, "recovered")], [web, ExperimentObjectives()])
    assert [action for action in actions if action.verb == "heal"] == [
        Action(17.0, "heal", "b", latest=True),
        Action(55.0, "heal", "a", latest=True),
    ]
