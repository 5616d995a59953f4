//! The wall clock of one test's PostgreSQL, moved in steps while the server runs, forward and back.
//!
//! libfaketime does it: a wrapper in the server's place on PATH preloads it, and every look at the wall clock adds the
//! offset that a file names. The monotonic clock is left alone, as it is when somebody sets the clock of a machine.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::embedded::PostgresBinaries;

/// Where packages put the library; Debian's has a directory of the machine's architecture in between.
const LIBRARY_DIRECTORIES: [&str; 4] = ["/usr/lib64", "/usr/lib", "/usr/local/lib", "/usr/local/lib64"];
const LIBRARY: &str = "faketime/libfaketime.so.1";
/// The same for programs with threads.
const THREADED: &str = "libfaketimeMT.so.1";

/// How far a server's wall clock is from the true one.
#[derive(Debug)]
pub struct ServerClock {
    file: PathBuf,
    offset: Mutex<SignedDuration>,
}

impl ServerClock {
    /// Finds libfaketime.
    pub fn library() -> Option<PathBuf> {
        let below = fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let directories = LIBRARY_DIRECTORIES.into_iter().map(PathBuf::from).chain(below);
        directories.map(|directory| directory.join(LIBRARY)).find(|library| library.is_file())
    }

    /// What a program with threads is started with, so that its own wall clock, and nobody else's, is off by `offset`.
    pub fn off_by(library: &Path, offset: SignedDuration) -> Vec<(OsString, OsString)> {
        let threaded = library.with_file_name(THREADED);
        vec![
            ("LD_PRELOAD".into(), if threaded.is_file() { threaded } else { library.to_owned() }.into()),
            ("FAKETIME".into(), written(offset).into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
        ]
    }

    /// Makes a directory below `directory` whose PostgreSQL has this clock, at first `at`.
    pub(super) fn wrap(directory: &Path, library: &Path, path: Option<&OsStr>, at: Timestamp) -> (Self, PathBuf) {
        let real = PostgresBinaries::find(path, Path::new("/nonexistent")).expect("PostgreSQL is installed");
        let programs = directory.join("bin");
        fs::create_dir(&programs).expect("a directory for the clock's programs can be made");
        let clock = Self { file: directory.join("clock"), offset: Mutex::default() };
        clock.set(at);
        let preload = format!(
            "export LD_PRELOAD='{}' FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1",
            library.display(),
            clock.file.display(),
        );
        for (name, program, before) in [("postgres", &real.postgres, preload.as_str()), ("initdb", &real.initdb, ":")] {
            let wrapper = programs.join(name);
            fs::write(&wrapper, format!("#!/bin/sh\n{before}\nexec '{}' \"$@\"\n", program.display()))
                .expect("the clock's programs can be written");
            fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("and be made programs");
        }
        (clock, programs)
    }

    /// Sets the clock.
    pub fn set(&self, to: Timestamp) {
        self.be_off_by(to.duration_since(Timestamp::now()));
    }

    /// Moves the clock.
    pub fn leap(&self, by: SignedDuration) {
        let offset = *self.offset.lock().unwrap_or_else(PoisonError::into_inner);
        self.be_off_by(offset + by);
    }

    fn be_off_by(&self, offset: SignedDuration) {
        *self.offset.lock().unwrap_or_else(PoisonError::into_inner) = offset;
        // Renamed into place: the server reads it whenever it looks at the clock, and must never find half of it.
        let new = self.file.with_extension("new");
        fs::write(&new, written(offset)).expect("the clock can be written");
        fs::rename(&new, &self.file).expect("the clock can be set");
    }
}

/// As libfaketime reads an offset.
fn written(offset: SignedDuration) -> String {
    format!("{:+.6}", offset.as_secs_f64())
}
