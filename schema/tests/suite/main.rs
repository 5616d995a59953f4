//! `ordinaut-schema` from outside: one program, because each links everything anew.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test that cannot go on says where, and is its own edge"
)]

mod calendar;
mod definition_schema;
mod definitions;
mod fuzzing;
mod operator;
mod planning;
mod rehearsal;
mod schedule_models;
mod schedules;
mod secrets;
mod templates;
mod zone_models;
