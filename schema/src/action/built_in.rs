//! The descriptors of the built-in actions.
//!
//! Input schemas are of `with` before rendering, and flat: a model reads them.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::{Descriptor, Effect, outward};

mod parking;

static ALL: LazyLock<Vec<Descriptor>> = LazyLock::new(|| {
    let mut all: Vec<_> = HTTP.iter().map(http).collect();
    all.extend([outward::llm_generate(), outward::notify_send(), inbox_post(), event_publish()]);
    all.extend(parking::all());
    all.extend([data_transform(), data_assert(), outward::shell_exec()]);
    all
});

pub(super) fn all() -> &'static [Descriptor] {
    &ALL
}

struct Http {
    name: &'static str,
    sentence: &'static str,
    effect: Effect,
    /// Whether `method` may be chosen.
    any_method: bool,
    has_body: bool,
}

const HTTP: [Http; 7] = [
    Http {
        name: "http.request",
        sentence: "Calls an HTTP endpoint with any method and returns {status, headers, body}, JSON bodies parsed.",
        effect: Effect::Once,
        any_method: true,
        has_body: true,
    },
    Http {
        name: "http.get",
        sentence: "Fetches a URL with GET and returns {status, headers, body}, JSON bodies parsed.",
        effect: Effect::Idempotent,
        any_method: false,
        has_body: false,
    },
    Http {
        name: "http.post",
        sentence: "Sends a POST request and returns {status, headers, body}, JSON bodies parsed.",
        effect: Effect::Once,
        any_method: false,
        has_body: true,
    },
    Http {
        name: "http.put",
        sentence: "Sends a PUT request and returns {status, headers, body}, JSON bodies parsed.",
        effect: Effect::Idempotent,
        any_method: false,
        has_body: true,
    },
    Http {
        name: "http.patch",
        sentence: "Sends a PATCH request and returns {status, headers, body}, JSON bodies parsed.",
        effect: Effect::Once,
        any_method: false,
        has_body: true,
    },
    Http {
        name: "http.delete",
        sentence: "Sends a DELETE request and returns {status, headers, body}, JSON bodies parsed.",
        effect: Effect::Idempotent,
        any_method: false,
        has_body: true,
    },
    Http {
        name: "http.head",
        sentence: "Asks for a URL's headers with HEAD and returns {status, headers, body: null}.",
        effect: Effect::Idempotent,
        any_method: false,
        has_body: false,
    },
];

fn http(action: &Http) -> Descriptor {
    let scalar = json!(["string", "number", "boolean"]);
    let mut properties = Map::new();
    if action.any_method {
        properties.insert(
            "method".to_owned(),
            json!({
                "type": "string",
                "enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
                "description": "The HTTP method, in capitals",
            }),
        );
    }
    let common = json!({
        "url": {"type": "string", "minLength": 1, "description": "http:// or https://"},
        "query": {
            "type": "object",
            "additionalProperties": {
                "type": ["string", "number", "boolean", "array"],
                "items": {"type": scalar},
            },
            "description": "Appended to the URL, encoded; a list repeats its key",
        },
        "headers": {"type": "object", "additionalProperties": {"type": scalar}},
        "expected_status": {
            "type": ["integer", "string", "array"],
            "minimum": 100,
            "maximum": 599,
            "pattern": "^[1-5]xx$|^[1-5][0-9][0-9]$",
            "minItems": 1,
            "items": {"type": ["integer", "string"], "minimum": 100, "maximum": 599, "pattern": "^[1-5]xx$|^[1-5][0-9][0-9]$"},
            "description": "What counts as success: a status, a class such as 2xx, or a list; any 2xx by default",
        },
    });
    let bodies = json!({
        "json": {"description": "The body, sent as JSON"},
        "form": {
            "type": "object",
            "additionalProperties": {"type": scalar},
            "description": "The body, sent as an HTML form",
        },
        "body": {"type": "string", "description": "The body, sent as text; set its Content-Type in headers"},
    });
    let groups = [Some(common), action.has_body.then_some(bodies)];
    properties.extend(
        groups
            .into_iter()
            .flatten()
            .filter_map(|group| match group {
                Value::Object(fields) => Some(fields),
                _ => None,
            })
            .flatten(),
    );

    let mut example = json!({"url": "https://api.example.com/items"});
    if action.any_method {
        example["method"] = json!("GET");
    } else if action.has_body && action.name != "http.delete" {
        example["json"] = json!({"name": "${params.name}"});
    } else {
        example["query"] = json!({"city": "${params.city}"});
        if action.name == "http.delete" {
            example = json!({"url": "https://api.example.com/items/${params.id}", "expected_status": [204, 404]});
        }
    }
    Descriptor {
        name: action.name.to_owned(),
        sentence: action.sentence.to_owned(),
        input_schema: object(Value::Object(properties), if action.any_method { &["method", "url"] } else { &["url"] }),
        example,
        effect: action.effect,
    }
}

fn inbox_post() -> Descriptor {
    Descriptor {
        name: "inbox.post".to_owned(),
        sentence: "Leaves a message that the assistant picks up with check_inbox.".to_owned(),
        input_schema: object(
            json!({
                "text": {"type": "string", "minLength": 1, "description": "The message"},
                "title": {"type": "string", "maxLength": 200, "description": "A short heading"},
                "level": {"type": "string", "enum": ["info", "warning", "error"], "default": "info"},
            }),
            &["text"],
        ),
        example: json!({"title": "Morning briefing", "text": "Hot today: ${steps.weather.body.temperature}°C"}),
        effect: Effect::Idempotent,
    }
}

fn event_publish() -> Descriptor {
    Descriptor {
        name: "event.publish".to_owned(),
        sentence: "Publishes an event, which starts every task of this agent that listens to its topic.".to_owned(),
        input_schema: object(
            json!({
                "topic": {"type": "string", "minLength": 1, "description": "Segments joined by dots: user.email.received"},
                "payload": {"description": "Any JSON; listeners read it as event.payload"},
            }),
            &["topic"],
        ),
        example: json!({"topic": "report.ready", "payload": {"rows": "${length(steps.report.body)}"}}),
        effect: Effect::Idempotent,
    }
}

fn data_transform() -> Descriptor {
    Descriptor {
        name: "data.transform".to_owned(),
        sentence: "Reshapes data with a JMESPath expression and returns its value.".to_owned(),
        input_schema: object(
            json!({
                "expr": {
                    "type": "string",
                    "minLength": 1,
                    "description": "JMESPath, without ${…}: over `input` where that is given, else over what templates \
                                    see (steps, params, event, now, …)",
                },
                "input": {"description": "The document that expr reads; templates work here"},
            }),
            &["expr"],
        ),
        example: json!({"input": "${steps.orders.body}", "expr": "items[?total > 100].{id: id, total: total}"}),
        effect: Effect::Pure,
    }
}

fn data_assert() -> Descriptor {
    Descriptor {
        name: "data.assert".to_owned(),
        sentence: "Fails the step with a message unless a condition holds.".to_owned(),
        input_schema: object(
            json!({
                "that": {
                    "type": ["string", "boolean"],
                    "description": "A JMESPath condition, bare or in ${…}, judged as `if` is",
                },
                "message": {"type": "string", "minLength": 1, "description": "What the failure says"},
            }),
            &["that", "message"],
        ),
        example: json!({"that": "length(steps.orders.body.items) > 0", "message": "No orders came back"}),
        effect: Effect::Pure,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "called with what `json!` makes")]
pub(super) fn object(properties: Value, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}
