//! Which configuration file is read: the same one by all three programs, however they are pointed at it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use crate::support::programs::{PATIENCE, path, program};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let directory = PathBuf::from(format!("/tmp/ordinaut-conf-{name}-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        Self(directory)
    }

    /// A file that no program can read as its configuration: each refuses it by its path.
    fn spoilt(&self, name: &str) -> PathBuf {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "this is = no = TOML").unwrap();
        file
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left lies in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What each program says when it is started with `variables` and nothing else.
async fn told(scratch: &Path, variables: &[(&str, PathBuf)]) -> Vec<String> {
    let mut told = Vec::new();
    for (name, argument) in [("ordinaut", "doctor"), ("ordinaut-mcp", "stdio"), ("ordinaut-executor", "--check")] {
        let mut command = Command::new(program(name));
        command
            .arg(argument)
            .env_clear()
            .env("PATH", path())
            .env("ORDINAUT_DATA_DIR", scratch.join("data"))
            .env("ORDINAUT_RUNTIME_DIR", scratch.join("run"))
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(PATIENCE, command.output()).await.expect("the program ends").unwrap();
        assert!(!output.status.success(), "{name} took a spoilt file");
        told.push(String::from_utf8(output.stderr).unwrap());
    }
    told
}

#[tokio::test]
async fn all_three_programs_read_the_same_file() {
    let scratch = Scratch::new("same");
    let named = scratch.spoilt("own.toml");
    let in_directory = scratch.spoilt("directory/ordinaut.toml");
    let by_xdg = scratch.spoilt("xdg/ordinaut/ordinaut.toml");
    let directory = ("ORDINAUT_CONFIG_DIR", scratch.0.join("directory"));
    let xdg = ("XDG_CONFIG_HOME", scratch.0.join("xdg"));
    let mut cases = vec![
        (named.clone(), vec![("ORDINAUT_CONFIG", named), directory.clone(), xdg.clone()]),
        (in_directory, vec![directory, xdg.clone()]),
        (by_xdg, vec![xdg]),
    ];
    // Root's is the machine's, which is none of a test's.
    if !nix::unistd::geteuid().is_root() {
        cases.push((scratch.spoilt("home/.config/ordinaut/ordinaut.toml"), vec![("HOME", scratch.0.join("home"))]));
    }
    for (expected, variables) in cases {
        for said in told(&scratch.0, &variables).await {
            assert!(said.contains(&expected.display().to_string()), "{}: {said}", expected.display());
        }
    }
}

#[tokio::test]
async fn a_file_that_was_named_and_is_not_there_is_an_error_everywhere() {
    let scratch = Scratch::new("missing");
    let missing = scratch.0.join("missing.toml");
    for said in told(&scratch.0, &[("ORDINAUT_CONFIG", missing.clone())]).await {
        assert!(said.contains(&missing.display().to_string()), "{said}");
    }
}
