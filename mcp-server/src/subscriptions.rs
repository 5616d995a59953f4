//! Subscriptions: a client says once what it wants to hear of, and is told when that changes.
//!
//! `resources/subscribe` up to 2025-11-25, held by the session; `subscriptions/listen` from 2026-07-28, held by the
//! request. Either ends with whoever holds it. Who may read a resource may follow it, and is refused in the same
//! words. A notification carries an address and nothing else; a client that reads slowly gets one for many changes.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use ordinaut_store::versions::Version;
use rmcp::{
    ErrorData, Peer, RoleServer,
    model::{ResourceUpdatedNotificationParam, SubscriptionFilter},
    service::{RequestContext, SubscriptionContext},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    changes::{Crowded, Following, MOST, Subject, TooMany},
    error::ToolError,
    resources,
    server::OrdinautServer,
};

/// What one session subscribed to; empty until it does.
#[derive(Debug, Default)]
pub(crate) struct Session(Mutex<Option<Open>>);

#[derive(Debug)]
struct Open {
    following: Arc<Following>,
    _telling: AbortOnDropHandle<()>,
}

impl Session {
    /// Ends a subscription; one that there is not has ended already.
    pub(crate) fn unsubscribe(&self, uri: &str) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(open), Some(subject)) = (&*open, resources::subject(uri)) {
            open.following.remove(subject);
        }
    }
}

/// `resources/subscribe`.
pub(crate) async fn subscribe(
    server: &OrdinautServer,
    uri: &str,
    context: RequestContext<RoleServer>,
) -> Result<(), ErrorData> {
    let peer = context.peer.clone();
    let agent = server.principal(&context).map_err(resources::protocol_error)?.agent;
    let Some((subject, version)) = seen(server, uri, context).await? else { return Ok(()) };
    let mut session = server.session().0.lock().unwrap_or_else(PoisonError::into_inner);
    let open = match &mut *session {
        Some(open) => open,
        none => {
            let following = Arc::new(server.changes().follow(agent).map_err(crowded)?);
            let telling = AbortOnDropHandle::new(tokio::spawn(tell(peer, following.clone())));
            none.insert(Open { following, _telling: telling })
        }
    };
    open.following.add(subject, version).map_err(|error| ErrorData::invalid_params(error.to_string(), None))
}

fn crowded(error: Crowded) -> ErrorData {
    ErrorData::invalid_params(error.to_string(), None)
}

/// Tells a session's client until it is gone.
async fn tell(peer: Peer<RoleServer>, following: Arc<Following>) {
    loop {
        for subject in following.next().await {
            let Some(uri) = resources::uri(subject) else { continue };
            if peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await.is_err() {
                // The session is over, or about to be: it ends what it holds.
                return;
            }
        }
    }
}

/// What of a `subscriptions/listen` there is to hear of: what can change, up to the most that one may follow.
pub(crate) fn accepted(requested: &SubscriptionFilter) -> SubscriptionFilter {
    let mut seen = HashSet::new();
    let uris = requested.resource_subscriptions.iter().flatten();
    // A place is kept for the list.
    let uris = uris.filter(|uri| resources::subject(uri).is_some_and(|subject| seen.insert(subject))).take(MOST - 1);
    let mut accepted = SubscriptionFilter::builder().resource_subscriptions(uris).build();
    accepted.resources_list_changed = requested.resources_list_changed;
    accepted
}

/// `subscriptions/listen`, from its acknowledgment to its end.
pub(crate) async fn listen(server: &OrdinautServer, context: &SubscriptionContext) -> Result<(), ErrorData> {
    let request = context.request_context();
    let agent = server.principal(request).map_err(resources::protocol_error)?.agent;
    let following = server.changes().follow(agent).map_err(crowded)?;
    let too_many = |error: TooMany| ErrorData::invalid_params(error.to_string(), None);
    // It was acknowledged before anything was looked at: what changed in between is in a first update of each.
    let mut changed = Vec::new();
    for uri in context.accepted().resource_subscriptions.iter().flatten() {
        if let Some((subject, version)) = seen(server, uri, request.clone()).await? {
            following.add(subject, version).map_err(too_many)?;
            changed.push(subject);
        }
    }
    if context.accepted().resources_list_changed == Some(true) {
        let version = version_of(server, request, Subject::List).await.map_err(resources::protocol_error)?;
        following.add(Subject::List, version.expect("a list always is")).map_err(too_many)?;
        changed.push(Subject::List);
    }
    loop {
        for subject in changed {
            let told = match resources::uri(subject) {
                Some(uri) => context.sink().notify_resource_updated(uri).await,
                None => context.sink().notify_resource_list_changed().await,
            };
            if told.is_err() {
                // Whoever listened is gone.
                return Ok(());
            }
        }
        changed = tokio::select! {
            () = context.cancelled() => return Ok(()),
            () = server.drained() => return Ok(()),
            changed = following.next() => changed,
        };
    }
}

/// A resource that can change, as it is now; refused as reading it is.
///
/// The version first: what changes between the two is told.
async fn seen(
    server: &OrdinautServer,
    uri: &str,
    context: RequestContext<RoleServer>,
) -> Result<Option<(Subject, ordinaut_store::versions::Version)>, ErrorData> {
    let subject = resources::subject(uri);
    let version = match subject {
        Some(subject) => version_of(server, &context, subject).await.map_err(resources::protocol_error)?,
        None => None,
    };
    resources::read(server, uri, context).await?;
    Ok(subject.zip(version))
}

async fn version_of(
    server: &OrdinautServer,
    context: &RequestContext<RoleServer>,
    subject: Subject,
) -> Result<Option<Version>, ToolError> {
    let (store, caller, _turn) = server.reader(context).await?;
    let versions = match subject {
        Subject::Task(task) => store.versions(&caller, &[task], &[]).await.map(|it| it.of_task(task).cloned()),
        Subject::Run(run) => store.versions(&caller, &[], &[run]).await.map(|it| it.of_run(run).cloned()),
        Subject::List => store.version_of_list(&caller).await.map(Some),
    };
    versions.map_err(|error| ToolError::Fault(error.into()))
}
