//! E-mail by SMTP: one plain message, over TLS unless the operator says otherwise.
//!
//! Its Message-ID comes of the call's key, so that mail programs show a repeated message once. STARTTLS is demanded,
//! not asked for: a server that does not offer it is given neither a password nor a message.

use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Message as Mail, Tokio1Executor,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::{
        Error as SmtpError,
        authentication::Credentials,
        client::{Tls as Encryption, TlsParameters},
        extension::ClientId,
    },
};
use ordinaut_schema::{
    operator::{Email, Tls},
    run::{ErrorKind, StepFailure},
    secret::Redactor,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{
    Message, Sending,
    message::{Measure, cut, one_line},
};
use std::sync::atomic::Ordering;

const MOST_SUBJECT: usize = 150;
/// RFC 5321 asks for no more of a server's line; nobody reads more of a notification.
const MOST_TEXT: usize = 200_000;

pub(super) async fn send(email: &Email, sending: Sending<'_>) -> Result<Value, StepFailure> {
    let (mail, id) = compose(email, sending.message, &sending.call.idempotency_key)?;
    let shown = format!("{}:{}", email.host, email.port);
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&email.host)
        .port(email.port)
        .tls(encryption(email).map_err(|error| refused(&shown, &error, &Redactor::default()))?)
        .hello_name(ClientId::Domain("ordinaut".to_owned()))
        .timeout(Some(sending.deadline.saturating_duration_since(Instant::now())));
    if let (Some(username), Some(password)) = (&email.username, &email.password) {
        let password = sending.used.fill(password, sending.secrets).await?;
        transport = transport.credentials(Credentials::new(username.clone(), password));
    }
    sending.sent.store(true, Ordering::Relaxed);
    let sent = transport.build().send(mail).await;
    sent.map_err(|error| refused(&shown, &error, sending.used.redactor()))?;
    Ok(json!({ "message_id": id }))
}

fn encryption(email: &Email) -> Result<Encryption, SmtpError> {
    let parameters = || TlsParameters::new_rustls(email.host.clone());
    Ok(match email.tls {
        Tls::StartTls => Encryption::Required(parameters()?),
        Tls::Implicit => Encryption::Wrapper(parameters()?),
        Tls::None => Encryption::None,
    })
}

/// The message, and its Message-ID.
fn compose(email: &Email, message: &Message, key: &str) -> Result<(Mail, String), StepFailure> {
    let unfit = |what: &str| StepFailure::new(ErrorKind::ClientError, format!("{what}; the operator mends it"));
    let mailbox = |text: &str, field: &str| {
        text.parse::<Mailbox>().map_err(|_| unfit(&format!("`{field}` holds an address that no mail can be sent with")))
    };
    let from = mailbox(&email.from, "from")?;
    let id = message_id(key, &from.email);
    let subject = message.heading().unwrap_or_else(|| one_line(&message.text));
    let mut mail = Mail::builder()
        .from(from)
        .subject(cut(&subject, MOST_SUBJECT, Measure::Chars))
        .message_id(Some(id.clone()))
        // Out-of-office programs are not to answer.
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
        .header(ContentType::TEXT_PLAIN);
    for to in &email.to {
        mail = mail.to(mailbox(to, "to")?);
    }
    let mail = mail.body(cut(&message.text, MOST_TEXT, Measure::Chars)).map_err(|_| unfit("no mail could be made"))?;
    Ok((mail, id))
}

fn message_id(key: &str, from: &Address) -> String {
    let digest = hex::encode(Sha256::digest(key.as_bytes()));
    format!("<{}@{}>", &digest[..32], from.domain())
}

/// What a failure of SMTP means. The server's own words are told; a password is never among what we sent in clear text.
fn refused(shown: &str, error: &SmtpError, redactor: &Redactor) -> StepFailure {
    let (kind, sent) = if error.is_timeout() {
        (ErrorKind::Timeout, true)
    } else if error.is_permanent() || error.is_client() || error.is_tls() {
        (ErrorKind::ClientError, false)
    } else if error.is_transient() {
        (ErrorKind::ServerError, false)
    } else {
        // No connection, or one that was lost: the client does not tell them apart.
        (ErrorKind::Connection, true)
    };
    let told: String = one_line(&redactor.text(&error.to_string())).chars().take(300).collect();
    StepFailure::new(kind, format!("the mail server {shown}: {told}")).sent(sent)
}
