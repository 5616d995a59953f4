//! Resources that the suite reads.

use rmcp::model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde_json::json;

use super::content;

const TEXT: &str = "test://static-text";
const BINARY: &str = "test://static-binary";
const WATCHED: &str = "test://watched-resource";
const TEMPLATE: (&str, &str) = ("test://template/", "/data");

pub(super) fn all() -> Vec<Resource> {
    [(TEXT, "text", "text/plain"), (BINARY, "binary", "image/png"), (WATCHED, "watched", "text/plain")]
        .map(|(uri, name, kind)| Resource::new(uri, name).with_description("A fixture").with_mime_type(kind))
        .into()
}

pub(super) fn templates() -> Vec<ResourceTemplate> {
    let (before, after) = TEMPLATE;
    let template = ResourceTemplate::new(format!("{before}{{id}}{after}"), "template");
    vec![template.with_description("A fixture").with_mime_type("application/json")]
}

/// Whether it is one that can be subscribed to.
pub(super) fn is_watched(uri: &str) -> bool {
    uri == WATCHED
}

/// What is at that address, if it is one of these.
pub(super) fn read(uri: &str) -> Option<ReadResourceResult> {
    let contents = match uri {
        TEXT => {
            ResourceContents::text("This is the content of the static text resource.", uri).with_mime_type("text/plain")
        }
        BINARY => ResourceContents::blob(content::PNG, uri).with_mime_type("image/png"),
        WATCHED => ResourceContents::text("It never changes.", uri).with_mime_type("text/plain"),
        uri => {
            let id = uri.strip_prefix(TEMPLATE.0)?.strip_suffix(TEMPLATE.1)?;
            let text = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            ResourceContents::text(text.to_string(), uri).with_mime_type("application/json")
        }
    };
    Some(ReadResourceResult::new(vec![contents]))
}
