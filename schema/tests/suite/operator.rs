//! The operator's tables: what is read, what is refused, and what is never shown.

use std::time::Duration;

use ordinaut_schema::{
    fault::Faults,
    operator::{Channel, Operator, Tls, told},
};
use serde_json::{Value, json};

fn read(file: &Value) -> Result<Operator, Faults> {
    Operator::read(file.as_object().unwrap())
}

fn everything() -> Value {
    json!({
        "timezone": "Europe/Chisinau",
        "executor": {"permits": 3},
        "channels": {
            "post": {"kind": "email", "host": "smtp.example.com", "username": "ada", "password": "hunter2-mail",
                     "from": "Ordinaut <ordinaut@example.com>", "to": ["ada@example.com", "Bo <bo@example.com>"]},
            "team": {"kind": "slack", "url": "https://hooks.slack.com/services/hunter2-slack"},
            "game": {"kind": "discord", "url": "${secrets.DISCORD}"},
            "bot": {"kind": "telegram", "token": "hunter2-bot", "chat_id": -100_123},
            "phone": {"kind": "ntfy", "topic": "ada-42", "token": "hunter2-ntfy"},
            "hook": {"kind": "webhook", "url": "http://127.0.0.1:9/x", "headers": {"X-Key": "hunter2-hook"}},
            "screen": {"kind": "desktop"},
            "me": {"kind": "inbox"},
        },
        "llm": {
            "big": {"kind": "anthropic", "model": "claude-sonnet-5", "api_key": "hunter2-llm", "default": true,
                    "price": {"input": 3, "output": 15.0}},
            "home": {"kind": "openai", "base_url": "http://127.0.0.1:11434/v1", "model": "small", "max_tokens": 500},
        },
        "shell": {"backup": {"argv": ["/usr/bin/backup", "--now"], "directory": "/srv", "timeout": "5m"},
                  "sort": {"argv": ["sort"], "sentence": "Sorts lines", "args": true, "stdin": true}},
        "servers": {"GitHub": {"trusted": true}},
    })
}

#[test]
fn every_table_is_read_with_its_defaults_and_other_tables_are_left_alone() {
    let operator = read(&everything()).unwrap();
    let Channel::Email(post) = &operator.channels["post"] else { panic!("no e-mail") };
    assert_eq!((post.port, post.tls, post.to.len()), (587, Tls::StartTls, 2));
    let Channel::Telegram { chat_id, base_url, .. } = &operator.channels["bot"] else { panic!("no bot") };
    assert_eq!((chat_id.as_str(), base_url.as_str()), ("-100123", "https://api.telegram.org/"));
    assert_eq!(operator.models["big"].url().as_str(), "https://api.anthropic.com/v1/messages");
    assert_eq!(operator.models["home"].url().as_str(), "http://127.0.0.1:11434/v1/chat/completions");
    assert_eq!((operator.models["big"].max_tokens, operator.models["home"].max_tokens), (4096, 500));
    assert_eq!(operator.default_model.as_deref(), Some("big"));
    let (backup, sort) = (&operator.commands["backup"], &operator.commands["sort"]);
    assert_eq!((backup.timeout, backup.args, backup.stdin), (Duration::from_mins(5), false, false));
    assert_eq!((sort.timeout, sort.args, sort.stdin), (Duration::from_mins(1), true, true));
    assert!(operator.servers["GitHub"].trusted);
}

#[test]
fn names_and_kinds_are_offered_and_nothing_else() {
    let offered = read(&everything()).unwrap().offered();
    assert_eq!(offered.channels["team"], "slack");
    assert_eq!(offered.models["home"], "small");
    assert_eq!(offered.commands["backup"], "backup");
    assert_eq!(offered.commands["sort"], "Sorts lines (takes args and stdin)");
    assert_eq!(offered.default_model.as_deref(), Some("big"));
    assert!(!format!("{offered:?}").contains("hunter2"));
}

#[test]
fn the_only_model_is_the_default_and_two_defaults_are_a_mistake() {
    let one = json!({"llm": {"home": {"kind": "openai", "model": "small"}}});
    assert_eq!(read(&one).unwrap().default_model.as_deref(), Some("home"));
    let model = json!({"kind": "openai", "model": "small", "default": true});
    let faults = read(&json!({"llm": {"a": model, "b": model}})).unwrap_err();
    assert_eq!(told(&faults), ["llm: one model is the default, not several: a, b"]);
}

#[test]
fn every_mistake_is_told_at_once_and_where() {
    let faults = read(&json!({
        "channels": {
            "Ops": {"kind": "slack", "url": "https://hooks.example.com/x"},
            "a": {"kind": "pigeon"},
            "b": {"kind": "email", "host": "smtp.example.com", "tls": "none", "password": "hunter2", "from": "x"},
            "c": {"kind": "slack", "url": "hooks.slack.com/hunter2"},
            "d": {"kind": "telegram", "token": 424_242, "chat_id": "1", "chats": 3},
            "e": {"kind": "webhook", "url": "https://u:hunter2@x.example", "headers": {"a b": "c", "d": 4}},
            "f": "hunter2",
            "g": {"kind": "ntfy", "topic": "a/b"},
        },
        "llm": {
            "x": {"kind": "anthropic", "base_url": "ftp://x", "max_tokens": 0, "price": {"input": 1}},
            "y": {"kind": "openai", "model": "m", "api_key": "${params.hunter2}"},
        },
        "shell": {"c": {"argv": "rm -rf", "directory": "tmp", "timeout": "2h", "args": "any"}},
        "servers": {"http": {"trusted": "yes"}},
    }))
    .unwrap_err();
    let told = told(&faults);
    for part in [
        "channels.Ops: `Ops` cannot be a name here",
        "channels.a.kind: `kind` must be one of email, slack",
        "channels.b.username: `username` is missing",
        "channels.b.tls: a password is not sent in clear",
        "channels.b.from: `from` must be an address",
        "channels.b.to: `to` is missing",
        "channels.c.url: `url` is not a whole URL",
        "channels.d.token: `token` must be a text",
        "channels.d.chats: a channel of kind telegram has no field `chats`",
        "channels.e.url: `url` must not hold a user name",
        "it cannot be the name of a header",
        "channels.e.headers.d: the value of a header must be a text",
        "channels.f: it must be a table, not a text",
        "channels.g.topic: `topic` is letters",
        "llm.x.model: `model` is missing",
        "llm.x.base_url: `base_url` must be an http:// or https:// URL",
        "llm.x.max_tokens: `max_tokens` must be",
        "llm.x.price: `price` is what a million tokens cost",
        "llm.y.api_key: `api_key`: a `${` in it must be `${secrets.NAME}`",
        "shell.c.argv: `argv` must be a list",
        "shell.c.directory: `directory` must be absolute",
        "shell.c.args: `args` must be true or false",
        "shell.c.timeout: `timeout` must be from 1s to 1h",
        "servers.http: `http` cannot be a name here",
        "servers.http.trusted: `trusted` must be true or false",
    ] {
        assert!(told.iter().any(|line| line.contains(part)), "{part}\nis not in\n{}", told.join("\n"));
    }
    assert!(!told.join("\n").contains("hunter2") && !told.join("\n").contains("424242"), "{}", told.join("\n"));
}

#[test]
fn no_credential_is_ever_shown() {
    let shown = format!("{:?}", read(&everything()).unwrap());
    assert!(shown.contains("smtp.example.com") && !shown.contains("hunter2"), "{shown}");
}
