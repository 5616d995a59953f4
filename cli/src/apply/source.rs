//! Files of definitions, read whole before any is judged.

use std::io::Read as _;
use std::path::Path;

use ordinaut_schema::{limits::Limits, task};
use serde_json::Value;

use crate::failure::{Exit, Failure, Located};

use super::{Apply, lines::Lines};

/// One definition, and where it stands.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) file: String,
    pub(crate) definition: Value,
    pub(crate) lines: Lines,
}

/// Reads every file that was named.
///
/// # Errors
/// A file that cannot be read; else the syntax faults of all of them.
pub(crate) fn read(options: &Apply) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    let mut faults = Vec::new();
    for path in &options.files {
        let file = path.display().to_string();
        let text = read_text(path)?;
        match task::read(&text, &Limits::DEFAULT) {
            Ok(definitions) => {
                let lines = Lines::of_documents(&text, definitions.len());
                let read = definitions.into_iter().zip(lines);
                documents.extend(read.map(|(definition, lines)| Document { file: file.clone(), definition, lines }));
            }
            Err(found) => {
                faults.extend(found.into_iter().map(|fault| Located { file: file.clone(), line: None, fault }));
            }
        }
    }
    if faults.is_empty() { Ok(documents) } else { Err(Failure::Faults(faults)) }
}

fn read_text(path: &Path) -> Result<String, Failure> {
    // One byte more than is allowed tells a file of the limit from a longer one.
    let most = u64::try_from(Limits::DEFAULT.definition_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let outcome = if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    let shown = path.display();
    outcome.map_err(|error| Failure::new(Exit::Refused, format!("could not read {shown}: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(Exit::Refused, format!("{shown} is not UTF-8 text (from byte {at} on)"))
    })
}
