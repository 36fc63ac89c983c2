"""When faults are injected and healed."""

from chaoslab.schedule import end_of, schedule
from chaoslab.spec.model import Objectives, ServiceKill
from chaoslab.units import parse_threshold


def kill(id_: str, at: float, heal_after: float | None) -> ServiceKill:
    return ServiceKill(
        id=id_, at=f"{at}s", heal_after=None if heal_after is None else f"{heal_after}s", fault="service.kill", service="x"
    )


def test_actions_come_in_order_of_time_and_healing_goes_first() -> None:
    """A fault that heals when the next begins is healed before that one is injected."""
    actions = schedule([kill("a", 0, 5), kill("b", 5, 5)], [])
    assert [(a.at_s, a.verb, a.fault_id) for a in actions] == [
        (0.0, "inject", "a"),
        (5.0, "heal", "a"),
        (5.0, "inject", "b"),
        (10.0, "heal", "b"),
    ]


def test_a_fault_without_a_heal_time_outlasts_the_longest_rto() -> None:
    """Else nobody could miss the objective."""
    rto = Objectives(rto=parse_threshold("< 45s", unit="s", default="<"))
    assert end_of([kill("a", 10, None)], [rto]) == 10 + 45 * 1.2
    assert end_of([kill("a", 10, None)], []) == 40
    assert end_of([], []) == 0
