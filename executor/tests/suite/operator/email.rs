//! `notify.send` by e-mail, through a mail server.

use ordinaut_executor::actions::notify::{Desktop, NotifySend};
use ordinaut_schema::{limits::Limits, run::ErrorKind};
use serde_json::{Value, json};

use super::{
    endpoint::{Base, call, failure, message, output},
    smtp::MailServer,
};

fn mail(server: &MailServer, more: Value) -> Value {
    let mut channel = json!({
        "kind": "email", "host": "127.0.0.1", "port": server.address.port(), "tls": "none",
        "from": "Ordinaut <ordinaut@example.com>", "to": ["ada@example.com", "bo@example.com"],
    });
    channel.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "channels": { "mail": channel } })
}

fn action(base: &Base, file: &Value) -> NotifySend {
    let standing = base.standing(file);
    NotifySend::new(standing, base.store.clone(), base.secrets(), Desktop::default(), &Limits::DEFAULT)
}

#[tokio::test]
async fn a_mail_arrives_and_a_repeat_has_the_same_message_id() {
    let (base, server) = (Base::new().await, MailServer::open("250 ok").await);
    let action = action(&base, &mail(&server, json!({"username": "ada", "password": "hunter2-mail"})));
    let with = json!({"channel": "mail", "title": "Wärme\nheute", "text": "Line one\n.\nLine three"});
    let said = output(&action, call("notify.send", with.clone())).await;
    assert_eq!((&said["channel"], &said["kind"], &said["delivered"]), (&json!("mail"), &json!("email"), &json!(true)));
    output(&action, call("notify.send", with.clone())).await;
    let mut other = call("notify.send", with);
    other.idempotency_key = "root/other".to_owned();
    output(&action, other).await;

    let mails = server.mails();
    assert_eq!(mails.len(), 3);
    assert!(mails[0].from.contains("<ordinaut@example.com>"), "{}", mails[0].from);
    assert_eq!(mails[0].to.len(), 2);
    assert!(mails[0].text.contains("\r\n\r\nLine one\r\n"), "{}", mails[0].text);
    assert!(mails[0].text.contains("Line three") && mails[0].header("Subject").starts_with("=?utf-8?"));
    assert_eq!(mails[0].header("Message-ID"), said["message_id"].as_str().unwrap());
    assert_eq!(mails[0].header("Message-ID"), mails[1].header("Message-ID"));
    assert_ne!(mails[0].header("Message-ID"), mails[2].header("Message-ID"));
    assert_eq!(mails[0].header("Auto-Submitted"), "auto-generated");
}

#[tokio::test]
async fn a_server_without_encryption_is_given_neither_password_nor_mail() {
    let (base, server) = (Base::new().await, MailServer::open("250 ok").await);
    let secure = json!({"tls": "starttls", "username": "ada", "password": "hunter2-mail"});
    let failure = failure(&action(&base, &mail(&server, secure)), call("notify.send", message("mail", "x"))).await;
    assert!(!failure.kind.is_transient(), "{failure:?}");
    assert!(server.mails().is_empty());
    let said = server.said().join("\n");
    assert!(said.starts_with("EHLO") && !said.contains("AUTH") && !said.contains("MAIL"), "{said}");
}

#[tokio::test]
async fn what_a_mail_server_refuses_is_typed_and_holds_no_password() {
    let base = Base::new().await;
    for (recipient, password, kind, part) in [
        ("550 5.1.1 nobody of that name", "hunter2-mail", ErrorKind::ClientError, "nobody of that name"),
        ("451 4.3.0 later", "hunter2-mail", ErrorKind::ServerError, "later"),
        ("250 ok", "hunter2-wrong", ErrorKind::ClientError, "not the password"),
    ] {
        let server = MailServer::open(recipient).await;
        let action = action(&base, &mail(&server, json!({"username": "ada", "password": password})));
        let failure = failure(&action, call("notify.send", message("mail", "x"))).await;
        assert_eq!(failure.kind, kind, "{failure:?}");
        assert!(failure.message.contains(part) && !failure.message.contains("hunter2"), "{failure:?}");
        // As it was sent: "\0ada\0hunter2-wrong" in base64.
        assert!(!failure.message.contains("odW50ZXIyLXdyb25"), "{failure:?}");
        assert!(server.mails().is_empty());
    }
}

#[tokio::test]
async fn a_mail_server_that_is_not_there_is_a_connection_failure() {
    let (base, server) = (Base::new().await, MailServer::open("250 ok").await);
    let mut file = mail(&server, json!({}));
    // A port that was free a moment ago.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    file["channels"]["mail"]["port"] = json!(free);
    let failure = failure(&action(&base, &file), call("notify.send", message("mail", "x"))).await;
    assert_eq!(failure.kind, ErrorKind::Connection, "{failure:?}");
}
