//! What every [`StateStore`] must do, as cases: each a test of its own, none of which can be forgotten.
//!
//! A store of one's own is tested by a harness and one line. The macro makes a module with one `#[test]` for each case:
//!
//! ```
//! use capomastro_core::{async_trait, memory::InMemoryStore, store::StateStore};
//! use capomastro_testkit::{fakes::ManualClock, conformance::state_store::StoreHarness};
//! use std::sync::Arc;
//!
//! #[derive(Debug, Default)]
//! struct Memory {
//!     clock: ManualClock,
//! }
//!
//! #[async_trait]
//! impl StoreHarness for Memory {
//!     fn clock(&self) -> ManualClock {
//!         self.clock.clone()
//!     }
//!     async fn fresh(&self) -> Arc<dyn StateStore> {
//!         Arc::new(InMemoryStore::new(Arc::new(self.clock())))
//!     }
//!     async fn reopen(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
//!         store
//!     }
//! }
//!
//! capomastro_testkit::state_store_conformance!(Memory::default());
//! ```

mod claims;
mod commits;
mod desk;
mod due_changes;
mod events;
mod forgetting;
mod lists;
mod names;
mod nudges;
mod racing;
mod records;
mod samples;

use crate::{conformance::suite, fakes::ManualClock};
use capomastro_core::{async_trait, store::StateStore};
use std::{fmt, sync::Arc};

/// Makes the stores that are tested.
#[async_trait]
pub trait StoreHarness: fmt::Debug + Send + Sync {
    /// The clock from which every store of this harness takes its time.
    fn clock(&self) -> ManualClock;

    /// A new, empty store.
    async fn fresh(&self) -> Arc<dyn StateStore>;

    /// The same data, opened again as another process would after this one has ended. A store that keeps nothing beyond
    /// its process returns what it was given.
    async fn reopen(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore>;
}

suite! {
    state_store, StoreHarness, state_store_conformance:
    records:
        an_empty_store_has_nothing_and_is_well
        each_kind_of_record_returns_as_it_was_written
        answers_come_in_the_order_of_the_keys
        a_record_is_created_once
        a_stale_version_conflicts
        versions_grow_and_never_repeat
        a_delete_needs_the_stored_version
        kinds_and_ids_are_kept_apart
        references_of_orphans_may_be_any_text
        values_may_be_of_any_script_and_large
        times_return_to_the_microsecond
        what_was_answered_survives_reopening;
    commits:
        a_guard_of_a_changed_record_conflicts
        a_guard_of_absence_conflicts_once_there_is_a_record
        two_decisions_that_read_each_other_conflict
        a_batch_that_fails_leaves_nothing
        a_repeated_commit_changes_nothing
        a_repeated_commit_is_answered_whatever_changed_since
        a_commit_that_failed_may_be_tried_again_under_its_id
        the_gravest_error_is_told_first
        a_batch_must_not_contradict_itself
        due_rows_are_neither_put_nor_deleted_nor_guarded
        a_draft_guards_what_it_read;
    names:
        a_unique_name_belongs_to_one_record
        a_name_that_was_freed_may_be_taken
        a_batch_may_hand_a_name_over
        two_records_may_swap_their_names
        names_are_compared_byte_for_byte;
    lists:
        each_record_is_found_in_its_lists_and_leaves_them
        lists_are_sorted_by_bytes_both_ways
        pages_make_up_the_whole_list
        what_stays_is_paged_exactly_once
        a_place_may_outlive_its_record
        a_page_has_at_most_a_thousand
        limits_out_of_range_are_refused;
    events:
        events_come_in_the_order_of_their_commits
        each_kind_of_event_returns_as_it_was_written
        events_can_be_filtered
        a_place_in_the_stream_never_goes_back
        a_follower_misses_nothing_while_others_write;
    claims:
        nothing_is_taken_before_it_is_due
        work_is_taken_in_due_order
        lanes_and_their_limits_are_kept_apart
        a_claim_is_exclusive
        racing_claimers_never_share_a_task
        a_lapsed_claim_is_taken_over_with_a_higher_ticket
        a_lapsed_claim_holds_until_it_is_taken_over
        a_late_commit_of_an_old_claim_is_lost
        a_claim_is_its_holders_own
        a_claim_that_was_given_back_is_lost
        a_late_put_back_is_passed_over
        tickets_grow_even_when_the_row_is_made_anew
        the_next_due_time_is_that_of_the_lanes_asked_for
        a_clock_that_jumps_loses_nothing;
    due_changes:
        set_makes_and_moves_a_row
        set_by_its_holder_ends_the_claim
        set_by_another_moves_the_lane_and_nudges
        hold_claims_at_birth
        hold_makes_a_claim_last_longer
        hold_takes_what_nobody_holds
        hold_of_what_another_holds_is_lost
        done_removes_the_row
        drop_removes_the_row_whoever_holds_it
        the_note_stays_until_one_is_given
        a_due_row_can_be_read
        delays_without_bounds_do_no_harm;
    nudges:
        a_nudge_brings_forward_and_never_delays
        a_nudge_of_nothing_makes_nothing
        a_nudge_during_a_claim_survives_set
        a_nudge_during_a_claim_survives_put_back
        a_nudge_during_a_claim_survives_done
        the_earliest_nudge_counts
        a_nudge_does_not_delay_what_is_due_sooner
        a_new_claim_answers_the_nudges_before_it;
    forgetting:
        old_events_are_forgotten_oldest_first
        the_newest_events_are_kept
        forgetting_is_bounded
        old_commit_ids_are_forgotten
        places_are_never_given_out_again;
    racing:
        one_committer_wins_each_version
        one_creator_wins
        one_owner_wins_a_name
        one_of_the_same_commit_writes
        snapshots_are_never_torn
        a_dropped_commit_is_written_whole_or_not_at_all
        a_dropped_claim_ends_by_itself;
}
