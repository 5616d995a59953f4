//! One request to judged addresses, and what went wrong when it did.
//!
//! Every request has a client of its own that knows the judged addresses and nothing else: no resolver, no proxy,
//! no redirects, no kept connections. Building one is cheap because the TLS roots are shared; and a kept
//! connection would be worth little to steps that run hours apart, while its race with the server's closing
//! would turn sure failures into unknown outcomes.

use std::{error::Error, net::SocketAddr, sync::Arc, time::Duration};

use ordinaut_schema::run::{ErrorKind, StepFailure};
use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
};

use super::guard::Destination;
use crate::actions::tls::tls;

/// Answers every name with the judged addresses.
struct Judged(Vec<SocketAddr>);

impl Resolve for Judged {
    fn resolve(&self, _name: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

/// A client that can reach `destination` only.
pub(super) fn client(destination: &Destination, connect_timeout: Duration) -> Result<Client, StepFailure> {
    Client::builder()
        .tls_backend_preconfigured(tls())
        .dns_resolver(Arc::new(Judged(destination.addresses.clone())))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .connect_timeout(connect_timeout)
        .user_agent(concat!("Ordinaut/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| failure(&error, &destination.shown))
}

/// Types what the client reports. `sent` only where the request may have left.
pub(super) fn failure(error: &reqwest::Error, shown: &str) -> StepFailure {
    let cause = innermost(error);
    if error.is_builder() {
        StepFailure::new(ErrorKind::ClientError, format!("the request to {shown} could not be built: {cause}"))
    } else if error.is_connect() {
        StepFailure::new(ErrorKind::Connection, format!("no connection to {shown}: {cause}"))
    } else {
        StepFailure::new(ErrorKind::Connection, format!("the connection to {shown} was lost: {cause}")).sent(true)
    }
}

/// The last cause: the outer ones repeat the URL, which may hold credentials in its query.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    if cause.is::<reqwest::Error>() { "the client gave no cause".to_owned() } else { cause.to_string() }
}
