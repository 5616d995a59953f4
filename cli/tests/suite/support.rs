//! What tests of several kinds share.

pub(crate) mod chat;
pub(crate) mod lab;
pub(crate) mod programs;
pub(crate) mod sink;
#[expect(dead_code, reason = "the mail server of the executor's tests, too")]
#[path = "../../../executor/tests/suite/operator/smtp.rs"]
pub(crate) mod smtp;
pub(crate) mod stand_ins;
