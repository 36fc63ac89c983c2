"""judge/README.md clause by clause: each has a test, and its name stands here below the heading that defines it."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import msgspec
import pytest
from judge_runs import FaultScript, Run, judged, outage

from chaoslab.errors import ExitCode
from chaoslab.history.result import result_json
from chaoslab.history.rows import Fault, Probe, encode
from chaoslab.judge import clocks, intervals, losses, restored, start_order, validity, verdict, writers

TESTS = Path(__file__).parents[1]
CONTRACT = TESTS.parent / "chaoslab" / "judge" / "README.md"
HISTORY = "Run folder"  # what a run leaves: history/rows.py and history/result.py define it
WHERE = {
    "alone": "probe/test_alone.py",
    "grid": "probe/test_grid_and_scheduler.py",
    "wire": "probe/test_client.py",
    "right": "probe/test_assessment.py",
    "prober": "probe/test_prober_process.py",
    "recovered": "judge/test_recovered.py",
    "recovery": "engine/test_recovery.py",
    "hold": "engine/test_failback_hold.py",
    "reads": "probe/test_ledger.py",
    "outages": "probe/test_outages.py",
    "truth": "probe/test_known_truth.py",
    "times": "judge/test_intervals.py",
    "clocks": "judge/test_clocks.py",
    "validity": "judge/test_validity.py",
    "ledger": "judge/test_judge_ledger.py",
    "losses": "judge/test_losses.py",
    "degraded": "judge/test_degraded.py",
    "naive": "judge/test_judge_against_naive.py",
    "restored": "judge/test_restored.py",
    "returned": "judge/test_returned.py",
    "order": "judge/test_start_order.py",
    "decisions": "judge/test_decisions.py",
    "writers": "judge/test_writers.py",
    "looks": "engine/test_decision_watch.py",
    "ends": "engine/test_early_end.py",
    "failed": "judge/test_failed_for_good.py",
    "selftest": "engine/test_selftest_runs.py",
    "watch": "engine/test_start_watch.py",
    "asks": "relay/test_asks.py",
    "steps": "judge/test_judged_steps.py",
    "pauses": "judge/test_pauses.py",
    "runbook": "engine/test_runbook_steps.py",
    "people": "engine/test_people.py",
    "verdict": "judge/test_verdict.py",
    "crash": "judge/test_finalize.py",
    "any": "judge/test_judge_properties.py",
    "here": "judge/test_clauses.py",
    "runs": "engine/test_runs.py",
    "folder": "report/test_run_folder.py",
    "page": "report/test_html.py",
    "terminal": "report/test_terminal.py",
}
CLAUSES = """
## Verdicts
the worst wins: verdict the_worst_verdict_wins; any verdicts_merge_in_any_order_and_grouping
a crashed judge is never a pass: verdict a_check_that_crashes_is_an_error_under_its_own_name
nor one that breaks altogether: verdict a_judge_that_breaks_altogether_is_an_error
a crash leaves all three files: crash a_judge_that_crashes_leaves_a_result_and_both_reports
exit 0: runs a_good_stack_passes
exit 1: runs a_store_that_forgets_fails_the_rpo; runs an_entry_that_knows_one_site_fails_the_rto
exit 2, nothing started: runs a_broken_spec_starts_nothing_and_names_every_place
exit 3: runs a_fault_that_does_not_bite_is_inconclusive; runs a_condition_that_does_not_hold_is_inconclusive
exit 4, aborting is no objective: runs an_abort_condition_ends_the_run_and_heals
exit 5: runs a_stack_that_does_not_come_up_is_an_error_with_its_log
exit 5 of the harness: runs the_death_of_a_part_of_the_harness_says_nothing_about_the_stack
exit 6: terminal the_last_line_names_verdict_and_exit_code
exit 130: runs ctrl_c_heals_cleans_up_and_reports; terminal an_interruption_has_its_own_exit_code
## Slots
closed users miss an outage, the prober sees it: alone a_closed_loop_client_misses_the_outage_that_the_prober_sees
slot i is due at t0 + i/rate: prober rows_are_on_the_grid_whole_and_complete; grid no_rounding_adds_up
always sent, each in a task of its own: grid a_hung_answer_holds_up_no_other_slot; grid every_slot_has_exactly_one_result
a hard timeout: prober slots_open_at_the_end_are_waited_for_and_bad
fresh and pooled connections alternate: grid fresh_and_reused_connections_alternate
a process of its own: prober it_is_small; verdict the_judge_imports_nothing_that_acts
good is right and in time, from the due time: right a_right_read_that_comes_late_is_ok_and_not_good
right is what the journey says: right a_read_must_say_what_is_expected
hung is bad: truth an_rto_holds_the_last_return_before_the_heal
late is bad: right a_right_read_that_comes_late_is_ok_and_not_good
unsent is bad: grid slots_whose_time_is_over_are_bad_without_being_sent
open at the end is bad, never missing: grid a_slot_still_open_at_the_end_is_bad_not_missing
## Valid run
more than a period late is skewed: validity a_period_late_is_not_yet_skewed; prober a_prober_that_stood_still_shows_it
more than 1 % skewed is inconclusive: validity more_than_one_per_cent_sent_late_is_the_harness_own_stall
a stalled harness fails nobody: validity a_stalled_harness_fails_nobody; validity a_stalled_harness_excuses_no_loss
no steady state, nothing injected: runs a_baseline_that_is_not_healthy_is_inconclusive_and_nothing_is_hurt
and the reason is given: validity nothing_injected_is_inconclusive_with_the_reason
## Events
the fault is an interval: any a_slow_effect_widens_the_interval_by_itself_alone
the heal likewise: times failback_is_counted_from_the_heal; truth a_failback_holds_the_return_after_the_heal
bad and in flight at an event: clocks bad_slots_in_flight_at_the_inject_count_as_due_at_it
good and in flight at an event: clocks a_good_slot_in_flight_at_a_heal_counts_for_neither_side
one instant, one event: clocks faults_scripted_for_one_instant_are_one_event_and_active_to_their_first_heal_call
a step: clocks a_step_is_an_event_with_a_clock_of_its_own
an end of its own: clocks a_fault_that_ends_by_itself_may_end_the_outage
cycles: clocks cycles_of_a_fault_are_noticed_as_that_fault
a remedy is no event: runbook a_step_is_no_event_for_clocks
without faults every step is: pauses without_a_fault_any_step_is_what_is_tested
## Clocks
stable is K slots and W seconds: times a_good_run_that_is_stable_only_after_the_heal_proves_no_recovery
one bad slot alone is a flap: times one_bad_slot_alone_is_a_flap_and_starts_no_clock
a later dip voids it: times a_later_dip_voids_the_recovery; any the_interval_of_a_flapping_service_holds_its_last_return
low and high: times rto_runs_from_the_verified_effect_to_the_last_bad_and_from_the_call_to_the_first_good_answer
low is at least 0: times low_is_never_below_zero
the interval holds the truth, two slots wide: truth an_rto_holds_the_last_return_before_the_heal
a brown-out is wider by what chance explains: any a_brown_out_interval_holds_the_truth
and than a black-out: times a_brown_out_is_wider_than_a_black_out
## End of a clock
its own heal ends a clock: times recovering_only_with_the_heal_is_no_failover
the heal of another ends none: clocks the_heal_of_another_fault_ends_no_clock_but_who_recovers_with_it_proves_nothing
an inject ends a failback: clocks an_inject_ends_a_failback_clock
recovering only with the heal is a fail when the time was over: truth who_comes_back_with_the_power_alone_has_not_failed_over
## Heal at recovery
back: recovered good_for_the_hold_is_back; recovered slots_before_the_fault_hold_nothing
any bad slot starts it anew: recovery a_flap_while_it_holds_starts_that_anew
a partial outage: recovered a_partial_outage_is_over_when_the_good_run_is_no_chance
who must notice: recovered a_service_that_must_notice_has_not_recovered_before_it_did
missed is a fail: recovery a_service_that_never_comes_back_has_missed_its_rto
one event: recovery two_faults_of_one_instant_are_healed_together; recovered a_heal_at_recovery_is_an_event_of_its_own
the end of a run: hold the_hold_counts_from_what_last_disturbed_users
## RTO and failback
the rto while any fault is active: clocks a_heal_under_which_another_fault_is_active_starts_a_clock_of_the_rto
met, missed, inconclusive: times met_above_the_interval_missed_below_it_and_inconclusive_inside
inconclusive says raise the rate: times an_inconclusive_interval_says_what_to_do
failback has its own objective: times failback_is_judged_by_its_own_objective_and_must_hold_to_the_end
not alike in time misses the failback: losses sites_that_are_not_alike_in_time_miss_the_failback_objective
## Restored
from its heal, others may be active: returned a_site_that_serves_alone_is_restored_while_the_other_is_dark
its clock changes no other: returned the_clock_of_a_heal_changes_no_other
without a bad slot 0 s: returned nothing_bad_after_the_heal_is_restored_at_once
what never gets healthy is a fail: returned replicas_that_never_get_healthy_are_a_fail_and_no_doubt
with the next heal: returned who_comes_back_with_the_next_heal_alone_was_not_restored
in the order of the return: returned the_services_are_listed_in_the_order_of_their_return
## Noticed, masked, unnoticed
masked: clocks a_fault_that_hits_what_is_down_is_masked_and_the_clock_runs_on
one that was noticed excuses no other: clocks one_fault_that_was_noticed_excuses_no_other
unaffected is a claim: times unaffected_is_a_claim_that_fails_when_the_fault_is_noticed_and_allowed_is_none
no bad slot, declared: truth who_notices_nothing_passes_only_where_that_was_declared
no bad slot, not verified: times not_to_have_noticed_a_fault_that_never_bit_proves_nothing
## Degraded modes
declared by tier, service or experiment: degraded a_mode_is_declared_by_tier_service_or_experiment
allowed, while a fault is active: degraded a_journey_that_may_fail_does_so_for_the_whole_fault
allowed, as the naive model reads it: naive the_judge_reads_a_journey_that_may_fail_as_the_naive_model_does
what is required is judged as ever: degraded the_other_journeys_are_judged_as_ever
allowed, while none is: degraded after_the_last_heal_a_journey_that_may_fail_must_be_back
allowed, in the availability: degraded what_may_fail_is_no_loss_of_availability
allowed excuses no loss: degraded a_loss_is_a_loss_in_any_mode
queued, while a fault is active: degraded a_write_may_be_queued_while_a_fault_is_active
queued, while none is: degraded who_still_queues_after_the_last_heal_is_not_back
queued excuses no late answer: degraded late_is_late_in_any_mode
queued and missing from reads: degraded what_is_queued_may_be_missing_from_reads_until_the_failback_is_over
queued and never applied is lost: degraded what_was_queued_and_is_missing_in_the_end_is_lost
degraded by a fault: degraded a_fault_is_noticed_by_the_mode_alone
a mode that was not used: degraded a_mode_that_was_never_used_is_told
not waited for: recovered a_journey_that_may_fail_is_not_waited_for
a 202 shows that it was noticed: recovered a_queued_write_shows_that_the_fault_was_noticed
a 202 after the heal is watched: hold a_write_that_is_queued_after_the_heal_is_watched_on
functions: degraded a_function_is_told_apart_from_its_service; page the_business_reads_what_became_of_each_function
## Steps
a step that fails is a fail, and the run goes on: steps what_a_step_came_to; runbook a_step_that_fails_fails_its_objective_alone
its duration is an interval: steps the_duration_is_an_interval
one that was cut shows nothing: runbook a_step_that_is_cut_is_inconclusive
nor one that comes after a failed one: runbook what_comes_after_a_step_that_failed_is_skipped
nor one that finds its condition true: runbook a_condition_is_brought_about
nor is one done from a place that is cut off: runbook a_step_is_not_done_from_a_place_that_is_cut_off
a person confirms it: people a_run_waits_until_a_person_confirms
or says that it failed: people a_person_may_answer_that_it_failed
nobody confirms it: people nobody_confirms; people a_person_has_the_delay_and_the_budget_where_the_delay_is_longer
what is longer than the budget is declared: people what_is_longer_than_the_budget_is_added
starved seconds excuse a late step: steps a_starved_machine_may_have_made_it_late
what the harness brings about is judged, too: steps what_the_harness_brings_about_has_a_verdict
## Start order
a circle is named: order two_that_wait_for_each_other_are_a_circle
a longer one: order a_longer_circle_is_named_in_order_and_without_who_stands_beside_it
what is no circle: order what_is_no_circle
a circle that a step broke: order a_circle_that_a_step_broke_was_one
without a circle: order all_that_answer_again_are_a_pass_and_what_does_not_is_not_known
the start is watched: watch replicas_are_seen_to_return_and_to_answer; watch without_such_an_objective_nobody_looks
failed connections: watch who_asked_in_vain_is_in_the_rows; asks who_is_refused_behind_a_proxy_is_counted_once_and_told
failed connections, silence: asks who_hangs_in_connect_is_counted_while_it_hangs
## Availability
availability twice: clocks availability_is_counted_with_starved_slots_as_good_and_as_bad
## Pauses and failed requests
late is not failed: pauses a_late_success_is_a_pause_and_no_failure
failed requests are counted: pauses a_request_that_fails_is_counted
in flight at an event: pauses a_request_in_flight_at_the_step_counts_for_it
a pause is an interval: pauses a_pause_is_the_longest_outage_of_writes
starved seconds excuse both: pauses starved_seconds_fail_nobody
under one step alone: pauses a_step_has_objectives_of_its_own
## Outages
a run and chaoslab probe agree: outages a_run_and_chaoslab_probe_find_the_same_outages
flaps are counted: truth downtime_longest_and_flaps_are_the_scripts
longest window and total downtime: times downtime_longest_and_flaps; truth downtime_longest_and_flaps_are_the_scripts
the interval of any outage holds the truth: any the_interval_holds_the_truth_and_is_no_wider_than_two_slots
## Writes
unique id, writer, sequence, hash, times: prober rows_are_on_the_grid_whole_and_complete
acked is a success answer read whole: right a_write_is_rejected_only_with_proof; wire an_answer_not_read_whole_is_no_answer
rejected is proof: wire refused_is_proof_that_no_byte_was_sent; wire a_connection_that_never_comes_is_proof_too
rejected by a declared status: right without_a_declaration_no_status_proves_that_nothing_happened
everything else is indeterminate: right a_write_is_rejected_only_with_proof
no retry of its own: wire a_reused_connection_that_closes_is_not_tried_again
## Ledger
from every site until twice identical: reads sites_that_agree_are_settled_at_once; reads a_site_that_lags_is_waited_for
lost, acknowledged: truth every_bucket_is_counted_exactly; ledger acked_and_nowhere_in_the_end_is_lost
lost, shown: ledger an_indeterminate_write_that_a_read_had_shown_must_stay
what a read had shown is kept: reads what_a_read_showed_and_the_last_one_lacks_is_kept
recovered: ledger an_indeterminate_write_may_be_there_or_not; truth every_bucket_is_counted_exactly
resurrected: ledger a_rejected_write_that_is_there_was_resurrected; truth every_bucket_is_counted_exactly
unexpected: ledger what_was_never_attempted_is_unexpected; truth every_bucket_is_counted_exactly
duplicated: ledger more_copies_than_attempts_are_a_duplicate; truth every_bucket_is_counted_exactly
corrupt: ledger another_hash_is_corrupt; truth every_bucket_is_counted_exactly
divergent after settling: ledger sites_that_differ_are_divergent; reads sites_that_differ_get_time_and_then_differ
stale is a warning: truth stale_reads_are_a_warning_where_nothing_else_was_promised
stale fails where linearizable: ledger a_read_that_missed_an_acknowledged_write_is_stale
stale is only what began after the ack: ledger a_read_is_not_stale_for_what_it_does_not_cover
unverified is inconclusive: ledger without_a_final_read_the_ledger_is_unverified
and so is a site that was not read: ledger a_site_that_never_answered_is_inconclusive
any mixture is counted exactly: any any_mixture_of_fates_is_counted_exactly
final when two rounds agreed: reads a_copy_that_still_grows_at_the_deadline_has_not_settled
unsettled, lost and divergent are inconclusive: losses what_is_missing_while_sites_change_may_still_come
unsettled, the rest stays a fail: losses what_waiting_cannot_mend_stays_a_fail
the report says what SIGKILL cannot show: page a_failed_run_says_what_failed_and_why
## RPO
rpo is the oldest loss from before the fault: truth an_rpo_is_the_age_of_the_oldest_loss
lost after the fault is shown apart, unexcused: ledger no_rpo_excuses_a_loss_of_what_was_acknowledged_after_the_fault
rpo counts from the call, by the effect: losses what_was_acknowledged_between_call_and_effect_is_still_the_faults_victim
harmless faults date nothing: losses a_harmless_fault_that_is_on_dates_nothing
dated as a naive reading dates: losses losses_are_dated_as_a_naive_reading_of_the_contract_dates_them
under a healed partition, unexcused: losses a_loss_from_under_a_healed_partition_is_not_excused_by_the_next_fault
nothing acked before the fault is inconclusive: losses an_empty_ledger_proves_nothing; runs an_empty_ledger_proves_nothing
not asked in an outage: losses each_fault_that_can_destroy_data_is_asked_unless_a_clock_runs
one fault must have them: losses a_run_whose_faults_all_came_into_outages_is_inconclusive
## Restore
what is lost must be the end of the order: restored any_backup_that_ends_at_one_instant_passes
anything else is a fail: restored what_no_instant_explains_is_a_fail
up to writes in flight together: restored writes_in_flight_together_may_go_either_way
a write that the backup holds, or cannot hold: restored a_restore_is_held_to_the_end_of_its_backup
a backup with a wrong clock: restored a_backup_that_ends_after_the_restore_began_has_a_wrong_clock
an output without that line is inconclusive: restored what_is_not_known_is_inconclusive
## Who decides, and when
the first answer with another value: decisions a_change_is_seen_by_the_first_answer_with_another_value
not one of before the cause: decisions a_change_before_the_fault_is_none
without acted, another writer: decisions another_writer_is_one_that_did_not_write_before
acted where it is declared: decisions what_the_stack_says_of_acting_itself_counts
not later than what follows: decisions a_moment_that_is_seen_late_came_by_the_one_that_followed
as exact as it says: decisions the_split_of_a_true_order_is_found_and_is_as_exact_as_it_says
the longest clock: decisions the_longest_clock_of_a_service_is_divided
the parts add up, none is negative: decisions the_parts_of_any_timeline_add_up_or_there_are_none
to the outage: decisions the_parts_of_a_run_add_up_to_its_outage_to_one_slot
by hand: decisions people_decide_between_their_first_step_and_the_first_that_does_something
by steps alone: decisions steps_alone_divide_an_outage
not by hand: decisions a_request_that_only_looks_and_a_step_after_the_stack_had_decided_are_not_decisions
nothing to detect: decisions a_switchover_has_nothing_to_detect
no split: decisions what_was_not_seen_or_came_in_another_order_is_said; decisions without_a_moment_there_is_no_split
no split without recovery: decisions an_outage_that_did_not_end_is_not_divided
declared apart: decisions a_declared_part_of_peoples_work_is_said_apart
looked at: looks each_change_is_a_row_and_a_second_without_one; looks what_is_read_from_one_answer_is_asked_for_once
shown: page who_decided_and_when_is_told_and_what_is_not_known_has_no_figures
## Writers
from its own site: looks a_replica_is_asked_from_its_own_place
to the end of the observation: looks the_observation_is_looked_at_to_its_end_and_no_longer
what is certain: writers an_answer_alone_proves_no_time
two at once: writers two_at_once_are_a_fail; writers two_writers_for_some_looks_are_always_found
a hand over: writers a_hand_over_is_never_two_writers
one that cannot be asked: writers a_writer_that_cannot_be_asked_meanwhile_is_not_known_to_write
starved: writers two_writers_on_a_machine_that_was_taken_away_show_nothing
nothing shown: writers nobody_who_writes_shows_nothing; writers a_time_in_which_nobody_looked_shows_nothing
## Starved machine
starved seconds stop the clock: clocks starved_seconds_stop_the_clock_and_are_named
what the survivors take excuses nothing: clocks what_the_survivors_take_themselves_excuses_nothing
never into a pass: clocks a_starved_second_never_turns_anything_into_a_pass
## Runs that were cut
a run that was cut: clocks a_run_that_was_cut_meets_nothing_and_fails_only_what_was_over
## End of a run that has failed
selftest ends it: selftest a_known_bad_ends_once_it_has_failed_for_good
no other run: selftest no_other_run_is_ended_early; ends without_being_asked_to_it_goes_on_to_its_end
it would have failed anyway: failed what_failed_for_good_fails_in_the_whole_run
the judge asks once more: failed the_judge_confirms_what_ended_the_run
settled slots alone: failed an_rto_has_failed_once_its_slots_are_settled
starved seconds stop this clock, too: failed a_starved_machine_excuses_it
slots that were sent late: failed nothing_has_failed_while_the_harness_stalls
what failback may bring: failed what_may_come_about_in_failback_has_not_failed
a circle has failed for good: failed a_circle_has_failed_once_a_later_heal_has_seen_it
an rto: ends an_rto_that_is_missed_for_good_ends_the_run; ends a_relapse_after_the_rto_ends_it_then
not one that is met: ends a_service_that_is_back_in_time_is_watched_to_the_end; ends a_run_that_has_more_to_show_is_never_ended
unaffected: ends a_fault_that_should_go_unnoticed_ends_it_at_once
an availability: ends a_share_that_cannot_be_reached_any_more_ends_it
a step that failed: ends a_step_that_failed_ends_it
a heal that takes longer: ends a_heal_that_hangs_is_not_waited_for
## Examples
the table: clocks each_fault_is_judged_by_itself_whatever_overlaps
## Run folder
one folder and latest: folder a_folder_is_named_by_its_start_private_and_latest
append-only, whole lines: folder rows_of_several_threads_and_processes_stay_whole
analyze gives the same: runs analyze_gives_the_same_result; verdict a_result_survives_the_disk
the order of rows does not matter: any the_order_of_rows_does_not_matter
a line of history: here a_line_of_history_has_what_the_contract_names
a result: here a_result_has_what_the_contract_names
"""


def cited() -> list[tuple[str, str]]:
    """Clause and `file test`, one for each test that a clause names."""
    found = []
    heading = ""
    for line in CLAUSES.strip().splitlines():
        if line.startswith("## "):
            heading = line[3:]
            continue
        clause, _, tests = line.partition(": ")
        found += [(f"{heading}: {clause}", test) for test in tests.split("; ")]
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


def test_every_heading_has_a_clause() -> None:
    """Headings are those of judge/README.md, in its order, and a clause is not written twice."""
    defined = [line[3:] for line in CONTRACT.read_text().splitlines() if line.startswith("## ")]
    assert list(dict.fromkeys(clause.partition(": ")[0] for clause, _ in cited())) == [*defined, HISTORY]
    clauses = [line for line in CLAUSES.strip().splitlines() if not line.startswith("## ")]
    assert len({line.partition(": ")[0] for line in clauses}) == len(clauses)


def test_the_numbers_of_the_contract_are_those_of_the_code() -> None:
    """A threshold that changes in the one and not in the other makes the contract wrong."""
    text = " ".join(CONTRACT.read_text().split())
    for sentence in (
        f"Stable is {intervals.STABLE_SLOTS} slots, and at least {intervals.STABLE_S:g} s",
        f"come by chance in 1 of {1 / intervals.CHANCE_MAX:.0f} cases, ⌈ln {intervals.CHANCE_MAX:g} / ln(1 − p)⌉",
        f"any final part of the outage that holds {intervals.SHARE_SLOTS_MIN} bad slots or more",
        f"at most {100 * intervals.SKEWED_SHARE_MAX:.0f} % of the slots of each journey were skewed",
        f"no gap is longer than {intervals.GAP_PERIODS_MAX} periods",
        f"the last slot was due at most {intervals.QUIET_END_S:g} s (or {intervals.GAP_PERIODS_MAX} periods) before the end",
        f"still had users in the last {validity.LOAD_SILENT_S:g} s",
        f"from that call to {clocks.AFTER_HEAL_S:g} s after the verification of the heal",
        f"for {start_order.WAITS_S:g} s or longer and until at most {start_order.STILL_S:g} s ago",
        f"acknowledged in the last {losses.BEFORE_FAULT_S:g} s before each fault",
        f"(all but {' and '.join(f'`{name}`' for name in sorted(losses.HARMLESS))})",
        f"no query came more than {writers.CONTINUOUS_S:g} s after the answer before it",
        f"when one was not queried for more than {writers.UNSEEN_S_MAX:g} s",
        f"{restored.CLOCKS_NS / 1e6:g} ms are allowed for the correction of clocks",
        f"`{verdict.WORST_FIRST[0]}`, then " + ", ".join(f"`{one}`" for one in verdict.WORST_FIRST[1:]),
    ):
        assert sentence in text
    for code in ExitCode:
        assert f"| {code.value} | " in text, code


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
    categories = (
        "acked rejected indeterminate lost recovered resurrected unexpected duplicated corrupt divergent stale unverified"
    )
    assert result["ledger"]["talk"].keys() >= {*categories.split(), "rpo_s", "objective_s"}
    assert result["load"].keys() >= {"requests", "failures", "users", "rps"}
    assert result["objectives"][0].keys() >= {"id", "verdict", "measured", "objective"}
