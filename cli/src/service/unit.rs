//! What a service manager is told, as the file that tells it. Pure: what is printed is what is written.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::Path;

use ordinaut_store::embedded::{ServiceManager, ServiceScope, ServiceUnit};

/// By which a file is known to be ours to replace and to remove.
pub(crate) const MARK: &str = "Written by `ordinaut service install`";
/// Longer than a drain and the end of the servers take.
const STOP_LIMIT: u32 = 90;

/// Why there is no such file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be written into a service: it is no plain text")]
pub(crate) struct Unwritable(String);

/// The file for a service that runs `program` and arrives at the set that `variables` lead to.
pub(crate) fn text(
    unit: &ServiceUnit,
    program: &Path,
    variables: &[(OsString, OsString)],
) -> Result<String, Unwritable> {
    match unit.manager {
        ServiceManager::Systemd => systemd(unit.scope, program, variables),
        ServiceManager::Launchd => launchd(program, variables),
    }
}

fn systemd(scope: ServiceScope, program: &Path, variables: &[(OsString, OsString)]) -> Result<String, Unwritable> {
    let target = match scope {
        ServiceScope::User => "default.target",
        ServiceScope::System => "multi-user.target",
    };
    // A dollar sign names a variable in a command and nowhere else.
    let program = quoted(program.as_os_str())?.replace('$', "$$");
    let mut text = format!("# {MARK}; `ordinaut service uninstall` removes it.\n");
    write!(text, "[Unit]\nDescription=Ordinaut\n\n[Service]\nType=exec\nExecStart={program} up --no-example\n")
        .expect(INFALLIBLE);
    for (name, value) in variables {
        let mut pair = name.clone();
        pair.push("=");
        pair.push(value);
        writeln!(text, "Environment={}", quoted(&pair)?).expect(INFALLIBLE);
    }
    // Mixed: SIGTERM to the supervisor alone, which takes the rest down in order. At once, PostgreSQL would go while
    // the executor still finishes what it has in hand.
    write!(
        text,
        "Restart=on-failure\nRestartSec=5\nKillMode=mixed\nTimeoutStopSec={STOP_LIMIT}\n\n[Install]\nWantedBy={target}\n"
    )
    .expect(INFALLIBLE);
    Ok(text)
}

const INFALLIBLE: &str = "writing to a string does not fail";

/// As systemd reads one word.
fn quoted(text: &OsStr) -> Result<String, Unwritable> {
    let text = plain(text)?;
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%")))
}

fn plain(text: &OsStr) -> Result<&str, Unwritable> {
    let found = text.to_str().filter(|text| !text.chars().any(char::is_control));
    found.ok_or_else(|| Unwritable(text.to_string_lossy().into_owned()))
}

fn launchd(program: &Path, variables: &[(OsString, OsString)]) -> Result<String, Unwritable> {
    let mut environment = String::new();
    for (name, value) in variables {
        let (name, value) = (escaped(name)?, escaped(value)?);
        writeln!(environment, "    <key>{name}</key><string>{value}</string>").expect(INFALLIBLE);
    }
    Ok(format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- {MARK}; `ordinaut service uninstall` removes it. -->
<plist version="1.0">
<dict>
  <key>Label</key><string>{label}</string>
  <key>ProgramArguments</key>
  <array><string>{program}</string><string>up</string><string>--no-example</string></array>
  <key>EnvironmentVariables</key>
  <dict>
{environment}  </dict>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>
  <key>ExitTimeOut</key><integer>{STOP_LIMIT}</integer>
</dict>
</plist>
"#,
        label = ServiceUnit::LABEL,
        program = escaped(program.as_os_str())?,
    ))
}

fn escaped(text: &OsStr) -> Result<String, Unwritable> {
    Ok(plain(text)?.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (OsString, OsString) {
        (name.into(), value.into())
    }

    #[test]
    fn systemd_reads_back_what_was_meant() {
        let program = Path::new("/opt/100% $mine/ordinaut");
        let text = systemd(ServiceScope::User, program, &[pair("PATH", r#"/a "b"\c"#)]).unwrap();
        assert!(text.contains(r#"ExecStart="/opt/100%% $$mine/ordinaut" up --no-example"#), "{text}");
        assert!(text.contains(r#"Environment="PATH=/a \"b\"\\c""#), "{text}");
        assert!(text.contains("WantedBy=default.target") && text.contains("KillMode=mixed"), "{text}");
        assert!(systemd(ServiceScope::System, program, &[]).unwrap().contains("WantedBy=multi-user.target"));
    }

    #[test]
    fn a_value_cannot_add_a_line_of_its_own() {
        let sly = [pair("PATH", "/bin\nExecStartPre=/bin/false")];
        assert!(systemd(ServiceScope::User, Path::new("/o"), &sly).is_err());
        assert!(launchd(Path::new("/o"), &sly).is_err());
    }

    #[test]
    fn launchd_reads_back_what_was_meant() {
        let text = launchd(Path::new("/Apps & <more>/ordinaut"), &[pair("TZ", "Europe/Chisinau")]).unwrap();
        assert!(text.contains("<string>/Apps &amp; &lt;more&gt;/ordinaut</string>"), "{text}");
        assert!(text.contains("<key>TZ</key><string>Europe/Chisinau</string>"), "{text}");
    }
}
