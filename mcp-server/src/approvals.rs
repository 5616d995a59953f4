//! The page behind an approval's link: looking decides nothing, only its form does.
//!
//! A link needs no token of an agent's: whoever holds it may decide one approval, once. It is made for a person
//! (`ordinaut approve --links`) and stands in nothing that a model reads. Everything on the page that comes from a run is
//! escaped, what could hide in it is written out, and the page may load, run and be framed by nothing.

use std::time::Duration;

use axum::{
    Router,
    body::to_bytes,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use ordinaut_schema::action::parking::ApprovalState;
use ordinaut_store::{
    Caller, Store, StoreError,
    approvals::{Approval, Authority, Decision},
};
use tracing::{error, warn};

use crate::{backend::Backend, request_id::RequestId};

mod page;

/// What a filled form may weigh.
const FORM_BYTES: usize = 64 * 1024;
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What the page needs.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    pub(crate) backend: Backend,
    /// How long a filled form may take to arrive.
    pub(crate) body_timeout: Duration,
}

pub(crate) fn routes(pages: Pages) -> Router {
    Router::new()
        .route("/approvals/style.css", get(style))
        .route("/approvals/{token}", get(show).post(decide))
        .with_state(pages)
}

/// Why there is nothing to decide here.
#[derive(Debug)]
enum Refusal {
    NoLink,
    NotReady,
    Form(&'static str),
    /// What the store said.
    Late(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::NoLink => (
                StatusCode::NOT_FOUND,
                "This link leads to no approval. `ordinaut approve --links` makes new ones.".to_owned(),
            ),
            Self::NotReady => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Ordinaut cannot answer at the moment. Try again in a minute.".to_owned(),
            ),
            Self::Form(what) => (StatusCode::BAD_REQUEST, format!("Nothing was decided: {what}.")),
            Self::Late(reason) => (StatusCode::CONFLICT, format!("Nothing was decided: {reason}.")),
        };
        html(status, page::words(&text))
    }
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], page::STYLE).into_response()
}

async fn show(State(pages): State<Pages>, Path(token): Path<String>) -> Result<Response, Refusal> {
    let store = pages.store()?;
    let approval = find(&store, &token).await?;
    let now = store.now().await.map_err(|error| unavailable(&error))?;
    let shown = match approval.state {
        ApprovalState::Waiting if now < approval.expires_at => page::form(&approval),
        _ => page::over(&approval),
    };
    Ok(html(StatusCode::OK, shown))
}

async fn decide(State(pages): State<Pages>, Path(token): Path<String>, request: Request) -> Result<Response, Refusal> {
    let body = tokio::time::timeout(pages.body_timeout, to_bytes(request.into_body(), FORM_BYTES));
    let body = body.await.map_err(|_elapsed| Refusal::Form("the form did not arrive in time"))?;
    let body = body.map_err(|_| Refusal::Form("the form could not be read, or is too long"))?;
    let store = pages.store()?;
    let approval = find(&store, &token).await?;
    let decision = read(&approval, &body).map_err(Refusal::Form)?;
    let http_request_id = RequestId::current().map(|id| id.to_string());
    let by = Caller { http_request_id, ..Caller::of(approval.agent, "link") };
    match store.answer_approval(&by, Authority::Person, approval.id, &decision).await {
        Ok(answered) => Ok(html(StatusCode::OK, page::over(&answered))),
        Err(StoreError::ApprovalRefused { reason, .. }) => Err(Refusal::Late(reason)),
        Err(error) => Err(unavailable(&error)),
    }
}

impl Pages {
    fn store(&self) -> Result<Store, Refusal> {
        self.backend.now().map(|services| services.store).map_err(|why| {
            warn!(%why, "a link was followed while there are no services");
            Refusal::NotReady
        })
    }
}

async fn find(store: &Store, token: &str) -> Result<Approval, Refusal> {
    let found = store.approval_of_link(token).await.map_err(|error| unavailable(&error))?;
    found.ok_or(Refusal::NoLink)
}

fn unavailable(error: &StoreError) -> Refusal {
    error!(error = error as &dyn std::error::Error, "an approval's page has no answer");
    Refusal::NotReady
}

/// What the form says.
fn read(approval: &Approval, body: &[u8]) -> Result<Decision, &'static str> {
    let (mut approve, mut comment, mut shown_sha256, mut items) = (None, None, String::new(), Vec::new());
    for (name, value) in url::form_urlencoded::parse(body) {
        match &*name {
            "decision" if value == "approve" => approve = Some(true),
            "decision" if value == "reject" => approve = Some(false),
            "comment" if !value.trim().is_empty() => comment = Some(value.trim().to_owned()),
            "shown_sha256" => shown_sha256 = value.into_owned(),
            "item" => items.push(value.parse().map_err(|_| "the form's items are no numbers")?),
            _ => {}
        }
    }
    let approve = approve.ok_or("the form has no decision")?;
    let has_items = approval.items().is_some_and(|items| !items.is_empty());
    if approve && has_items && items.is_empty() {
        return Err("no item is chosen; choose at least one, or reject");
    }
    Ok(Decision { approve, comment, items: (approve && has_items).then_some(items), shown_sha256 })
}

fn html(status: StatusCode, page: String) -> Response {
    let mut response = (status, page).into_response();
    // `same-origin`, so that the form's request says where it comes from; the page leads nowhere else.
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
