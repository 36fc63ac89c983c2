"""The steady state that the engine waits for."""

from chaoslab.clock import NS_PER_S
from chaoslab.events import Probe
from chaoslab.spec.model import ProbeSpec, SteadyState
from chaoslab.steady import SteadyWindow

SPEC = SteadyState.model_validate({"hold": "2s", "journeys": {"good": "> 99%", "p95": "< 100ms"}})


def window(slots: int, *, bad: int = 0, latency_ms: int = 10, rate: float = 50) -> SteadyWindow:
    filled = SteadyWindow(SPEC, ProbeSpec(rate=rate))
    for number in range(slots):
        due_ns = round(number / rate * NS_PER_S)
        filled.add(
            Probe(
                t_ns=due_ns, journey="j", service="s", op="read", due_ns=due_ns, sent_ns=due_ns,
                end_ns=due_ns + latency_ms * 1_000_000, good=number >= bad, outcome="ok",
            )
        )  # fmt: skip
    return filled


def test_good_fast_slots_for_long_enough_are_a_steady_state() -> None:
    """Two seconds at 50 a second, all good."""
    assert window(101).trouble(2 * NS_PER_S) is None


def test_too_few_slots_are_none_yet() -> None:
    """A window that is not full proves nothing; nor does a prober that sends nothing."""
    assert "too few" in (window(50).trouble(1 * NS_PER_S) or "")
    assert "nothing yet" in (window(0).trouble(0) or "")


def test_bad_or_slow_slots_are_named() -> None:
    """The journey, what was seen and what was wanted."""
    assert window(101, bad=3).trouble(2 * NS_PER_S) == "j: 97.03% of slots are good, wanted > 99%"
    assert window(101, latency_ms=150).trouble(2 * NS_PER_S) == "j: p95 is 150 ms, wanted < 100ms"


def test_old_trouble_is_forgotten() -> None:
    """Only the last `hold` seconds count."""
    assert window(201, bad=50).trouble(4 * NS_PER_S) is None
