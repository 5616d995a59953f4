//! `service`, against a `systemctl` that records what it is asked. A real one does not run where tests do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::support::programs::{Answer, bare, finish, path};

/// A person's machine: a home, a service manager, and no set.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str) -> Self {
        let machine = Self(PathBuf::from(format!("/tmp/ordinaut-service-{name}-{}", std::process::id())));
        fs::create_dir_all(machine.0.join("bin")).unwrap();
        machine.says("is-system-running", "echo running");
        machine.says("is-active", "echo active");
        // What systemd does with links, it does with files in `WantedBy`.
        machine.says(
            "enable",
            "mkdir -p \"$UNITS/default.target.wants\"; ln -sf \"$UNITS/$2\" \"$UNITS/default.target.wants/$2\"",
        );
        machine.says("disable", "rm -f \"$UNITS/default.target.wants/$3\"");
        machine.script(&format!(
            "#!/bin/sh\nUNITS={units}\n[ \"$1\" = --user ] || exit 64\nshift\necho \"$*\" >> {log}\n\
             [ ! -e {answers}/$1 ] || . {answers}/$1\n",
            units = machine.units().display(),
            log = machine.0.join("asked").display(),
            answers = machine.0.join("answers").display(),
        ));
        machine
    }

    fn script(&self, text: &str) {
        let file = self.0.join("bin/systemctl");
        fs::write(&file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What `systemctl <verb>` does.
    fn says(&self, verb: &str, script: &str) {
        fs::create_dir_all(self.0.join("answers")).unwrap();
        fs::write(self.0.join("answers").join(verb), script).unwrap();
    }

    fn units(&self) -> PathBuf {
        self.0.join("home/.config/systemd/user")
    }

    fn file(&self) -> PathBuf {
        self.units().join("ordinaut.service")
    }

    fn link(&self) -> PathBuf {
        self.units().join("default.target.wants/ordinaut.service")
    }

    /// What the service manager was asked to change, in order.
    fn asked(&self) -> Vec<String> {
        let asked = fs::read_to_string(self.0.join("asked")).unwrap_or_default();
        asked.lines().filter(|line| !line.starts_with("is-")).map(str::to_owned).collect()
    }

    async fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = bare(&self.0);
        let found = format!("{}:{}", self.0.join("bin").display(), path().to_str().unwrap());
        command.env("HOME", self.0.join("home")).env("PATH", found);
        // Tests may run as root, whose service would be the machine's.
        finish(command, &[arguments, &["--user"]].concat(), "").await
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What is left lies in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn installing_writes_one_file_and_has_it_enabled_and_started() {
    let machine = Machine::new("install");

    let answer = machine.run(&["service", "install"]).await;

    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(machine.asked(), ["daemon-reload", "enable ordinaut.service", "restart ordinaut.service"]);
    let text = fs::read_to_string(machine.file()).unwrap();
    assert!(text.contains(&format!("\"ORDINAUT_DATA_DIR={}\"", machine.0.join("data").display())), "{text}");
    assert!(text.contains("up --no-example\n"), "{text}");
    assert!(answer.stdout.contains(&machine.file().display().to_string()), "{answer:?}");
    assert!(answer.stdout.contains("loginctl enable-linger"), "{answer:?}");
    let status = machine.run(&["service", "status", "--json"]).await.json();
    assert_eq!((status["enabled"].as_bool(), status["keeps_this_set"].as_bool()), (Some(true), Some(true)), "{status}");
    assert_eq!(status["state"], "active");
}

#[tokio::test]
async fn installing_twice_changes_nothing_the_second_time() {
    let machine = Machine::new("twice");
    assert_eq!(machine.run(&["service", "install"]).await.code, 0);
    let before = machine.asked();

    let again = machine.run(&["service", "install", "--json"]).await.json();

    assert_eq!(again["changed"], false);
    assert_eq!(machine.asked(), before);
}

#[tokio::test]
async fn uninstalling_leaves_nothing() {
    let machine = Machine::new("uninstall");
    machine.run(&["service", "install"]).await;

    let answer = machine.run(&["service", "uninstall"]).await;

    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(!machine.file().exists() && machine.link().symlink_metadata().is_err());
    assert_eq!(machine.asked()[3..], ["disable --now ordinaut.service", "daemon-reload"]);
    let again = machine.run(&["service", "uninstall"]).await;
    assert!(again.code == 0 && again.stdout.contains("nothing was installed"), "{again:?}");
}

#[tokio::test]
async fn printing_shows_the_file_and_touches_nothing() {
    let machine = Machine::new("print");

    let answer = machine.run(&["service", "install", "--print"]).await;

    assert!(answer.code == 0 && answer.stdout.contains("[Service]"), "{answer:?}");
    assert!(answer.stderr.contains(&machine.file().display().to_string()), "{answer:?}");
    assert!(!machine.file().exists());
    assert!(machine.asked().is_empty());
}

#[tokio::test]
async fn without_a_service_manager_nothing_is_written_and_the_answer_says_what_to_do() {
    let machine = Machine::new("offline");
    for (state, script) in
        [("offline", "echo offline; exit 1"), ("a bus", "echo 'Failed to connect to bus' >&2; exit 1")]
    {
        machine.says("is-system-running", script);

        let answer = machine.run(&["service", "install"]).await;

        assert_eq!(answer.code, 3, "{state}: {answer:?}");
        assert!(answer.stderr.contains("ordinaut up --no-example"), "{answer:?}");
        assert!(!machine.file().exists() && machine.asked().is_empty(), "{state}");
    }
    let status = machine.run(&["service", "status"]).await;
    assert!(status.code == 0 && status.stdout.contains("not installed"), "{status:?}");
}

#[tokio::test]
async fn an_installation_that_is_refused_is_taken_back() {
    let machine = Machine::new("refused");
    machine.says("restart", "echo 'Unit ordinaut.service has a bad setting.' >&2; exit 1");

    let answer = machine.run(&["service", "install"]).await;

    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.stderr.contains("systemctl --user restart") && answer.stderr.contains("bad setting"), "{answer:?}");
    assert!(!machine.file().exists() && machine.link().symlink_metadata().is_err(), "half of it is left");
    assert_eq!(machine.asked().last().unwrap(), "daemon-reload");
}

#[tokio::test]
async fn a_file_that_a_person_wrote_is_left_alone() {
    let machine = Machine::new("own");
    fs::create_dir_all(machine.units()).unwrap();
    fs::write(machine.file(), "[Service]\nExecStart=/mine\n").unwrap();
    for verb in ["install", "uninstall"] {
        let answer = machine.run(&["service", verb]).await;
        assert_eq!(answer.code, 2, "{verb}: {answer:?}");
        assert!(answer.stderr.contains("not written by Ordinaut"), "{answer:?}");
    }
    assert_eq!(fs::read_to_string(machine.file()).unwrap(), "[Service]\nExecStart=/mine\n");
    assert!(machine.asked().is_empty());
}
