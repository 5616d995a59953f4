//! Prompts that the suite gets.

use rmcp::{
    ErrorData,
    model::{
        GetPromptResponse, GetPromptResult, InputRequiredResult, JsonObject, Prompt, PromptArgument, PromptMessage,
        Role,
    },
};
use serde_json::Value;

use super::{
    content,
    rounds::{self, Round},
};

/// Name, what it is, and the arguments that it needs.
const ALL: [(&str, &str, &[&str]); 5] = [
    ("test_simple_prompt", "One text", &[]),
    ("test_prompt_with_arguments", "Its two arguments", &["arg1", "arg2"]),
    ("test_prompt_with_embedded_resource", "A resource and a text", &["resourceUri"]),
    ("test_prompt_with_image", "An image and a text", &[]),
    ("test_input_required_result_prompt", "What a person says it is", &[]),
];

pub(super) fn all() -> Vec<Prompt> {
    ALL.iter()
        .map(|(name, description, needed)| {
            let arguments: Vec<_> = needed.iter().map(|name| PromptArgument::new(*name).with_required(true)).collect();
            Prompt::new(*name, Some(*description), (!arguments.is_empty()).then_some(arguments))
        })
        .collect()
}

/// The prompt of that name, if it is one of these.
pub(super) fn get(
    name: &str,
    arguments: &JsonObject,
    round: &Round<'_>,
) -> Option<Result<GetPromptResponse, ErrorData>> {
    let (_, _, needed) = ALL.iter().find(|(known, _, _)| *known == name)?;
    if let Some(missing) = needed.iter().find(|name| !arguments.contains_key(**name)) {
        return Some(Err(ErrorData::invalid_params(format!("the prompt `{name}` needs `{missing}`"), None)));
    }
    let argument = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
    let messages = match name {
        "test_simple_prompt" => vec![says("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => {
            vec![says(&format!("Prompt with arguments: arg1='{}', arg2='{}'", argument("arg1"), argument("arg2")))]
        }
        "test_prompt_with_embedded_resource" => {
            let resource =
                content::resource(argument("resourceUri"), "text/plain", "Embedded resource content for testing.");
            vec![PromptMessage::new(Role::User, resource), says("Please process the embedded resource above.")]
        }
        "test_prompt_with_image" => {
            vec![PromptMessage::new(Role::User, content::image()), says("Please analyze the image above.")]
        }
        _ => {
            let Some(context) = round.filled("user_context", "context") else {
                let question = rounds::form("What context should the prompt use?", "context", "string");
                let questions = [("user_context".to_owned(), question)].into();
                return Some(Ok(InputRequiredResult::from_input_requests(questions).into()));
            };
            vec![says(&format!("The context is {context}"))]
        }
    };
    Some(Ok(GetPromptResult::new(messages).into()))
}

fn says(text: &str) -> PromptMessage {
    PromptMessage::new_text(Role::User, text)
}
