"""What a verdict means, clause by clause: every one of them has a case, and its name stands here."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import msgspec
import pytest
from judge_runs import FaultScript, Run, judged, outage

from chaoslab.events import Fault, Probe, encode
from chaoslab.store import result_json

TESTS = Path(__file__).parents[1]
WHERE = {
    "alone": "probe/test_alone.py",
    "grid": "probe/test_grid_and_line.py",
    "wire": "probe/test_wire.py",
    "right": "probe/test_rightness.py",
    "prober": "probe/test_prober_process.py",
    "reads": "probe/test_ledger.py",
    "truth": "probe/test_known_truth.py",
    "times": "judge/test_intervals.py",
    "clocks": "judge/test_clocks.py",
    "premises": "judge/test_premises.py",
    "ledger": "judge/test_buckets.py",
    "losses": "judge/test_losses.py",
    "verdict": "judge/test_verdict.py",
    "crash": "judge/test_conclusion.py",
    "any": "judge/test_judge_properties.py",
    "here": "judge/test_clauses.py",
    "runs": "engine/test_runs.py",
    "store": "report/test_store.py",
    "page": "report/test_html.py",
    "terminal": "report/test_terminal.py",
}
CLAUSES = """
1 closed users miss an outage, the prober sees it: alone a_closed_loop_client_misses_the_outage_that_the_prober_sees
1 slot i is due at t0 + i/rate: prober rows_are_on_the_grid_whole_and_complete; grid no_rounding_adds_up
1 always sent, each in a task of its own: grid a_hung_answer_holds_up_no_other_slot; grid every_slot_is_told_of_exactly_once
1 a hard timeout: prober slots_open_at_the_end_are_waited_for_and_bad
1 fresh and pooled connections alternate: grid fresh_and_reused_connections_alternate
1 a process of its own: prober it_is_small; verdict the_judge_imports_nothing_that_acts
1 good is right and in time, from the due time: right a_right_read_that_comes_late_is_ok_and_not_good
1 right is what the journey says: right a_read_must_say_what_is_expected
1 hung is bad: truth an_rto_holds_the_last_return_before_the_heal
1 late is bad: right a_right_read_that_comes_late_is_ok_and_not_good
1 unsent is bad: grid slots_whose_time_is_over_are_bad_without_being_sent
1 open at the end is bad, never missing: grid a_slot_still_open_at_the_end_is_bad_not_missing
1 more than a period late is skewed: premises a_period_late_is_not_yet_skewed; prober a_prober_that_stood_still_says_so
1 more than 1 % skewed is inconclusive: premises more_than_one_per_cent_sent_late_is_the_harness_own_stall
1 a stalled harness fails nobody: premises a_stalled_harness_fails_nobody; premises a_stalled_harness_excuses_no_loss
2 the fault is an interval: any a_slow_effect_widens_the_interval_by_itself_alone
2 the heal likewise: times failback_is_counted_from_the_heal; truth a_failback_holds_the_return_after_the_heal
2 stable is K slots and W seconds: times a_good_run_that_is_stable_only_after_the_heal_proves_no_recovery
2 bad and in flight at an event: clocks bad_slots_in_flight_at_the_inject_count_as_due_at_it
2 good and in flight at an event: clocks a_good_slot_in_flight_at_a_heal_counts_for_neither_side
2 the table: clocks each_fault_is_judged_by_itself_whatever_overlaps
2 one instant, one event: clocks faults_scripted_for_one_instant_are_one_event_and_burn_to_their_first_heal_call
2 one bad slot alone is a flap: times one_bad_slot_alone_is_a_flap_and_starts_no_clock
2 its own heal ends a clock: times recovering_only_with_the_heal_is_no_failover
2 the heal of another ends none: clocks the_heal_of_another_fault_ends_no_clock_but_who_recovers_with_it_proves_nothing
2 an inject ends a failback: clocks an_inject_ends_a_failback_clock
2 the rto while any fault burns: clocks a_heal_under_which_another_fault_burns_starts_a_clock_of_the_rto
2 masked: clocks a_fault_that_hits_what_is_down_is_masked_and_the_clock_runs_on
2 one that was noticed excuses no other: clocks one_fault_that_was_noticed_excuses_no_other
2 unaffected is a claim: times unaffected_is_a_claim_that_fails_when_the_fault_is_noticed_and_allowed_is_none
2 a run that was cut: clocks a_run_that_was_cut_meets_nothing_and_fails_only_what_was_over
2 a step: clocks a_step_is_an_event_with_a_clock_of_its_own
2 an end of its own: clocks a_fault_that_ends_by_itself_may_end_the_outage
2 cycles: clocks cycles_of_a_fault_are_noticed_as_that_fault
2 a later dip voids it: times a_later_dip_voids_the_recovery; any the_interval_of_a_flapping_service_holds_its_last_return
2 flaps are counted: truth downtime_longest_and_flaps_are_the_scripts
2 longest window and total downtime: times downtime_longest_and_flaps; truth downtime_longest_and_flaps_are_the_scripts
2 low and high: times rto_runs_from_the_verified_effect_to_the_last_bad_and_from_the_call_to_the_first_good_answer
2 low is at least 0: times low_is_never_below_zero
2 the interval holds the truth, two slots wide: truth an_rto_holds_the_last_return_before_the_heal
2 the interval of any outage holds the truth: any the_interval_holds_the_truth_and_is_no_wider_than_two_slots
2 a brown-out is wider by what luck explains: any a_brown_out_interval_holds_the_truth
2 and than a black-out: times a_brown_out_is_wider_than_a_black_out
2 met, missed, inconclusive: times met_above_the_interval_missed_below_it_and_not_to_be_told_inside
2 inconclusive says raise the rate: times what_cannot_be_told_says_what_to_do
2 recovering only with the heal is a fail when the time was over: truth who_comes_back_with_the_power_alone_has_not_failed_over
2 failback has its own objective: times failback_is_judged_by_its_own_objective_and_must_hold_to_the_end
2 no bad slot, declared: truth who_notices_nothing_passes_only_where_that_was_declared
2 no bad slot, not verified: times not_to_have_noticed_a_fault_that_never_bit_proves_nothing
2 no steady state, nothing injected: runs a_baseline_that_is_not_healthy_is_inconclusive_and_nothing_is_hurt
2 and the reason is given: premises nothing_injected_is_inconclusive_with_the_reason
3 unique id, writer, sequence, hash, times: prober rows_are_on_the_grid_whole_and_complete
3 acked is a success answer read whole: right a_write_is_rejected_only_with_proof; wire an_answer_not_read_whole_is_no_answer
3 rejected is proof: wire refused_is_proof_that_no_byte_was_sent; wire a_connection_that_never_comes_is_proof_too
3 rejected by a declared status: right without_a_declaration_no_status_proves_that_nothing_happened
3 everything else is indeterminate: right a_write_is_rejected_only_with_proof
3 no retry of its own: wire a_reused_connection_that_closes_is_not_tried_again
3 from every site until twice identical: reads sites_that_agree_are_settled_at_once; reads a_site_that_lags_is_waited_for
3 lost, acknowledged: truth every_bucket_is_counted_exactly; ledger acked_and_nowhere_in_the_end_is_lost
3 lost, shown: ledger an_indeterminate_write_that_a_read_had_shown_must_stay
3 what a read had shown is kept: reads what_a_read_showed_and_the_last_one_lacks_is_kept
3 recovered: ledger an_indeterminate_write_may_be_there_or_not; truth every_bucket_is_counted_exactly
3 resurrected: ledger a_rejected_write_that_is_there_was_resurrected; truth every_bucket_is_counted_exactly
3 unexpected: ledger what_was_never_attempted_is_unexpected; truth every_bucket_is_counted_exactly
3 duplicated: ledger more_copies_than_attempts_are_a_duplicate; truth every_bucket_is_counted_exactly
3 corrupt: ledger another_hash_is_corrupt; truth every_bucket_is_counted_exactly
3 divergent after settling: ledger sites_that_differ_are_divergent; reads sites_that_differ_get_time_and_then_differ
3 stale is a warning: truth stale_reads_are_a_warning_where_nothing_else_was_promised
3 stale fails where linearizable: ledger a_read_that_missed_an_acknowledged_write_is_stale
3 stale is only what began after the ack: ledger a_read_is_not_stale_for_what_it_does_not_cover
3 unverified is inconclusive: ledger without_a_final_read_the_ledger_is_unverified
3 and so is a site that was not read: ledger a_site_that_never_answered_is_inconclusive
3 any mixture is counted exactly: any any_mixture_of_fates_is_counted_exactly
3 rpo is the oldest loss from before the fault: truth an_rpo_is_the_age_of_the_oldest_loss
3 lost after the fault is shown apart, unexcused: ledger no_rpo_excuses_a_loss_of_what_was_acknowledged_after_the_fault
3 rpo counts from the call, by the effect: losses what_was_acknowledged_between_call_and_effect_is_still_the_faults_victim
3 harmless faults date nothing: losses a_harmless_fault_that_is_on_dates_nothing
3 dated as a naive reading dates: losses losses_are_dated_as_a_naive_reading_of_the_contract_dates_them
3 under a healed partition, unexcused: losses a_loss_from_under_a_healed_partition_is_not_excused_by_the_next_fault
3 nothing acked before the fault is inconclusive: losses an_empty_ledger_proves_nothing; runs an_empty_ledger_proves_nothing
3 not asked in an outage: losses each_fault_that_can_destroy_data_is_asked_unless_a_clock_runs
3 one fault must have them: losses a_run_whose_faults_all_came_into_outages_is_inconclusive
3 final when two rounds agreed: reads a_copy_that_still_grows_at_the_deadline_has_not_settled
3 unsettled, lost and divergent are inconclusive: losses what_is_missing_while_sites_change_may_still_come
3 unsettled, the rest stays a fail: losses what_waiting_cannot_mend_stays_a_fail
3 not alike in time misses the failback: losses sites_that_are_not_alike_in_time_miss_the_failback_objective
3 the report says what SIGKILL cannot show: page a_failed_run_says_what_failed_and_why
4 starved seconds stop the clock: clocks starved_seconds_stop_the_clock_and_are_named
4 what the survivors take excuses nothing: clocks what_the_survivors_take_themselves_excuses_nothing
4 never into a pass: clocks a_starved_second_never_turns_anything_into_a_pass
4 availability twice: clocks availability_is_counted_with_starved_slots_as_good_and_as_bad
5 the worst wins: verdict the_worst_verdict_wins; any verdicts_merge_in_any_order_and_grouping
5 a crashed judge is never a pass: verdict a_check_that_crashes_is_an_error_under_its_own_name
5 nor one that breaks altogether: verdict a_judge_that_breaks_altogether_is_an_error
5 a crash leaves all three files: crash a_judge_that_crashes_leaves_a_result_and_both_reports
5 exit 0: runs a_good_stack_passes
5 exit 1: runs a_store_that_forgets_fails_the_rpo; runs an_entry_that_knows_one_site_fails_the_rto
5 exit 2, nothing started: runs a_broken_spec_starts_nothing_and_names_every_place
5 exit 3: runs a_fault_that_does_not_bite_is_inconclusive; runs a_condition_that_does_not_hold_is_inconclusive
5 exit 4, aborting is no objective: runs an_abort_condition_ends_the_run_and_heals
5 exit 5: runs a_stack_that_does_not_come_up_is_an_error_with_its_log
5 exit 5 of the harness: runs the_death_of_a_part_of_the_harness_says_nothing_about_the_stack
5 exit 6: terminal the_last_line_names_verdict_and_exit_code
5 exit 130: runs ctrl_c_heals_cleans_up_and_reports; terminal an_interruption_has_its_own_exit_code
6 one folder and latest: store a_folder_is_named_by_its_start_private_and_latest
6 append-only, whole lines: store rows_of_several_threads_and_processes_stay_whole
6 analyze gives the same: runs analyze_gives_the_same_result; verdict a_result_survives_the_disk
6 the order of rows does not matter: any the_order_of_rows_does_not_matter
6 a line of history: here a_line_of_history_has_what_the_contract_names
6 a result: here a_result_has_what_the_contract_names
"""


def cited() -> list[tuple[str, str]]:
    """Clause and `file test`, one for each test that a clause names."""
    found = []
    for line in CLAUSES.strip().splitlines():
        clause, _, tests = line.partition(": ")
        found += [(clause, test) for test in tests.split("; ")]
    return found


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("clause", "test"), cited(), ids=lambda text: text.replace(" ", "-"))
def test_every_clause_has_a_case(clause: str, test: str) -> None:
    """The test that a clause names is there."""
    place, _, name = test.partition(" ")
    assert f"test_{name}" in names_in(WHERE[place]), clause


def test_every_section_is_there() -> None:
    """Six sections, and a clause is not written twice."""
    clauses = [line.partition(": ")[0] for line in CLAUSES.strip().splitlines()]
    assert sorted({clause[0] for clause in clauses}) == ["1", "2", "3", "4", "5", "6"]
    assert len(set(clauses)) == len(clauses)


def test_a_line_of_history_has_what_the_contract_names() -> None:
    """A slot and a fault, as JSON."""
    rows = Run().rows()
    slot = msgspec.json.decode(encode(next(row for row in rows if isinstance(row, Probe) and row.op == "write")))
    fault = msgspec.json.decode(encode(next(row for row in rows if isinstance(row, Fault))))
    whole = msgspec.json.decode(encode(FaultScript(detail={"skew_ms": 1.0}).rows()[1]))
    assert slot.keys() >= {
        *("t_ns", "kind", "journey", "service", "op", "due_ns", "sent_ns", "end_ns", "good", "outcome", "id", "error"),
    }
    assert (slot["kind"], fault["kind"]) == ("probe", "fault")
    assert fault.keys() >= {"t_ns", "kind", "id", "name", "target", "event"}
    assert whole["detail"] == {"skew_ms": 1.0}


def test_a_result_has_what_the_contract_names() -> None:
    """Every key of the example, at every depth."""
    detail = {"skew_ms": 6.1}
    result = msgspec.json.decode(result_json(judged(Run(bad=outage(0.1, 3.0), faults=[FaultScript(detail=detail)]))))
    assert result["schema"] == "chaoslab/result/v1"
    assert result.keys() >= {"schema", "experiment", "verdict", "runtime", "started_at", "duration_s", "boot_s", "overhead_s"}
    assert result.keys() >= {"faults", "services", "ledger", "load", "objectives", "cleanup"}
    assert result["faults"][0].keys() >= {"id", "name", "target", "inject_s", "effective_s", "healed_s", "skew_ms", "verified"}
    talk = result["services"]["talk"]
    assert talk.keys() >= {"rto_s", "failback_s", "availability", "downtime_s", "flaps", "slots", "skewed"}
    assert talk["rto_s"].keys() == talk["failback_s"].keys() == {"low", "high", "objective"}
    buckets = "acked rejected indeterminate lost recovered resurrected unexpected duplicated corrupt divergent stale unverified"
    assert result["ledger"]["talk"].keys() >= {*buckets.split(), "rpo_s", "objective_s"}
    assert result["load"].keys() >= {"requests", "failures", "users", "rps"}
    assert result["objectives"][0].keys() >= {"id", "verdict", "measured", "objective"}
