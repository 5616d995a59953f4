//! `claude-config`: the entry by which a chat finds Ordinaut, printed or put into the file that the chat reads.
//!
//! [`edit`] decides what the file becomes. What is not ours stays as it is and where it is; the file that was there
//! stays as `<name>.bak`; a file that is not understood is refused and left alone.

mod edit;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::{
    config::Config,
    failure::{Exit, Failure},
    operator_file,
    out::{Out, note},
    service,
};

#[derive(Debug, Args)]
pub(crate) struct ClaudeConfig {
    /// Whose entry it is
    #[arg(long = "for", value_name = "CLIENT", default_value = "desktop")]
    client: Client,
    /// Put the entry into the client's file, and keep what was there as `<name>.bak`
    #[arg(long)]
    install: bool,
    /// Take the entry out of the client's file
    #[arg(long, conflicts_with = "install")]
    uninstall: bool,
    /// The file, when it is not where the client usually has it
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Client {
    /// Claude Desktop on this machine
    Desktop,
    /// Claude Code and whoever else reads `.mcp.json` in a project's directory
    Project,
    /// A chat on another machine, through `mcp-remote`; to be pasted there
    Remote,
}

/// The whole file for a Claude Desktop that has no other server; otherwise the inner entry is what to add.
pub(crate) fn entry(mcp: &Path) -> Value {
    whole(&json!({ "command": mcp, "args": ["stdio"] }))
}

fn whole(entry: &Value) -> Value {
    json!({ "mcpServers": { "ordinaut": entry } })
}

/// The token stands in the environment: an argument is in every list of processes. No blank after the colon, which
/// some clients split an argument at.
fn remote(url: &str) -> Value {
    json!({
        "command": "npx",
        "args": ["-y", "mcp-remote", format!("{url}/mcp"), "--transport", "http-only", "--header",
            "Authorization:${ORDINAUT_AUTHORIZATION}"],
        "env": { "ORDINAUT_AUTHORIZATION": "Bearer <token>" },
    })
}

pub(crate) async fn claude_config(config: &Config, options: &ClaudeConfig, out: Out) -> Result<(), Failure> {
    if !options.install && !options.uninstall {
        return print(config, options.client, out);
    }
    let path = file_of(config, options)?;
    let before = operator_file::read(&path)?;
    let refused = |error: edit::Refused| {
        Failure::new(Exit::Refused, format!("{}: {error}; nothing was written", path.display())).mend(error.advice())
    };
    let text = before.as_deref().unwrap_or_default();
    let after = if options.uninstall {
        edit::without(text).map_err(refused)?
    } else {
        let mcp = config.installed("ordinaut-mcp")?;
        edit::with(text, &json!(mcp)).map_err(refused)?
    };
    let changed = after.is_some();
    if let Some(after) = &after {
        operator_file::replace(&path, before.as_deref(), after)?;
    }
    told(options, &path, changed, before.is_some(), out)?;
    if options.install && !out.is_json() {
        service::offer(config, out).await?;
    }
    Ok(())
}

fn print(config: &Config, client: Client, out: Out) -> Result<(), Failure> {
    // JSON for people as well: it is what they paste.
    if client == Client::Remote {
        out.json(&whole(&remote(&config.public_url)))?;
        note("ordinaut: `ordinaut agent add <name>` makes the token that goes in the place of <token>");
        return Ok(());
    }
    let mcp = config.installed("ordinaut-mcp")?;
    out.json(&entry(&mcp))?;
    if client == Client::Project {
        note(format!(
            "ordinaut: for all your projects: claude mcp add --scope user ordinaut -- {} stdio",
            mcp.display()
        ));
    }
    Ok(())
}

fn file_of(config: &Config, options: &ClaudeConfig) -> Result<PathBuf, Failure> {
    if options.client == Client::Remote {
        return Err(Failure::new(Exit::Refused, "the entry for a remote chat belongs on that chat's machine")
            .mend("leave out --install and --uninstall, and paste what is printed there"));
    }
    if let Some(file) = &options.file {
        return Ok(file.clone());
    }
    if options.client == Client::Project {
        return Ok(PathBuf::from(".mcp.json"));
    }
    config.claude_desktop.clone().ok_or_else(|| {
        Failure::new(Exit::Missing, "this user has no home to find Claude Desktop's file in")
            .mend("set HOME to a directory, or name the file: --file PATH")
    })
}

fn told(options: &ClaudeConfig, path: &Path, changed: bool, was_there: bool, out: Out) -> Result<(), Failure> {
    let backup = (changed && was_there).then(|| {
        let mut name = path.as_os_str().to_owned();
        name.push(".bak");
        PathBuf::from(name)
    });
    if out.is_json() {
        return out.json(&json!({ "file": path, "changed": changed, "backup": backup }));
    }
    let file = path.display();
    out.line(match (options.uninstall, changed) {
        (false, true) => format!("{file}: the entry `ordinaut` is in it now; restart the client"),
        (false, false) => format!("{file}: the entry `ordinaut` is in it already; nothing was written"),
        (true, true) => format!("{file}: the entry `ordinaut` was taken out; restart the client"),
        (true, false) => format!("{file}: there is no entry `ordinaut`; nothing was written"),
    })?;
    backup.map_or(Ok(()), |backup| out.line(format!("{}: the file as it was", backup.display())))
}
