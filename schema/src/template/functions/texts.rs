//! What people need of texts beside JMESPath's functions.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{super::evaluator::Evaluator, Argument, Function, Kind, text, value};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("default", &[Kind::Any, Kind::Any], |_, args| {
        Ok(if value(args, 0).is_null() { value(args, 1) } else { value(args, 0) }.clone())
    }),
    Function::new("parse_json", &[Kind::Text], |_, args| {
        serde_json::from_str(text(args, 0)).map_err(|error| format!("`parse_json` was given no JSON: {error}"))
    }),
    Function::new("to_json", &[Kind::Any], |_, args| Ok(Value::String(value(args, 0).to_string()))),
    Function::new("lower", &[Kind::Text], |_, args| Ok(Value::String(text(args, 0).to_lowercase()))),
    Function::new("upper", &[Kind::Text], |_, args| Ok(Value::String(text(args, 0).to_uppercase()))),
    Function::new("trim", &[Kind::Text], |_, args| Ok(Value::from(text(args, 0).trim()))),
    Function::new("replace", &[Kind::Text, Kind::Text, Kind::Text], replace),
    Function::new("split", &[Kind::Text, Kind::Text], split),
    Function::new("url_encode", &[Kind::Plain], |_, args| {
        Ok(Value::String(match value(args, 0) {
            Value::String(text) => url_encode(text),
            other => url_encode(&other.to_string()),
        }))
    }),
    Function::new("base64", &[Kind::Text], |_, args| Ok(Value::String(base64(text(args, 0).as_bytes())))),
    // Never called: credentials are put together when a call is sent. Here it has its name and its arguments.
    Function::new("basic_auth", &[Kind::Any, Kind::Any], |_, _| {
        Err("`basic_auth` stands alone in its `${…}`, in headers, query and body of an `http.*` step".to_owned())
    }),
    Function::new("sha256", &[Kind::Text], |_, args| {
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(text(args, 0)) {
            write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        }
        Ok(Value::String(hex))
    }),
];

fn replace(evaluator: &Evaluator<'_>, args: &[Argument<'_>]) -> Result<Value, String> {
    let (text, from, to) = (text(args, 0), text(args, 1), text(args, 2));
    if from.is_empty() {
        return Err("the text that `replace` looks for is empty".to_owned());
    }
    evaluator.fuel().hold(text.matches(from).count().saturating_mul(to.len()))?;
    Ok(Value::String(text.replace(from, to)))
}

fn split(evaluator: &Evaluator<'_>, args: &[Argument<'_>]) -> Result<Value, String> {
    let (text, separator) = (text(args, 0), text(args, 1));
    if separator.is_empty() {
        return Err("the separator of `split` is empty".to_owned());
    }
    evaluator.fuel().hold(text.matches(separator).count().saturating_mul(64))?;
    Ok(text.split(separator).map(Value::from).collect())
}

/// RFC 3986: everything but the unreserved characters.
fn url_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    encoded
}

/// RFC 4648 section 4, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0_usize, |group, n| group << 8 | usize::from(chunk.get(n).copied().unwrap_or(0)));
        for n in 0..4 {
            let sign = if n <= chunk.len() { ALPHABET[group >> (18 - 6 * n) & 63] } else { b'=' };
            encoded.push(char::from(sign));
        }
    }
    encoded
}
