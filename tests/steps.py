"""Which tests are left to `make test-all`, which to `make nightly`, and which run alone. Read by conftest.py.

A prefix of a test's id is enough. Tests that need a Docker engine or a browser carry the marker `docker` or `browser`; they,
and those that need Toxiproxy, are left to test-all, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# The two-site stack, whole runs of the mini stack, and tests that wait long.
SLOW = (
    "e2e/test_queue.py::",
    "e2e/test_two_site.py::",
    "engine/test_many_protocols.py::",
    "engine/test_repeats.py::test_repeated_runs",
    "engine/test_runs.py::",
    "engine/test_selftest_runs.py::",
    "engine/test_step_runs.py::",
    "faults/test_service_faults.py::test_whole_runs",
    "kill/test_bad_weather.py::",
    "kill/test_ctrl_c.py::",
    "kill/test_gameday_kills.py::",
    "kill/test_kill.py::test_a_killed_harness",
    "kill/test_kill.py::test_without_the_reaper",
    "load/test_load_elsewhere.py::",
    "load/test_load_process.py::test_a_stubborn_user",
    "packaging/test_wheel.py::test_it",
    "packaging/test_wheel.py::test_the_wheel",
    "run/test_runbook_rot.py::test_a_check_leaves",
    "run/test_runbook_rot.py::test_the_command_boots",
    "security/test_loopback.py::test_the_two_site_stack",
    "security/test_private_runs.py::test_heal_finds",
    "security/test_private_runs.py::test_the_emergency_stop",
    "spec/test_fuzz_loader.py::",
    "gameday/test_real_night.py::",
    "testing/test_fixtures.py::",
    "testing/test_plugin.py::test_a_killed",
    "testing/test_plugin.py::test_each_verdict",
)

# Of these, what `make test` runs all the same: one of each kind.
KEPT = (
    "e2e/test_two_site.py::test_a_good_stack_survives_the_fire[embedded]",
    "e2e/test_two_site.py::test_every_experiment",
    "e2e/test_two_site.py::test_the_known_bad",
    "engine/test_runs.py::test_a_store_that_forgets",
    "engine/test_runs.py::test_a_dry_run",
    "engine/test_runs.py::test_a_broken_spec",
    "kill/test_kill.py::test_without_the_reaper_things",
    "load/test_load_elsewhere.py::test_an_address",
)

# Each is repeated many times by a step of `make nightly`, or shows on the two-site stack what test-all shows on the mini stack.
NIGHTLY = (
    "docker/test_docker_runs.py::test_a_toxiproxy_that_ends_during_a_fault[restart]",  # [kill] stays
    "docker/test_docker_runs.py::test_a_toxiproxy_that_ends_during_a_fault[rm]",
    "docker/test_docker_runs.py::test_the_disk_of_the_engine_is_full",
    "e2e/test_queue.py::test_a_fire_costs_less_than_a_second_of_orders[compose]",  # test-all: as processes
    "e2e/test_queue.py::test_a_quorum_queue",
    "e2e/test_queue.py::test_who_believes_the_first_sentinel",
    "e2e/test_two_site.py::test_a_controller_that_burns",  # test-all: engine/test_selftest_runs.py, in containers
    "e2e/test_two_site.py::test_login_that_was_killed",  # test-all: docker/test_docker_redial.py
    "kill/test_kill.py::test_a_killed_harness_leaves_no_containers",  # test-all: the one without the reaper
    "load/test_load_process.py::test_the_number_of_users_changes",  # test-all: engine/test_runs.py, in a run
    "probe/test_documented_classes.py::test_messages_that_rabbitmq",
    "probe/test_documented_classes.py::test_what_rabbitmq",
)

# Nothing runs beside these: whole runs that have to end in a certain verdict, which a busy machine makes inconclusive.
ALONE = (
    "docker/test_adopted_run.py::",
    "docker/test_docker_runs.py::test_a_port_that_the_file_publishes",
    "docker/test_docker_runs.py::test_no_engine_and_any_runtime",
    "e2e/test_queue.py::",
    "e2e/test_two_site.py::",
    "engine/test_many_protocols.py::",
    "engine/test_repeats.py::test_repeated_runs",
    "engine/test_runs.py::",
    "engine/test_selftest_runs.py::",
    "engine/test_step_runs.py::",
    "faults/test_service_faults.py::test_whole_runs",
    "load/test_load_process.py::test_a_hanging_server",  # its users must be on time
    "browser/test_browser.py::test_the_program_runs_a_night",  # its file has the night from it
    "kill/test_gameday_kills.py::",
    "gameday/test_real_night.py::",
    "testing/test_fixtures.py::",
    "testing/test_plugin.py::",
    "probe/test_alone.py::test_outages_are_",  # the outage begins a fixed time after the server has started
)

# What boots stacks comes last; a directory that is not named comes before the first of these.
LAST = ("browser/", "engine/", "stackapp/", "faults/", "stack/", "docker/", "packaging/", "kill/", "e2e/")


def marks(test: str) -> Iterator[str]:
    """The markers of a test. `test` is its id, relative to tests/."""
    if _begins(test, NIGHTLY):
        yield "nightly"
    elif _begins(test, SLOW) and not _begins(test, KEPT):
        yield "slow"


def is_alone(test: str) -> bool:
    """Whether nothing may run beside it."""
    return _begins(test, ALONE)


def place(test: str) -> int:
    """Where it comes: 0 is first."""
    return next((number for number, folder in enumerate(LAST, 1) if test.startswith(folder)), 0)


def unused(tests: Iterable[str]) -> list[str]:
    """Prefixes above that fit none of these tests."""
    all_tests = list(tests)
    return [prefix for prefix in (*SLOW, *KEPT, *NIGHTLY, *ALONE) if not any(test.startswith(prefix) for test in all_tests)]


def _begins(test: str, prefixes: Iterable[str]) -> bool:
    return test.startswith(tuple(prefixes))
