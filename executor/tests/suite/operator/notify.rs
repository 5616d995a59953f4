//! `notify.send`: each kind's request, lengths, refusals, limits.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use ordinaut_executor::actions::notify::{Desktop, NotifySend};
use ordinaut_schema::{limits::Limits, run::ErrorKind};
use ordinaut_store::Caller;
use serde_json::{Value, json};

use super::endpoint::{Base, Endpoint, call, failure, message, output};

fn file(endpoint: &Endpoint) -> Value {
    json!({ "channels": {
        "team": {"kind": "slack", "url": endpoint.url("/services/T0/hunter2-slack-hook")},
        "club": {"kind": "discord", "url": endpoint.url("/api/webhooks/1/hunter2-discord")},
        "phone": {"kind": "telegram", "token": "123:hunter2-bot", "chat_id": -42, "base_url": endpoint.url("/")},
        "alerts": {"kind": "ntfy", "topic": "ada-1", "token": "hunter2-ntfy", "base_url": endpoint.url("")},
        "hook": {"kind": "webhook", "url": endpoint.url("/in?x=1"), "headers": {"X-Key": "hunter2-hook"}},
        "screen": {"kind": "desktop"},
        "assistant": {"kind": "inbox"},
    }})
}

fn limited(base: &Base, file: &Value, desktop: Desktop, notifications_per_day: u32) -> NotifySend {
    let limits = Limits { notifications_per_day, ..Limits::DEFAULT };
    NotifySend::new(base.standing(file), base.store.clone(), base.secrets(), desktop, &limits)
}

fn action(base: &Base, endpoint: &Endpoint) -> NotifySend {
    limited(base, &file(endpoint), Desktop::default(), 500)
}

#[tokio::test]
async fn each_kind_is_sent_what_its_service_takes_and_nobody_is_mentioned() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let action = action(&base, &endpoint);
    let with = |channel: &str| json!({"channel": channel, "title": "Weather", "text": "Hot & <!everyone> @everyone", "level": "warning"});
    let send = async |channel: &str| output(&action, call("notify.send", with(channel))).await;

    assert_eq!(send("team").await, json!({"channel": "team", "kind": "slack", "delivered": true}));
    let slack = endpoint.last();
    assert_eq!(slack.path, "/services/T0/hunter2-slack-hook");
    assert_eq!(slack.body["text"], "*Weather*\nHot &amp; &lt;!everyone&gt; @everyone");
    assert_eq!(slack.body["link_names"], false);

    endpoint.then(200, &[], json!({"id": "77"}));
    assert_eq!(send("club").await["message_id"], "77");
    let discord = endpoint.last();
    assert_eq!(discord.path, "/api/webhooks/1/hunter2-discord?wait=true");
    assert_eq!(discord.body["content"], "**Weather**\nHot & <!everyone> @everyone");
    assert_eq!(discord.body["allowed_mentions"], json!({"parse": []}));

    endpoint.then(200, &[], json!({"ok": true, "result": {"message_id": 5}}));
    assert_eq!(send("phone").await["message_id"], 5);
    let telegram = endpoint.last();
    assert_eq!(telegram.path, "/bot123:hunter2-bot/sendMessage");
    assert_eq!(telegram.body["chat_id"], "-42");
    assert!(telegram.body.get("parse_mode").is_none(), "{}", telegram.body);

    send("alerts").await;
    let ntfy = endpoint.last();
    assert_eq!((ntfy.path.as_str(), ntfy.header("authorization")), ("/", "Bearer hunter2-ntfy"));
    assert_eq!(ntfy.header("idempotency-key"), "root/step");
    let asked = json!({"topic": "ada-1", "title": "Weather", "message": "Hot & <!everyone> @everyone", "priority": 4});
    assert_eq!(ntfy.body, asked);

    assert_eq!(send("hook").await["status"], 200);
    let hook = endpoint.last();
    assert_eq!((hook.path.as_str(), hook.header("x-key")), ("/in?x=1", "hunter2-hook"));
    assert_eq!((hook.header("idempotency-key"), &hook.body["level"]), ("root/step", &json!("warning")));
    assert_eq!(hook.body["text"], "Hot & <!everyone> @everyone");
}

#[tokio::test]
async fn a_text_is_cut_to_the_limit_of_its_service() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let action = action(&base, &endpoint);
    let text = "ü".repeat(50_000);
    for (channel, field, most) in
        [("team", "text", 40_000), ("club", "content", 2_000), ("phone", "text", 4_096), ("alerts", "message", 2_047)]
    {
        output(&action, call("notify.send", message(channel, &text))).await;
        let sent = endpoint.last().body[field].as_str().unwrap().to_owned();
        assert_eq!((sent.chars().count(), sent.ends_with('…')), (most, true), "{channel}");
    }
}

#[tokio::test]
async fn a_service_that_is_busy_is_believed_about_when_to_come_back() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let action = action(&base, &endpoint);
    endpoint.then(429, &[("retry-after", "7")], "slow down");
    endpoint.then(429, &[], json!({"ok": false, "parameters": {"retry_after": 9}}));
    endpoint.then(503, &[("retry-after", "11")], "");
    for (channel, kind, delay) in [
        ("team", ErrorKind::RateLimited, 7),
        ("phone", ErrorKind::RateLimited, 9),
        ("hook", ErrorKind::ServerError, 11),
    ] {
        let failure = failure(&action, call("notify.send", message(channel, "x"))).await;
        assert_eq!((failure.kind, failure.retry_after), (kind, Some(Duration::from_secs(delay))), "{failure:?}");
    }
}

#[tokio::test]
async fn no_redirect_takes_a_credential_elsewhere() {
    let (base, endpoint, elsewhere) = (Base::new().await, Endpoint::open().await, Endpoint::open().await);
    for status in [302, 307] {
        endpoint.then(status, &[("location", &elsewhere.url("/"))], "");
        let failure = failure(&action(&base, &endpoint), call("notify.send", message("hook", "x"))).await;
        assert_eq!(failure.kind, ErrorKind::ClientError, "{failure:?}");
    }
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn a_service_that_echoes_what_it_was_sent_gives_no_credential_away() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let action = action(&base, &endpoint);
    for channel in ["team", "club", "phone", "alerts", "hook"] {
        endpoint.then(400, &[], "ECHO");
        let failure = failure(&action, call("notify.send", message(channel, "x"))).await;
        assert!(failure.message.contains("[hidden]") && !failure.message.contains("hunter2"), "{channel}: {failure:?}");
    }
}

#[tokio::test]
async fn a_channel_that_is_not_there_is_refused_with_what_is_and_the_command() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let failure = failure(&action(&base, &endpoint), call("notify.send", message("tema", "x"))).await;
    assert_eq!(failure.kind, ErrorKind::ClientError);
    for part in ["`tema`", "me, alerts, assistant, club, hook, phone, screen, team", "ordinaut channel add"] {
        assert!(failure.message.contains(part), "{failure:?}");
    }
}

#[tokio::test]
async fn me_is_the_inbox_once_per_key_until_the_operator_redirects_it() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let plain = action(&base, &endpoint);
    for _ in 0..2 {
        let said = output(&plain, call("notify.send", json!({"channel": "me", "text": "hi", "level": "error"}))).await;
        assert_eq!(
            (&said["kind"], &said["delivered"], &said["desktop"]),
            (&json!("inbox"), &json!(true), &json!(false))
        );
    }
    let inbox = base.store.check_inbox(&Caller::local("test"), None, 10).await.unwrap();
    assert_eq!((inbox.len(), inbox[0].level.as_str(), inbox[0].body.as_str()), (1, "error", "hi"));

    let mut file = file(&endpoint);
    file["channels"]["me"] = json!({"kind": "ntfy", "topic": "me", "base_url": endpoint.url("")});
    let redirected = limited(&base, &file, Desktop::default(), 500);
    assert_eq!(output(&redirected, call("notify.send", message("me", "hi"))).await["kind"], "ntfy");
    assert_eq!(endpoint.last().body["topic"], "me");
}

#[tokio::test]
async fn me_shows_on_the_desktop_where_there_is_one() {
    let base = Base::new().await;
    let directory = std::env::temp_dir().join(format!("ordinaut-desktop-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&directory).unwrap();
    let program = directory.join("notify-send");
    std::fs::write(&program, format!("#!/bin/sh\nprintf '%s|' \"$@\" > {}/shown\n", directory.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let lookup = |name: &str| match name {
        "PATH" => Some(format!("{}:/usr/bin:/bin", directory.display()).into()),
        "DBUS_SESSION_BUS_ADDRESS" => Some("unix:path=/nowhere".into()),
        _ => None,
    };
    let desktop = Desktop::find(lookup, 0);
    let action = limited(&base, &json!({"channels": {"screen": {"kind": "desktop"}}}), desktop, 500);
    let with = json!({"channel": "me", "title": "-t", "text": "a <b> & \u{1b}c"});
    assert_eq!(output(&action, call("notify.send", with)).await["desktop"], true);
    let shown = std::fs::read_to_string(directory.join("shown")).unwrap();
    assert_eq!(shown, "--app-name=Ordinaut|--urgency=normal|--|-t|a &lt;b&gt; &amp; c|");
    assert_eq!(output(&action, call("notify.send", message("screen", "x"))).await["kind"], "desktop");
    std::fs::remove_dir_all(&directory).unwrap();

    let without = limited(&base, &json!({"channels": {"screen": {"kind": "desktop"}}}), Desktop::default(), 500);
    assert!(failure(&without, call("notify.send", message("screen", "x"))).await.message.contains("no desktop"));
}

#[tokio::test]
async fn one_more_than_a_days_notifications_is_denied_and_not_sent() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let action = limited(&base, &file(&endpoint), Desktop::default(), 2);
    for _ in 0..2 {
        output(&action, call("notify.send", message("team", "x"))).await;
    }
    let failure = failure(&action, call("notify.send", message("team", "x"))).await;
    assert_eq!(failure.kind, ErrorKind::Denied);
    assert!(failure.message.contains("2 notifications today"), "{failure:?}");
    assert_eq!(endpoint.seen().len(), 2);
}
