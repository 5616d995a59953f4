# Everything a person does here often. `./just` fetches the runner and the system packages; this file says the rest.

set shell := ["sh", "-eu", "-c"]

# The dev profile throughout: it builds in a fraction of the time of release, its parts are shared by `up`, `demo` and
# `test`, and what Ordinaut waits for is its database, not its own code. `cargo build --release` is for packaging.
binaries := env("CARGO_TARGET_DIR", justfile_directory() / "target") / "debug"

[private]
default:
    @"{{ just_executable() }}" --justfile "{{ justfile() }}" --list --unsorted

[doc("From a bare machine to a task that fires; stays in the foreground until Ctrl-C")]
[group("run")]
[no-exit-message]
up *arguments: packages build
    @exec "{{ binaries }}/ordinaut" up {{ arguments }}

[doc("The same, and exits once the example task has run")]
[group("run")]
[no-exit-message]
demo *arguments: packages build
    @exec "{{ binaries }}/ordinaut" demo {{ arguments }}

[doc("The whole suite: what CI runs, no more, no less")]
[group("check")]
[no-exit-message]
test: packages begin-clients fmt-check deny
    @sh scripts/run-tests

[doc("A year of nights against a real server whose clock is moved: a minute, and not part of `test`")]
[group("check")]
[no-exit-message]
year: packages build
    @sh scripts/system-packages faketime
    cargo test --locked --package ordinaut --test suite -- --ignored --exact time::a_year_of_nights_passes_with_one_run_each

[doc("Kills a real executor at each named crash point; another build of it, and not part of `test`")]
[group("check")]
[no-exit-message]
crash-points: packages
    cargo build --package ordinaut-executor --features faults --target-dir "{{ binaries }}/../faults" --locked
    ORDINAUT_FAULTS_EXECUTOR="{{ binaries }}/../faults/debug/ordinaut-executor" \
        cargo test --locked --package ordinaut-executor --test suite -- --nocapture faults::

[doc("The evaluation set of the MCP server, as a table; --set DIR, --case ID, --drive PROGRAM")]
[group("check")]
[no-exit-message]
evals *arguments: packages
    @sh scripts/evals {{ arguments }}

[doc("Every MCP client that people use goes a round against the programs: create, run, read, cancel")]
[group("check")]
[no-exit-message]
clients: packages build
    @sh scripts/clients

# Fetched while the compiler works.
[private]
begin-clients:
    @ORDINAUT_REQUIRE_CLIENTS="${ORDINAUT_REQUIRE_CLIENTS:-${CI:+1}}" sh scripts/clients begin

[doc("All that can be judged without running anything: format, lints, dependencies")]
[group("check")]
check: fmt-check lint deny

[doc("Formats the code")]
[group("check")]
fmt:
    cargo fmt --all

[private]
fmt-check:
    cargo fmt --all -- --check

[doc("Clippy, with warnings refused")]
[group("check")]
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

[doc("Licences, bans and sources of dependencies, when cargo-deny is installed")]
[group("check")]
deny:
    @if cargo deny --version >/dev/null 2>&1; then \
        cargo deny --workspace check --allow unused-wrapper --allow no-license-field bans licenses sources; \
    else echo 'deny: left out; `cargo install --locked cargo-deny` brings it' >&2; fi

# Not part of `test`: it downloads the suite, which is an alpha, and a Node to run it.
[doc("The official MCP conformance suite, against the programs as they are and against a build with fixtures")]
[group("check")]
[no-exit-message]
conformance: packages
    cargo clippy --package ordinaut-mcp --all-targets --features conformance --locked -- -D warnings
    @sh scripts/conformance

# Not part of `test`: what it says depends on the day, not on the commit.
[doc("Known vulnerabilities of dependencies (needs cargo-deny and the internet)")]
[group("check")]
audit:
    cargo deny --workspace check advisories

# Not part of `test` either: it needs a nightly compiler, and it is never done. What it finds becomes a file in
# fuzz/regressions, and those are part of `test`.
[doc("Fuzzes a parser (cron, rrule, instants, templates), fifteen minutes unless told otherwise")]
[group("check")]
[no-exit-message]
fuzz target seconds="900":
    @sh scripts/fuzz {{ target }} {{ seconds }}

# `mcp` measures the programs, beside the SDKs that `scripts/clients` drives: both are there before it begins.
[doc("Measures all, or: schedules mcp drain pickup burst pinned history scale pipelines serve steady; JSON on stdout, tables on stderr")]
[group("check")]
[no-exit-message]
bench *names: packages
    @case "{{ names }}" in '' | *mcp*) sh scripts/clients install ;; esac
    @cargo build --release --locked --quiet --package ordinaut-mcp --package ordinaut-executor
    @cargo run --release --locked --quiet --package ordinaut-bench -- {{ names }}

[doc("Disturbs the real programs in every way, or in those named, and judges what is left; --list, --short")]
[group("check")]
[no-exit-message]
fault *arguments: packages build
    @sh scripts/system-packages faketime || echo 'fault: without libfaketime the faults of clocks are left out' >&2
    @cargo run --locked --quiet --package ordinaut-fault -- {{ arguments }}

[doc("One set of programs, disturbed by whatever is drawn next for so many minutes; says what grew meanwhile")]
[group("check")]
[no-exit-message]
soak minutes: packages build
    @cargo run --locked --quiet --package ordinaut-fault -- --soak {{ minutes }}

[doc("Builds the three programs")]
[group("build")]
build:
    cargo build --workspace --exclude ordinaut-bench --exclude ordinaut-fault --bins --locked

[doc("Renews store/.sqlx, which queries are checked against, from a private PostgreSQL")]
[group("build")]
[no-exit-message]
prepare: packages
    @sh scripts/prepare-queries

[doc("Accepts the current tool schemas and other snapshots; review the difference before committing")]
[group("build")]
snapshots: packages
    INSTA_UPDATE=always UPDATE_SCHEMA=1 cargo test --workspace --lib --bins --tests --locked

[doc("Installs what is missing of a C compiler, PostgreSQL and Redis")]
[group("build")]
[no-exit-message]
packages:
    @sh scripts/system-packages
