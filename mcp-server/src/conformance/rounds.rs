//! Tools that ask by answering, and are called again with what they asked for: revisions from 2026-07-28 on.
#![expect(deprecated, reason = "the suite still asks for samples and roots, which this revision drops")]

use rmcp::{
    ErrorData,
    model::{
        CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock, CreateMessageResult, ElicitResult,
        ElicitationAction, InputRequest, InputRequests, InputRequiredResult, InputResponses, ListRootsResult,
        RequestStateCodec, SamplingCapability,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// What a call brings along.
pub(super) struct Round<'a> {
    pub(super) responses: InputResponses,
    pub(super) state: Option<String>,
    pub(super) client: ClientCapabilities,
    pub(super) states: &'a RequestStateCodec,
}

/// What a question is known by when its answer comes: of which tool, and which in turn.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    tool: String,
    question: u8,
}

/// The answer of the tool of that name, if it is one of these.
pub(super) fn answer(tool: &str, round: &Round<'_>) -> Option<Result<CallToolResponse, ErrorData>> {
    Some(match tool {
        "test_missing_capability" => round.needs_sampling(),
        "test_input_required_result_elicitation" | "test_streaming_elicitation" => Ok(round.name()),
        "test_input_required_result_sampling" => Ok(round.sample()),
        "test_input_required_result_list_roots" => Ok(round.roots()),
        "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => round.confirm(tool),
        "test_input_required_result_multiple_inputs" => round.several(tool),
        "test_input_required_result_multi_round" => round.twice(tool),
        "test_input_required_result_capabilities" => Ok(round.capable()),
        _ => return None,
    })
}

impl Round<'_> {
    /// What the client's form was filled in with, in one field; `None` unless the person accepted.
    pub(super) fn filled(&self, question: &str, field: &str) -> Option<Value> {
        let answer: ElicitResult = self.answer(question)?;
        let accepted = answer.action == ElicitationAction::Accept;
        json!(answer.content).get(field).filter(|_| accepted).cloned()
    }

    fn answer<T: DeserializeOwned>(&self, question: &str) -> Option<T> {
        serde_json::from_value(self.responses.get(question)?.clone()).ok()
    }

    fn sampled(&self, question: &str) -> Option<String> {
        let answer: CreateMessageResult = self.answer(question)?;
        Some(answer.message.content.first()?.as_text()?.text.clone())
    }

    fn needs_sampling(&self) -> Result<CallToolResponse, ErrorData> {
        if self.client.sampling.is_some() {
            return Ok(text("the client samples"));
        }
        let mut needed = ClientCapabilities::default();
        needed.sampling = Some(SamplingCapability::default());
        Err(ErrorData::missing_required_client_capability(needed))
    }

    fn name(&self) -> CallToolResponse {
        match self.filled("user_name", "name").as_ref().and_then(Value::as_str) {
            Some(name) => text(&format!("Hello, {name}!")),
            None => ask([("user_name", form("What is your name?", "name", "string"))], None),
        }
    }

    fn sample(&self) -> CallToolResponse {
        match self.sampled("capital_question") {
            Some(told) => text(&told),
            None => ask([("capital_question", sampling("What is the capital of France?"))], None),
        }
    }

    fn roots(&self) -> CallToolResponse {
        match self.answer::<ListRootsResult>("client_roots") {
            Some(told) => text(&told.roots.iter().map(|root| root.uri.clone()).collect::<Vec<_>>().join("\n")),
            None => ask([("client_roots", roots())], None),
        }
    }

    fn confirm(&self, tool: &str) -> Result<CallToolResponse, ErrorData> {
        let this = Asked { tool: tool.to_owned(), question: 1 };
        match self.filled("confirm", "ok") {
            Some(_) if self.asked()? == this => Ok(text("state-ok")),
            Some(_) => Err(not_ours()),
            None => Ok(ask([("confirm", form("Please confirm", "ok", "boolean"))], Some(self.seal(&this)?))),
        }
    }

    fn several(&self, tool: &str) -> Result<CallToolResponse, ErrorData> {
        let this = Asked { tool: tool.to_owned(), question: 1 };
        let name = self.filled("user_name", "name");
        let greeting = self.sampled("greeting");
        let told = self.answer::<ListRootsResult>("client_roots");
        match (name.as_ref().and_then(Value::as_str), greeting, told) {
            (Some(name), Some(greeting), Some(told)) if self.asked()? == this => {
                Ok(text(&format!("{greeting} {name}, of {} roots", told.roots.len())))
            }
            (Some(_), Some(_), Some(_)) => Err(not_ours()),
            _ => {
                let questions = [
                    ("user_name", form("What is your name?", "name", "string")),
                    ("greeting", sampling("Generate a greeting")),
                    ("client_roots", roots()),
                ];
                Ok(ask(questions, Some(self.seal(&this)?)))
            }
        }
    }

    fn twice(&self, tool: &str) -> Result<CallToolResponse, ErrorData> {
        let turn = |question| Asked { tool: tool.to_owned(), question };
        if self.state.is_none() {
            let first = ("step1", form("Step 1: What is your name?", "name", "string"));
            return Ok(ask([first], Some(self.seal(&turn(1))?)));
        }
        let asked = self.asked()?;
        match (self.filled("step1", "name"), self.filled("step2", "color")) {
            (Some(_), _) if asked == turn(1) => {
                let second = ("step2", form("Step 2: What is your favorite color?", "color", "string"));
                Ok(ask([second], Some(self.seal(&turn(2))?)))
            }
            (_, Some(color)) if asked == turn(2) => Ok(text(&format!("the color is {color}"))),
            _ => Err(not_ours()),
        }
    }

    fn capable(&self) -> CallToolResponse {
        let client = &self.client;
        let questions = [
            (client.sampling.is_some(), ("greeting", sampling("Generate a greeting"))),
            (client.elicitation.is_some(), ("user_name", form("What is your name?", "name", "string"))),
            (client.roots.is_some(), ("client_roots", roots())),
        ];
        let possible: Vec<_> = questions.into_iter().filter_map(|(can, question)| can.then_some(question)).collect();
        if possible.is_empty() || !self.responses.is_empty() {
            text("nothing is left to ask")
        } else {
            ask(possible, None)
        }
    }

    /// Which question the client says it answers.
    fn asked(&self) -> Result<Asked, ErrorData> {
        let state = self.state.as_deref().ok_or_else(not_ours)?;
        self.states.open_json(state).map_err(|_altered| not_ours())
    }

    fn seal(&self, asked: &Asked) -> Result<String, ErrorData> {
        self.states.seal_json(asked).map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }
}

fn not_ours() -> ErrorData {
    ErrorData::invalid_params("`requestState` is not what this tool gave out; call again without it", None)
}

fn text(text: &str) -> CallToolResponse {
    CallToolResult::success(vec![ContentBlock::text(text)]).into()
}

fn ask<'a>(questions: impl IntoIterator<Item = (&'a str, InputRequest)>, state: Option<String>) -> CallToolResponse {
    let questions: InputRequests = questions.into_iter().map(|(name, request)| (name.to_owned(), request)).collect();
    InputRequiredResult::new(Some(questions), state).into()
}

/// A form with one field that must be filled in.
pub(super) fn form(message: &str, field: &str, kind: &str) -> InputRequest {
    request(json!({
        "method": "elicitation/create",
        "params": {
            "message": message,
            "requestedSchema": { "type": "object", "properties": { field: { "type": kind } }, "required": [field] },
        },
    }))
}

fn sampling(prompt: &str) -> InputRequest {
    request(json!({
        "method": "sampling/createMessage",
        "params": {
            "messages": [{ "role": "user", "content": { "type": "text", "text": prompt } }],
            "maxTokens": 100,
        },
    }))
}

fn roots() -> InputRequest {
    request(json!({ "method": "roots/list", "params": {} }))
}

fn request(request: Value) -> InputRequest {
    serde_json::from_value(request).expect("a fixture's request is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(states: &RequestStateCodec, responses: Value, state: Option<String>) -> Round<'_> {
        let responses = serde_json::from_value(responses).unwrap();
        Round { responses, state, client: ClientCapabilities::default(), states }
    }

    fn state_of(answer: Result<CallToolResponse, ErrorData>) -> String {
        match answer.unwrap() {
            CallToolResponse::InputRequired(asked) => asked.request_state.unwrap(),
            other => panic!("no question: {other:?}"),
        }
    }

    #[test]
    fn a_question_of_another_tool_is_not_taken_for_ones_own() {
        let states = RequestStateCodec::try_new([7; 32]).unwrap();
        let filled = json!({ "confirm": { "action": "accept", "content": { "ok": true } } });
        let [own, other] = ["test_input_required_result_request_state", "test_input_required_result_tampered_state"];
        let state = state_of(answer(own, &round(&states, json!({}), None)).unwrap());
        assert!(answer(own, &round(&states, filled.clone(), Some(state.clone()))).unwrap().is_ok());
        assert!(answer(other, &round(&states, filled.clone(), Some(state.clone()))).unwrap().is_err());
        assert!(answer(own, &round(&states, filled, Some(state + "x"))).unwrap().is_err());
    }
}
