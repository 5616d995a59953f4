//! The descriptors of what reaches people, models and programs through the operator's configuration.

use serde_json::json;

use super::{Descriptor, Effect, built_in::object};

pub(super) fn llm_generate() -> Descriptor {
    let mut input_schema = object(
        json!({
            "instruction": {"type": "string", "minLength": 1, "description": "What the model is to do"},
            "model": {
                "type": "string",
                "minLength": 1,
                "description": "One of the operator's models, by its name there; the default one when left out",
            },
            "schema": {
                "type": "object",
                "description": "JSON Schema 2020-12 that the answer has to fit; it then is JSON, and its fields are outputs",
            },
            "max_tokens": {
                "type": "integer",
                "minimum": 1,
                "description": "The most tokens of the answer; the operator's limit at most",
            },
            "system": {"type": "string", "description": "Who the model is to be; seldom needed"},
        }),
        &["instruction"],
    );
    // Whatever else stands there is what the instruction is about.
    input_schema["additionalProperties"] = json!({
        "description": "Context: any further field is given to the model as data, under its name",
    });
    Descriptor {
        name: "llm.generate".to_owned(),
        sentence:
            "Asks a language model of the operator's; further fields are its context. Returns {text, json?, usage, \
                   model}, and the fields of a JSON answer at the top."
                .to_owned(),
        input_schema,
        example: json!({
            "instruction": "Say in two sentences whether to take an umbrella",
            "schema": {
                "type": "object",
                "properties": {"umbrella": {"type": "boolean"}, "why": {"type": "string"}},
                "required": ["umbrella", "why"],
                "additionalProperties": false,
            },
            "forecast": "${steps.weather.body}",
        }),
        effect: Effect::Idempotent,
    }
}

pub(super) fn notify_send() -> Descriptor {
    Descriptor {
        name: "notify.send".to_owned(),
        sentence: "Sends a message to a person through a channel of the operator's; `me` always exists.".to_owned(),
        input_schema: object(
            json!({
                "channel": {
                    "type": "string",
                    "minLength": 1,
                    "description": "Where to: `me`, or a channel that the operator configured",
                },
                "text": {"type": "string", "minLength": 1, "description": "The message"},
                "title": {"type": "string", "maxLength": 200, "description": "A short heading"},
                "level": {"type": "string", "enum": ["info", "warning", "error"], "default": "info"},
            }),
            &["channel", "text"],
        ),
        example: json!({"channel": "me", "title": "Weather", "text": "Hot today: ${steps.weather.body.temperature}°C"}),
        // A repeat shows the message twice, and that is better than not at all.
        effect: Effect::Idempotent,
    }
}

pub(super) fn shell_exec() -> Descriptor {
    Descriptor {
        name: "shell.exec".to_owned(),
        sentence:
            "Runs a command that the operator allow-listed and this agent was granted by its id, without a shell; \
                   returns {exit_code, stdout, stderr}, and `json` where stdout is a JSON object or list."
                .to_owned(),
        input_schema: object(
            json!({
                "command": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The id of one of the operator's commands; what it runs stands there",
                },
                "args": {
                    "type": "array",
                    "maxItems": 100,
                    "items": {"type": ["string", "number", "boolean"]},
                    "description": "Further arguments, each passed as it is, where the operator lets the command take any",
                },
                "stdin": {
                    "description": "What the program reads, where the operator lets it: a text as it is, else as JSON",
                },
                "exit_codes": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"type": "integer", "minimum": 0, "maximum": 255},
                    "default": [0],
                    "description": "What counts as success",
                },
            }),
            &["command"],
        ),
        example: json!({"command": "backup"}),
        effect: Effect::Once,
    }
}
