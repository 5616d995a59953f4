//! A TCP proxy before PostgreSQL: it cuts right around a COMMIT, delays, falls silent, and can be led elsewhere.
//!
//! `COMMIT` is sent as a statement by itself, so it is found in the stream by its bytes. Cut *after* it, the server
//! commits and its word never arrives: who asked must not take that for a failure. Cut *before* it, the transaction is
//! rolled back: who asked must not take that for done.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream, UnixStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
        unix,
    },
    sync::watch,
};

const COMMIT: &[u8] = b"COMMIT\0";
const BUFFER: usize = 64 * 1024;
/// After a commit was sent: the server has done it when it has said so, and this is how long that is waited for.
const SAID_LIMIT: Duration = Duration::from_secs(5);

/// What the link does to what goes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Fair,
    /// Each message takes so long in each direction.
    Slow(Duration),
    /// Nothing goes through and nothing is closed: a link that is half open.
    Silent,
}

/// Where a link is cut, seen from the COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Before,
    After,
}

/// Cheap to clone; all clones are one link.
#[derive(Debug, Clone)]
pub struct Link {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: Mutex<PathBuf>,
    weather: watch::Sender<Weather>,
    /// Counts up at each cut of everything.
    cuts: watch::Sender<u64>,
    /// The cuts that wait for a COMMIT, and how many were made.
    orders: Mutex<(Vec<Cut>, u64)>,
}

impl Link {
    /// Opens a link to the server whose socket is `upstream`.
    pub async fn open(upstream: PathBuf) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("open a link")?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            weather: watch::Sender::new(Weather::Fair),
            cuts: watch::Sender::new(0),
            orders: Mutex::default(),
        });
        let link = Self { address: listener.local_addr()?, shared: shared.clone() };
        // Ends with the lab's runtime.
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, shared.clone()));
            }
        });
        Ok(link)
    }

    pub fn set(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// Cuts every connection that there is.
    pub fn cut_all(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts the connection that commits next.
    pub fn cut_commit(&self, cut: Cut) {
        self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner).0.push(cut);
    }

    /// How many commits were cut.
    pub fn commits_cut(&self) -> u64 {
        self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Leads new connections to another server.
    pub fn lead_to(&self, upstream: PathBuf) {
        *self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
    }
}

impl Shared {
    fn take_order(&self) -> Option<Cut> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = orders.0.pop()?;
        orders.1 += 1;
        Some(cut)
    }

    /// Waits out what the weather does to one message.
    async fn pass(&self) {
        let mut weather = self.weather.subscribe();
        let now = weather.wait_for(|weather| *weather != Weather::Silent).await.map_or(Weather::Fair, |now| *now);
        if let Weather::Slow(delay) = now {
            tokio::time::sleep(delay).await;
        }
    }
}

async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    cuts.mark_unchanged();
    let upstream = shared.upstream.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Ok(server) = UnixStream::connect(upstream).await else { return };
    // Without it each short message waits for an acknowledgement.
    let _ = client.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let commits = watch::Sender::new(false);
    let cut = commits.subscribe();
    // Whichever ends first takes the others with it, and both sockets are closed.
    tokio::select! {
        _ = cuts.changed() => {}
        () = ask(from_client, to_server, &shared, &commits) => {}
        () = reply(from_server, to_client, &shared, cut) => {}
    }
}

async fn ask(
    mut client: OwnedReadHalf,
    mut server: unix::OwnedWriteHalf,
    shared: &Shared,
    commits: &watch::Sender<bool>,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let Ok(read @ 1..) = client.read(&mut buffer).await else { return };
        shared.pass().await;
        let message = &buffer[..read];
        let cut = if message.windows(COMMIT.len()).any(|window| window == COMMIT) { shared.take_order() } else { None };
        if cut == Some(Cut::Before) {
            return;
        }
        if cut == Some(Cut::After) {
            commits.send_replace(true);
        }
        if server.write_all(message).await.is_err() {
            return;
        }
        if cut == Some(Cut::After) {
            // Until `reply` has heard the server, or this is over: either ends the connection.
            tokio::time::sleep(SAID_LIMIT).await;
            return;
        }
    }
}

async fn reply(
    mut server: unix::OwnedReadHalf,
    mut client: OwnedWriteHalf,
    shared: &Shared,
    cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let Ok(read @ 1..) = server.read(&mut buffer).await else { return };
        if *cut.borrow() {
            return;
        }
        shared.pass().await;
        if client.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
