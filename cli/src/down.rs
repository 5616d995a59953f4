//! `down`: the embedded set, stopped.

use std::time::Duration;

use ordinaut_store::embedded;
use serde_json::json;

use crate::{
    config::Config,
    failure::Failure,
    out::{Out, note},
};

/// The executor's drain, and the servers' after it.
const STOP_LIMIT: Duration = Duration::from_secs(90);

pub(crate) async fn down(config: &Config, out: Out) -> Result<(), Failure> {
    if embedded::current(&config.layout).is_some() {
        note("ordinaut: stopping; runs in hand are finished or given back first …");
    }
    let stopped = embedded::stop(&config.layout, STOP_LIMIT).await?;
    if out.is_json() {
        return out.json(&json!({ "stopped": stopped }));
    }
    out.line(if stopped { "stopped" } else { "nothing was running here" })
}
