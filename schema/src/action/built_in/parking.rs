//! Descriptors of the actions that park a run: waits, approvals, sub-runs.

use serde_json::json;

use super::{Descriptor, Effect, object};

pub(super) fn all() -> [Descriptor; 4] {
    [wait_for(), wait_until(), approval_request(), task_run()]
}

fn wait_for() -> Descriptor {
    Descriptor {
        name: "wait.for".to_owned(),
        sentence: "Waits for a while without holding anything up, and returns {waited_until}.".to_owned(),
        input_schema: object(
            json!({
                "duration": {
                    "type": ["string", "integer"],
                    "description": "90s, 15m, 2h, 3d, at most 366d; a number is seconds",
                },
            }),
            &["duration"],
        ),
        example: json!({"duration": "2h"}),
        effect: Effect::Idempotent,
    }
}

fn wait_until() -> Descriptor {
    Descriptor {
        name: "wait.until".to_owned(),
        sentence: "Waits until an instant without holding anything up, and returns {waited_until}; one that has gone \
                   by is not waited for."
            .to_owned(),
        input_schema: object(
            json!({
                "until": {
                    "type": "string",
                    "minLength": 1,
                    "description": "An instant, or a local date and time in the task's zone, at most 366 days ahead",
                },
            }),
            &["until"],
        ),
        example: json!({"until": "${format_time(now, '%F')}T18:00"}),
        effect: Effect::Idempotent,
    }
}

fn approval_request() -> Descriptor {
    Descriptor {
        name: "approval.request".to_owned(),
        sentence: "Waits until a person decides, and returns {status, approved_items, comment, by}; status is \
                   approved, rejected or timed_out. A rejection does not fail the step: test status in `if`."
            .to_owned(),
        input_schema: object(
            json!({
                "message": {"type": "string", "minLength": 1, "description": "What the person is asked"},
                "data": {
                    "description": "What is to be approved, shown as it is; of a list, single items can be approved",
                },
                "timeout": {
                    "type": ["string", "integer"],
                    "default": "24h",
                    "description": "How long to wait for an answer, at most 366d",
                },
                "on_timeout": {
                    "type": "string",
                    "enum": ["reject", "approve", "fail"],
                    "default": "reject",
                    "description": "What it counts as when nobody answers: reject (status timed_out), approve, or fail \
                                    (the step fails)",
                },
                "channel": {
                    "type": "string",
                    "minLength": 1,
                    "description": "Where a person is told that something waits for them, beside the inbox, such as me: \
                                    once, with a link to decide by where the operator set `public_url`",
                },
            }),
            &["message"],
        ),
        example: json!({
            "message": "Pay these orders?", "data": "${steps.orders.body}", "timeout": "4h", "channel": "me",
        }),
        effect: Effect::Idempotent,
    }
}

fn task_run() -> Descriptor {
    Descriptor {
        name: "task.run".to_owned(),
        sentence: "Runs another of this agent's tasks and returns its output; if that run fails, so does the step."
            .to_owned(),
        input_schema: object(
            json!({
                "task": {"type": "string", "minLength": 1, "description": "The other task's title or id"},
                "params": {"type": "object", "description": "Set over the other task's params, for this run"},
                "wait": {
                    "type": "boolean",
                    "default": true,
                    "description": "Whether to wait for its end; without, the step returns {run} at once",
                },
            }),
            &["task"],
        ),
        example: json!({"task": "Collect figures", "params": {"month": "${format_time(now, '%Y-%m')}"}}),
        effect: Effect::Idempotent,
    }
}
