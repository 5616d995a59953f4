//! `claude-config` against real files in a home of the test's own.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::support::programs::{Answer, bare, finish, program};

/// A home with nothing in it, removed at the end.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        let home = std::env::temp_dir().join(format!("ordinaut-home-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&home).unwrap();
        Self(home)
    }

    fn desktop(&self) -> PathBuf {
        let directory = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".config" };
        self.0.join(directory).join("Claude/claude_desktop_config.json")
    }

    async fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = bare(&self.0);
        command.env("HOME", &self.0).env_remove("XDG_CONFIG_HOME").current_dir(&self.0);
        finish(command, &[&["claude-config"], arguments].concat(), "").await
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What is left lies in the system's temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(path: &PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[tokio::test]
async fn an_entry_is_installed_once_beside_others_and_taken_out_again() {
    let home = Home::new();
    let file = home.desktop();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let theirs = "{\n\t\"mcpServers\": {\n\t\t\"z\": {\n\t\t\t\"command\": \"z\"\n\t\t}\n\t},\n\t\"a\": true\n}\n";
    fs::write(&file, theirs).unwrap();

    let said = home.run(&["--install"]).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stdout.contains("ordinaut service install"), "{}", said.stdout);
    let entry = json!({ "command": program("ordinaut-mcp"), "args": ["stdio"] });
    assert_eq!(read(&file), json!({ "mcpServers": { "z": { "command": "z" }, "ordinaut": entry }, "a": true }));
    let backup = file.with_extension("json.bak");
    assert_eq!(fs::read_to_string(&backup).unwrap(), theirs);

    let again = home.run(&["--install", "--json"]).await.json();
    assert_eq!(again["changed"], false);
    assert_eq!(fs::read_to_string(&backup).unwrap(), theirs);

    assert_eq!(home.run(&["--uninstall", "--json"]).await.json()["changed"], true);
    assert_eq!(fs::read_to_string(&file).unwrap(), theirs);
}

#[tokio::test]
async fn a_file_that_is_not_there_yet_is_made_for_either_client() {
    let home = Home::new();
    home.run(&["--install", "--json"]).await.json();
    home.run(&["--install", "--json", "--for", "project"]).await.json();
    let whole = json!({ "mcpServers": { "ordinaut": { "command": program("ordinaut-mcp"), "args": ["stdio"] } } });
    assert_eq!(read(&home.desktop()), whole);
    assert_eq!(read(&home.0.join(".mcp.json")), whole);
}

#[tokio::test]
async fn a_file_that_is_no_json_is_refused_by_its_line_and_left_alone() {
    let home = Home::new();
    let file = home.0.join("broken.json");
    let text = "{\n  \"mcpServers\": {\n    // mine\n  }\n}\n";
    fs::write(&file, text).unwrap();
    let said = home.run(&["--install", "--file", "broken.json"]).await;
    assert_eq!(said.code, 2, "{}", said.stderr);
    assert!(said.stderr.contains("broken.json: it is no JSON in line 3"), "{}", said.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(
        fs::read_dir(&home.0).unwrap().filter(|it| it.as_ref().unwrap().path().extension().is_some()).count(),
        1
    );
}

#[tokio::test]
async fn the_remote_entry_has_its_token_in_the_environment_and_is_only_printed() {
    let home = Home::new();
    let entry = home.run(&["--for", "remote"]).await.json()["mcpServers"]["ordinaut"].clone();
    assert!(entry["args"].as_array().unwrap().contains(&json!("Authorization:${ORDINAUT_AUTHORIZATION}")));
    assert_eq!(entry["env"]["ORDINAUT_AUTHORIZATION"], "Bearer <token>");
    assert_eq!(home.run(&["--for", "remote", "--install"]).await.code, 2);
}
