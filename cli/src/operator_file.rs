//! `ordinaut.toml`, edited for the operator: comments and order stay, a mistake is refused before anything is written.
//!
//! Written beside the old file and put in its place in one step, readable by its owner only; what was there before stays
//! as `<name>.bak`. Also for the file of MCP servers, which is JSON.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use ordinaut_schema::operator::{Operator, told};
use serde_json::{Map, Value};
use toml_edit::{DocumentMut, Item, Table};

use crate::failure::{Exit, Failure};

/// The file as it was read, and as it will be.
#[derive(Debug)]
pub(crate) struct OperatorFile {
    path: PathBuf,
    before: Option<String>,
    document: DocumentMut,
}

impl OperatorFile {
    /// Reads the file; one that is not there is empty.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let before = read(path)?;
        let text = before.clone().unwrap_or_default();
        let document = text.parse::<DocumentMut>().map_err(|error| broken(path, &text, &error))?;
        Ok(Self { path: path.to_owned(), before, document })
    }

    /// The operator's tables as they are now.
    pub(crate) fn operator(&self) -> Result<Operator, Failure> {
        judge(&self.document.to_string()).map_err(|mistakes| {
            Failure::new(Exit::Refused, format!("{} has mistakes:\n  {}", self.path.display(), mistakes.join("\n  ")))
        })
    }

    pub(crate) fn has(&self, table: &str, name: &str) -> bool {
        self.document.get(table).and_then(Item::as_table_like).is_some_and(|entries| entries.contains_key(name))
    }

    /// Puts `[<table>.<name>]` in, in the place of one that was there.
    pub(crate) fn put(&mut self, table: &str, name: &str, entry: Table) -> Result<(), Failure> {
        let entries = self.document.entry(table).or_insert_with(|| {
            let mut entries = Table::new();
            // `[channels]` alone says nothing.
            entries.set_implicit(true);
            Item::Table(entries)
        });
        let entries = entries.as_table_like_mut().ok_or_else(|| {
            Failure::new(Exit::Refused, format!("{}: `{table}` is no table", self.path.display()))
                .mend(format!("write `[{table}.<name>]` for each"))
        })?;
        entries.insert(name, Item::Table(entry));
        Ok(())
    }

    /// Removes one field of every entry of a table but one's.
    pub(crate) fn clear_elsewhere(&mut self, table: &str, field: &str, but: &str) {
        let Some(entries) = self.document.get_mut(table).and_then(Item::as_table_like_mut) else { return };
        for (name, entry) in entries.iter_mut() {
            if name.get() != but
                && let Some(entry) = entry.as_table_like_mut()
            {
                entry.remove(field);
            }
        }
    }

    /// Takes an entry out; answers whether it was there.
    pub(crate) fn remove(&mut self, table: &str, name: &str) -> bool {
        let entries = self.document.get_mut(table).and_then(Item::as_table_like_mut);
        entries.is_some_and(|entries| entries.remove(name).is_some())
    }

    /// Judges the whole and writes it.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        let text = self.document.to_string();
        judge(&text).map_err(|mistakes| {
            Failure::new(Exit::Refused, format!("nothing was written:\n  {}", mistakes.join("\n  ")))
        })?;
        replace(&self.path, self.before.as_deref(), &text)
    }
}

/// Every mistake of the operator's tables in a file's text.
pub(crate) fn judge(text: &str) -> Result<Operator, Vec<String>> {
    let table: Map<String, Value> = toml::from_str(text).map_err(|error| vec![syntax(text, &error)])?;
    Operator::read(&table).map_err(|faults| told(&faults))
}

/// What is wrong and in which line. The parser's own text quotes the line, which may hold a credential.
pub(crate) fn syntax(text: &str, error: &toml::de::Error) -> String {
    in_line(text, error.span(), error.message())
}

fn broken(path: &Path, text: &str, error: &toml_edit::TomlError) -> Failure {
    let why = in_line(text, error.span(), error.message());
    Failure::new(Exit::Refused, format!("{}: {why}", path.display())).mend("mend it by hand; nothing was written")
}

fn in_line(text: &str, span: Option<std::ops::Range<usize>>, message: &str) -> String {
    let before = span.and_then(|span| text.get(..span.start));
    let line = before.map_or_else(String::new, |before| format!(" in line {}", before.matches('\n').count() + 1));
    format!("it is no TOML{line}: {message}")
}

/// A file's text; nothing where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(Exit::Failed, format!("could not read {}: {error}", path.display()))),
    }
}

/// Puts `text` in the place of what the file said `before`, in one step; what was there stays as `<name>.bak`.
pub(crate) fn replace(path: &Path, before: Option<&str>, text: &str) -> Result<(), Failure> {
    // The file itself, where a link leads to it.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if read(&path)?.as_deref() != before {
        return Err(Failure::new(Exit::Failed, format!("{} was changed meanwhile", path.display()))
            .mend("look at it, then say it again; nothing was written"));
    }
    let written = (|| {
        if let Some(directory) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        if let Some(before) = before {
            write_private(&beside(&path, "bak"), before)?;
        }
        let new = beside(&path, "new");
        write_private(&new, text)?;
        fs::rename(&new, &path)
    })();
    written.map_err(|error| Failure::new(Exit::Failed, format!("could not write {}: {error}", path.display())))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{ending}"));
    path.with_file_name(name)
}

/// A new file of mode 0600: one that was left over keeps neither its text nor its mode.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use toml_edit::value;

    use super::*;

    const TEXT: &str = "# mine\ntimezone = \"Europe/Chisinau\"  # home\n\n[executor]\npermits = 3\n";

    fn entry() -> Table {
        let mut entry = Table::new();
        entry.insert("kind", value("ntfy"));
        entry.insert("topic", value("ada"));
        entry
    }

    fn place() -> PathBuf {
        let directory = std::env::temp_dir().join(format!("ordinaut-file-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&directory).unwrap();
        directory.join("ordinaut.toml")
    }

    #[test]
    fn an_edit_keeps_comments_and_the_old_file_and_lets_nobody_else_read() {
        let path = place();
        fs::write(&path, TEXT).unwrap();
        let mut file = OperatorFile::open(&path).unwrap();
        file.put("channels", "ops", entry()).unwrap();
        file.write().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{TEXT}\n[channels.ops]\nkind = \"ntfy\"\ntopic = \"ada\"\n"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let old = path.with_file_name("ordinaut.toml.bak");
        assert_eq!(fs::read_to_string(&old).unwrap(), TEXT);
        assert_eq!(fs::metadata(&old).unwrap().permissions().mode() & 0o777, 0o600);

        let mut file = OperatorFile::open(&path).unwrap();
        assert!(file.has("channels", "ops") && file.remove("channels", "ops") && !file.remove("channels", "ops"));
        file.write().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), TEXT);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_mistake_or_somebody_elses_edit_leaves_the_file_as_it_was() {
        let path = place();
        let mut file = OperatorFile::open(&path).unwrap();
        let mut bad = entry();
        bad.insert("topic", value("a b"));
        file.put("channels", "ops", bad).unwrap();
        assert!(file.write().unwrap_err().to_text().contains("channels.ops.topic"));
        assert!(!path.exists());

        let mut file = OperatorFile::open(&path).unwrap();
        file.put("channels", "ops", entry()).unwrap();
        fs::write(&path, TEXT).unwrap();
        assert!(file.write().unwrap_err().to_text().contains("changed meanwhile"));
        assert_eq!(fs::read_to_string(&path).unwrap(), TEXT);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
