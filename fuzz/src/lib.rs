//! What the fuzz targets share: the bodies of `schema/tests/suite/fuzzing/targets.rs`, run under a watch.
//!
//! **Panics.** `libfuzzer-sys` aborts in its panic hook, before anything is unwound. `schema` wraps two crates in
//! `catch_unwind`, so a panic that is caught there is no finding. [`watch`] therefore puts a hook of our own over that one: it
//! only keeps the panic's text. A panic that escapes the target reaches [`run`], which prints the text and aborts;
//! the first few that were caught inside are printed too, because each is a form that our own checks let through.
//!
//! **Cost.** Every call is held to 64 MiB of the heap, counted exactly, and to [`LONGEST`] of this thread's processor
//! time: neither other programs nor the size of the corpus count.

#[path = "../../schema/tests/suite/fuzzing/targets.rs"]
mod targets;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    backtrace::Backtrace,
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use nix::time::ClockId;

/// Three times what is promised: coverage counters, overflow checks and debug assertions cost about that.
const LONGEST: Duration = Duration::from_millis(150);
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Panics caught inside that are told of.
const TOLD: usize = 20;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static CAUGHT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is passed on to the system's allocator; what is added is two counters.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

/// Puts the hook described above in the place of `libfuzzer-sys`'s: the `init` of every target.
pub fn watch() {
    std::panic::set_hook(Box::new(|panic| {
        let text = format!("{panic}\n{}", Backtrace::force_capture());
        LAST_PANIC.with(|last| *last.borrow_mut() = Some(text));
    }));
}

/// Runs the target of that name.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = targets::TARGETS.iter().find(|(it, _)| *it == name).expect("a target has that name");
    let outcome = catch_unwind(AssertUnwindSafe(|| target(bytes)));
    let Some(panic) = LAST_PANIC.with(|last| last.borrow_mut().take()) else { return };
    if outcome.is_err() {
        eprintln!("{panic}");
        std::process::abort();
    }
    if CAUGHT.fetch_add(1, Relaxed) < TOLD {
        eprintln!("caught inside, no finding: {}", panic.lines().take(2).collect::<Vec<_>>().join(" "));
    }
}

fn measured<T>(what: &'static str, call: impl FnOnce() -> T) -> T {
    let clock = || Duration::from(ClockId::CLOCK_THREAD_CPUTIME_ID.now().expect("Linux has the clock"));
    let (began, live) = (clock(), LIVE.load(Relaxed));
    PEAK.store(live, Relaxed);
    let answer = call();
    let (took, bytes) = (clock() - began, PEAK.load(Relaxed) - live);
    assert!(took <= LONGEST, "`{what}` took {took:?}");
    assert!(bytes <= MOST_BYTES, "`{what}` held {bytes} bytes");
    answer
}
