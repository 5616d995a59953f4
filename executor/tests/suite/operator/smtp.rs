//! A mail server of a test's own: small, and as strict as it is told to be.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// One message that it took.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) text: String,
}

impl Mail {
    pub(crate) fn header(&self, name: &str) -> String {
        let prefix = format!("{name}: ");
        let line = self.text.lines().find(|line| line.starts_with(&prefix));
        line.map(|line| line[prefix.len()..].to_owned()).unwrap_or_default()
    }
}

/// What is waited for between a message that it took and its saying so.
type Wait = Arc<dyn Fn(Mail) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct MailServer {
    pub(crate) address: SocketAddr,
    /// What it answers to a recipient.
    recipient: &'static str,
    mails: Arc<Mutex<Vec<Mail>>>,
    /// Every line that it was sent outside a message.
    said: Arc<Mutex<Vec<String>>>,
    wait: Wait,
}

impl MailServer {
    pub(crate) async fn open(recipient: &'static str) -> Self {
        Self::waiting(recipient, Arc::new(|_| Box::pin(std::future::ready(())))).await
    }

    /// One that says that it took a message when it is let, and not before.
    pub(crate) async fn waiting(recipient: &'static str, wait: Wait) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, recipient, mails: Arc::default(), said: Arc::default(), wait };
        let every = server.clone();
        // Ends with the test's runtime.
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(every.clone().talk(stream));
            }
        });
        server
    }

    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
    }

    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    async fn talk(self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut mail = Mail { from: String::new(), to: Vec::new(), text: String::new() };
        stream.write_all(b"220 test ESMTP\r\n").await?;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_owned();
            self.said.lock().unwrap().push(line.clone());
            let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            let answer = match verb.as_str() {
                "EHLO" => "250-test\r\n250-8BITMIME\r\n250 AUTH PLAIN",
                // ada, hunter2-mail
                "AUTH" if line.ends_with("AGFkYQBodW50ZXIyLW1haWw=") => "235 welcome",
                "AUTH" => &refusal(&line),
                "MAIL" => {
                    mail.from = line;
                    "250 ok"
                }
                "RCPT" => {
                    mail.to.push(line);
                    self.recipient
                }
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    loop {
                        let mut part = String::new();
                        stream.read_line(&mut part).await?;
                        if part == ".\r\n" {
                            break;
                        }
                        mail.text.push_str(&part);
                    }
                    self.mails.lock().unwrap().push(mail.clone());
                    (self.wait)(mail.clone()).await;
                    "250 taken"
                }
                "QUIT" => "221 bye",
                _ => "502 not here",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
    }
}

/// Of a password, by a server that gives away what it was given.
fn refusal(line: &str) -> String {
    let given = line.rsplit(' ').next().unwrap_or_default();
    let plain = STANDARD.decode(given).unwrap_or_default();
    let plain = String::from_utf8_lossy(&plain).replace('\0', " ");
    format!("535 5.7.8 that is not the password: {plain} {given}")
}
