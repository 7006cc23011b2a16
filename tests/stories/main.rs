//! Drydock's behaviours, told as black-box stories on a real API server: objects are applied, patched and deleted, and
//! watched. One file a story or a family of them, named after their numbers. They run side by side on one control plane,
//! each in namespaces of its own, with controllers of its own that watch those namespaces only.

// Stories run on the machine's own clock, and fail by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "../support/mod.rs"]
mod support;

mod ci;
mod effects;
mod names_that_are_asked_for;
mod objects;
mod on_time;
mod people;
mod tap;
mod templates;
mod told;

mod activation;
mod as_kubectl_sees_it;
mod behind_a_proxy;
mod blueprints_side_by_side;
mod blueprints_that_go;
mod builds_while_suspended;
mod ci_pipelines;
mod ci_runs;
mod ci_with_lease;
mod cli_at_its_end;
mod cli_together;
mod edits_of_an_end;
mod election;
mod events;
mod examples;
mod expressions_of_others;
mod heartbeats;
mod held_slots;
mod isolation_loosened;
mod large_and_small;
mod manifests_applied_again;
mod objects_and_a_busy_server;
mod objects_and_rights;
mod objects_drift;
mod objects_for_a_lessee;
mod objects_late;
mod objects_life;
mod objects_many;
mod objects_of_tenants_that_go;
mod objects_proved;
mod objects_ready;
mod objects_that_fail;
mod objects_that_stay;
mod objects_whose_ground_goes;
mod probes_and_metrics;
mod pruning;
mod shares_of_namespaces;
mod story_01_to_04_a_lease_is_served;
mod story_05_to_08_release;
mod story_06_and_46_one_teardown;
mod story_07_and_28_objects;
mod story_07_release_of_what_is_broken;
mod story_09_and_10_ends;
mod story_11_to_13_how_long;
mod story_14_and_51_the_question_at_a_deadline;
mod story_15_idle;
mod story_16_to_20_limits_and_races;
mod story_16_to_20_slow_ends;
mod story_21_to_23_reclaim;
mod story_24_hosts_that_change;
mod story_25_to_28_failures;
mod story_26_and_32_two_blueprints;
mod story_29_hold;
mod story_30_to_33_the_queue;
mod story_34_to_36_pools;
mod story_40_wrong_objects_are_refused;
mod story_41_and_49_the_command_line;
mod story_42_killed_and_doubled;
mod story_42_killed_in_the_middle_of_a_step;
mod story_42_objects_killed_at_every_step;
mod story_43_and_46_one_instant;
mod story_44_only_the_controller_writes_status;
mod story_47_bookkeeping;
mod story_50_the_end_of_a_resource;
mod story_51_and_52_what_a_driver_says_to_clocks;
mod story_55_and_56_objects;
mod templates_and_rights;
mod templates_and_what_is_not_ours;
mod templates_at_their_limits;
mod templates_hostile;
mod templates_that_change;
mod templates_with_typos;
mod templates_without_policies;
mod times_of_zero;
mod unreadable_leased;
mod unreadable_objects;
mod values_of_another_version;
mod what_a_build_reads;
mod writes;
