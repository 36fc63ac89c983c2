"""How long a game day takes, and who runs what of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pretended import suite_of

from chaoslab.errors import SpecError
from chaoslab.gameday.durations import durations_file
from chaoslab.gameday.night import plan_of
from chaoslab.gameday.plan import WHOLE, Shard, divide, expected_s, parse_shard, shard_of
from chaoslab.gameday.suite import find_suite, load_suite
from chaoslab.spec.yaml.problems import SpecErrors

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("variables", "shard"),
    [
        ({}, WHOLE),
        ({"CI_NODE_INDEX": "2", "CI_NODE_TOTAL": "3"}, Shard(2, 3)),
        ({"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "3"}, Shard(1, 3)),
        ({"NOMAD_ALLOC_INDEX": "2", "NOMAD_GROUP_COUNT": "3"}, Shard(3, 3)),
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "4"}, Shard(2, 3)),
        ({"STRATEGY_JOB_INDEX": "1", "STRATEGY_JOB_TOTAL": "3"}, Shard(2, 3)),
        ({"NOMAD_ALLOC_INDEX": "2"}, WHOLE),
    ],
)
def test_continuous_integration_says_which_shard_this_is(variables, shard):
    """Each counts in its own way; an index without a number is no shard."""
    assert shard_of(variables) == shard


def test_half_of_a_shard_is_refused():
    """Known bad: the workflow passes on the index alone, and one third of the game day would pass for all of it."""
    with pytest.raises(SpecError, match="STRATEGY_JOB_TOTAL is not"):
        shard_of({"STRATEGY_JOB_INDEX": "0"})


def test_an_index_that_is_no_number_is_refused():
    """Known bad: a template of the workflow was not filled in."""
    with pytest.raises(SpecError, match="CI_NODE_INDEX is '\\$INDEX', which is not a number"):
        shard_of({"CI_NODE_INDEX": "$INDEX", "CI_NODE_TOTAL": "3"})


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_what_is_no_shard(text):
    """Counted from 1, and no more than there are."""
    with pytest.raises(SpecError, match="is not a shard"):
        parse_shard(text)


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.floats(1, 1000), max_size=30), st.integers(1, 8))
def test_every_name_is_in_one_shard(seconds, total):
    """None twice, none left out, and none may be longer than the longest name beyond an even share."""
    shares = divide(seconds, seconds, total)
    assert sorted(name for share in shares for name in share) == sorted(seconds)
    sums = [sum(seconds[name] for name in share) for share in shares]
    assert max(sums) <= sum(sums) / total + max(seconds.values(), default=0) + 1e-6


def test_what_was_measured_goes_before_what_is_scripted():
    """The median of the last five."""
    assert expected_s([], 80.0) == 80.0
    assert expected_s([500.0, 10.0, 11.0, 12.0, 13.0, 99.0], 80.0) == 12.0


def shares_of(suite, root: Path, total: int) -> list[list[float]]:
    plan = plan_of(suite, root, Shard(1, total)).plan
    return [[case.expected_s for case in plan if case.shard == number] for number in range(1, total + 1)]


def test_the_nightly_suite_is_divided_evenly_by_measured_durations(tmp_path):
    """Every experiment of it was measured; in three, no shard is longer than 1.15 times the mean, nor than an hour."""
    suite = load_suite(find_suite("nightly", ROOT), ROOT)
    measured = msgspec.json.decode(durations_file(suite.file).read_bytes())
    assert set(measured) == set(suite.experiments)
    sums = [sum(share) for share in shares_of(suite, tmp_path, 3)]
    assert max(sums) <= 1.15 * sum(sums) / 3
    assert max(sums) <= 3600


def test_a_pull_request_takes_ten_minutes_at_most(tmp_path):
    """In one shard, and none of it is left out for its budget."""
    [share] = shares_of(load_suite(find_suite("pull-request", ROOT), ROOT), tmp_path, 1)
    assert sum(share) <= 600


def test_durations_of_the_suite_decide_on_every_machine(project):
    """Not what this machine measured: another one would divide in another way."""
    suite = suite_of(project)
    durations_file(suite.file).write_text('{"calm": 300, "fire": 100, "flood": 100, "red": 100}')
    assert sorted(shares_of(suite_of(project), project / "runs", 2)) == [[100.0, 100.0, 100.0], [300.0]]


def test_repeats_of_a_long_experiment_are_on_several_shards(project):
    """Else the longest experiment would be a shard of its own."""
    shares = shares_of(suite_of(project, "experiments: [{name: fire, repeats: 6}]"), project / "runs", 3)
    assert [len(share) for share in shares] == [2, 2, 2]


@pytest.mark.parametrize("text", ["[]", "{", '{"fire": "long"}', '{"fire": 0}', '{"fire": -1}'])
def test_broken_durations_are_refused_with_their_file(project, text):
    """Known bad: what would divide the shards unevenly, or in another way than on another machine."""
    durations_file(suite_of(project).file).write_text(text)
    with pytest.raises(SpecErrors, match=r"all\.durations\.json:1:1: .*chaoslab gameday durations"):
        suite_of(project)
