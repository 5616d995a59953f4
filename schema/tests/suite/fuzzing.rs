//! The fuzz targets without a fuzzer: the oracles' rows and every input that once found something, on each run.

mod seeds;
mod targets;

use std::{fs, path::Path};

/// Under `cargo fuzz` each call is held to its time and memory; here it only has to answer.
fn measured<T>(_what: &'static str, call: impl FnOnce() -> T) -> T {
    call()
}

fn run(name: &str, bytes: &[u8]) {
    let (_, target) = targets::TARGETS.iter().find(|(it, _)| *it == name).unwrap();
    target(bytes);
}

/// The checked-in inputs of a directory under `fuzz/`, in one order.
fn inputs(directory: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(directory);
    let mut files: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn every_input_that_once_found_something_finds_nothing() {
    for (name, _) in targets::TARGETS {
        for input in inputs(&format!("regressions/{name}")) {
            run(name, &input);
        }
    }
}

#[test]
fn rules_that_are_made_to_be_slow_are_answered_or_refused() {
    for input in inputs("hostile/rrule") {
        targets::hostile(&input);
    }
}

#[test]
#[ignore = "writes fuzz/corpus, for `just fuzz` to begin with"]
fn the_rows_of_the_oracles_are_written_as_a_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (n, (name, seed)) in seeds::all().iter().enumerate() {
        fs::create_dir_all(corpus.join(name)).unwrap();
        fs::write(corpus.join(name).join(format!("seed-{n:04}")), seed).unwrap();
    }
}

/// Every so many: the whole of them is what `just fuzz` begins with.
const SHARE: usize = 7;

#[test]
fn the_rows_of_the_oracles_keep_every_promise_of_a_schedule() {
    for (name, seed) in seeds::all().iter().step_by(SHARE) {
        run(name, seed);
    }
}
