//! What is counted. The instruments exist before, and without, an exporter: `telemetry` installs the provider first.

use std::sync::LazyLock;

use opentelemetry::{
    global,
    metrics::{Counter, Gauge, Histogram},
};

/// Every instrument of this program.
#[derive(Debug)]
pub struct Metrics {
    pub runs_planned: Counter<u64>,
    pub occurrences_skipped: Counter<u64>,
    pub runs_claimed: Counter<u64>,
    /// By `verdict`.
    pub runs_concluded: Counter<u64>,
    /// From the instant a run was due to its claim, in seconds.
    pub pickup_seconds: Histogram<f64>,
    /// By `uses` and `outcome`.
    pub calls: Counter<u64>,
    pub leases_lost: Counter<u64>,
    pub runs_recovered: Counter<u64>,
    pub runs_quarantined: Counter<u64>,
    pub conclusion_batches: Counter<u64>,
    pub attempts_running: Gauge<u64>,
    pub events_published: Counter<u64>,
    pub events_republished: Counter<u64>,
    pub progress_dropped: Counter<u64>,
    pub inbound_events: Counter<u64>,
    pub inbound_dead: Counter<u64>,
    pub inbound_trimmed: Counter<u64>,
    /// By `service`.
    pub store_errors: Counter<u64>,
}

/// The instruments.
pub fn get() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
        let meter = global::meter("ordinaut");
        let counter = |name: &'static str, what: &'static str| meter.u64_counter(name).with_description(what).build();
        Metrics {
            runs_planned: counter("ordinaut.runs.planned", "Runs planned from schedules"),
            occurrences_skipped: counter("ordinaut.occurrences.skipped", "Occurrences that did not become runs"),
            runs_claimed: counter("ordinaut.runs.claimed", "Runs claimed"),
            runs_concluded: counter("ordinaut.runs.concluded", "Attempts concluded, by verdict"),
            pickup_seconds: meter
                .f64_histogram("ordinaut.pickup.seconds")
                .with_description("From due to claimed")
                .with_boundaries(vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0])
                .build(),
            calls: counter("ordinaut.calls", "Calls of actions, by outcome"),
            leases_lost: counter("ordinaut.leases.lost", "Leases lost while their attempt ran"),
            runs_recovered: counter("ordinaut.runs.recovered", "Runs taken from executors that are gone"),
            runs_quarantined: counter("ordinaut.runs.quarantined", "Runs that killed their executor too often"),
            conclusion_batches: counter("ordinaut.conclusions.batches", "Transactions that concluded attempts"),
            attempts_running: meter.u64_gauge("ordinaut.attempts.running").with_description("Attempts in hand").build(),
            events_published: counter("ordinaut.events.published", "Events relayed from the outbox"),
            events_republished: counter("ordinaut.events.refills", "Times a lost Redis was filled again"),
            progress_dropped: counter("ordinaut.progress.dropped", "Progress events dropped"),
            inbound_events: counter("ordinaut.inbound.events", "Events taken in from other systems"),
            inbound_dead: counter("ordinaut.inbound.dead", "Inbound entries that could not be read"),
            inbound_trimmed: counter("ordinaut.inbound.trimmed", "Inbound entries trimmed before they were read"),
            store_errors: counter("ordinaut.store.errors", "Failed calls of the database, by service"),
        }
    });
    &METRICS
}
