//! A long run, through the deaths of its executors.

use std::collections::{BTreeMap, BTreeSet};

use ordinaut_schema::run::{RunState, StepState};
use serde_json::json;

use super::kill_9;
use crate::support::{
    lab::{Lab, until},
    stand_ins::StandIns,
};

const STEPS: usize = 100;
const CRASHES: usize = 3;
/// How far beyond a moment an executor may get before the kill finds it.
const AHEAD: usize = 2;

/// So many numbers of steps, in order, by an ordinary generator; so far apart that something is done between any two.
fn moments(mut seed: u64) -> Vec<usize> {
    let mut drawn = BTreeSet::<usize>::new();
    while drawn.len() < CRASHES {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = usize::try_from(seed >> 33).unwrap() % (STEPS - AHEAD);
        if drawn.iter().all(|other| other.abs_diff(moment) > AHEAD + 1) {
            drawn.insert(moment);
        }
    }
    drawn.into_iter().collect()
}

fn name(n: usize) -> String {
    format!("s{n:03}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_a_hundred_steps_across_three_crashes_repeats_no_journaled_step() {
    let seed: u64 = std::env::var("ORDINAUT_TEST_SEED")
        .map_or_else(|_| uuid::Uuid::now_v7().as_u64_pair().1, |text| text.parse().unwrap());
    let moments = moments(seed);
    eprintln!("ORDINAUT_TEST_SEED={seed}: executors are killed when {moments:?} have been called");

    let (lab, pages) = (Lab::open().await.with_short_leases(), StandIns::open(&[], |_| json!("fine")).await);
    let step = |n: usize| {
        let (name, url) = (name(n), pages.url(&format!("/{}", name(n))));
        format!("  - {{ id: {name}, uses: http.post, with: {{ url: '{url}' }}, idempotent: true }}")
    };
    let steps: Vec<_> = (0..STEPS).map(step).collect();
    let task = format!("title: hundred\nschedule_kind: manual\npipeline:\n{}\n", steps.join("\n"));
    // Three deaths are as many as quarantine a run that gets nowhere; this one is no poison, only unlucky.
    let environment = [("ORDINAUT_HTTP_ALLOW".into(), pages.address.to_string().into())];
    for moment in &moments {
        pages.gate.close(&name(moment + AHEAD));
    }
    let mut executor = lab.executor_with("0", &environment);
    let run = lab.run_now(lab.keep(&task).await, "1").await;
    let calls = |n: usize| pages.at(&format!("/{}", name(n))).len();
    let mut in_hand: BTreeMap<usize, usize> = BTreeMap::new();
    for (crash, moment) in moments.iter().enumerate() {
        let before = pages.all().len();
        until("the moment has come, and this executor has called", async || {
            (calls(*moment) > 0 && pages.all().len() > before).then_some(())
        })
        .await;
        kill_9(executor).await;
        // The last step that was called may have no result in the journal; every earlier one has.
        let last = (0..STEPS).rposition(|n| calls(n) > 0).unwrap();
        *in_hand.entry(last).or_default() += 1;
        pages.gate.open(&name(moment + AHEAD));
        executor = lab.executor_with(&(crash + 1).to_string(), &environment);
    }

    let run = lab.end_of(run).await;
    assert_eq!((run.state, run.attempts, run.crashes), (RunState::Succeeded, 4, 3), "{:?}", run.error);
    for n in 0..STEPS {
        let most = 1 + in_hand.get(&n).copied().unwrap_or_default();
        assert!((1..=most).contains(&calls(n)), "step {n} was called {} times, in hand: {in_hand:?}", calls(n));
        let key = format!("{}/{}", run.id, name(n));
        assert!(pages.at(&format!("/{}", name(n))).iter().all(|call| call.key == key));
    }
    let journaled: Vec<_> = run.steps.iter().map(|step| (step.step.clone(), step.state, step.calls)).collect();
    let each_once: Vec<_> = (0..STEPS).map(|n| (name(n), StepState::Succeeded, 1)).collect();
    assert_eq!(journaled, each_once);
}
