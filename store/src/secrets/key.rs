//! Keys: 32 bytes in base64, from a variable or a file, never in the database.
//!
//! The first key encrypts; those after it only open what they encrypted before, while keys change. A file holds one a
//! line. For the embedded set a file is made when the first secret is, readable by its owner alone.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use nix::unistd::geteuid;
use ring::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::SecretError;

const KEY_BYTES: usize = 32;
/// More keys than ever overlap.
const FILE_BYTES: u64 = 4096;
const HOW: &str = "`head -c 32 /dev/urandom | base64` makes one";

/// One key. `Debug` shows its id.
pub struct SecretKey {
    id: String,
    pub(super) aead: LessSafeKey,
}

impl SecretKey {
    /// Names the key without telling anything about it.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"ordinaut secret key id");
        digest.update(bytes);
        let id = hex::encode(&digest.finalize()[..4]);
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("the algorithm's keys have 32 bytes");
        Self { id, aead: LessSafeKey::new(key) }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.id)
    }
}

/// The keys in force: the first encrypts, all open.
#[derive(Debug)]
pub struct KeyRing {
    first: SecretKey,
    former: Vec<SecretKey>,
}

impl KeyRing {
    /// Reads keys separated by commas or white space.
    ///
    /// # Errors
    /// Why not; never with a part of the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for word in text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()) {
            keys.push(SecretKey::new(&*bytes(word)?));
        }
        if keys.is_empty() {
            return Err(format!("it is empty; {HOW}"));
        }
        let former = keys.split_off(1);
        Ok(Self { first: keys.remove(0), former })
    }

    pub fn first(&self) -> &SecretKey {
        &self.first
    }

    pub(super) fn find(&self, id: &str) -> Option<&SecretKey> {
        std::iter::once(&self.first).chain(&self.former).find(|key| key.id == id)
    }

    pub(super) fn has_former(&self) -> bool {
        !self.former.is_empty()
    }
}

fn bytes(word: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, String> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if word.contains(['-', '_']) { alphabet::URL_SAFE } else { alphabet::STANDARD };
    let decoded = GeneralPurpose::new(&alphabet, config).decode(word).map(Zeroizing::new);
    let decoded = decoded.map_err(|_| format!("it is not base64; {HOW}"))?;
    let bytes = <[u8; KEY_BYTES]>::try_from(decoded.as_slice());
    bytes.map(Zeroizing::new).map_err(|_| format!("it has {} bytes, not {KEY_BYTES}; {HOW}", decoded.len()))
}

fn new_key() -> Zeroizing<String> {
    let bytes = Zeroizing::new(rand::random::<[u8; KEY_BYTES]>());
    Zeroizing::new(general_purpose::STANDARD.encode(bytes.as_slice()))
}

/// Where the keys are. They are read when they are needed, so that a change holds at once.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The text of `ORDINAUT_SECRET_KEY`.
    Variable(Zeroizing<String>),
    /// `ORDINAUT_SECRET_KEY_FILE`, or `secret_key_file` in `ordinaut.toml`.
    Named(PathBuf),
    /// `secret.key` in the configuration directory, which Ordinaut makes for its embedded set.
    Usual(PathBuf),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())
    }
}

impl KeySource {
    /// The variable before the named file before the usual one.
    pub fn choose(variable: Option<&str>, named: Option<&Path>, config_dir: &Path) -> Self {
        match (variable, named) {
            (Some(text), _) => Self::Variable(Zeroizing::new(text.to_owned())),
            (None, Some(path)) => Self::Named(path.to_owned()),
            (None, None) => Self::Usual(config_dir.join("secret.key")),
        }
    }

    /// For messages.
    pub fn place(&self) -> String {
        match self {
            Self::Variable(_) => "ORDINAUT_SECRET_KEY".to_owned(),
            Self::Named(path) | Self::Usual(path) => path.display().to_string(),
        }
    }

    /// The keys, as they are now.
    ///
    /// # Errors
    /// [`SecretError::NoKey`] where there is none, [`SecretError::BadKey`] where it is not one, or not ours alone.
    pub fn read(&self) -> Result<KeyRing, SecretError> {
        let text = match self {
            Self::Variable(text) => text.clone(),
            Self::Named(path) | Self::Usual(path) => read_private(path).map_err(|error| match error.kind() {
                ErrorKind::NotFound => SecretError::NoKey(self.missing()),
                _ => self.bad(error.to_string()),
            })?,
        };
        KeyRing::parse(&text).map_err(|why| self.bad(why))
    }

    /// As [`KeySource::read`]; the usual file is made where it is not there.
    pub fn read_or_make(&self) -> Result<KeyRing, SecretError> {
        match (self, self.read()) {
            (Self::Usual(path), Err(SecretError::NoKey(_))) => {
                make(path, &new_key(), false).map_err(|error| self.bad(format!("it cannot be made: {error}")))?;
                self.read()
            }
            (_, read) => read,
        }
    }

    /// Puts a new key before those in the file; answers what to call once everything is encrypted with it.
    ///
    /// # Errors
    /// The key is a variable, which only the operator can change.
    pub(super) fn add_key(&self) -> Result<Retire, SecretError> {
        let path = match self {
            Self::Variable(_) => {
                let why = "write the new key before the old one, separated by a comma, here and for every executor, and \
                           run this again";
                return Err(self.bad(format!("it holds one key; {why}; {HOW}")));
            }
            Self::Named(path) | Self::Usual(path) => path,
        };
        let former = read_private(path).map_err(|error| self.bad(error.to_string()))?;
        let new = new_key();
        let both = Zeroizing::new(format!("{}\n{}", new.as_str(), former.as_str()));
        make(path, &both, true).map_err(|error| self.bad(format!("it cannot be written: {error}")))?;
        Ok(Retire { path: path.clone(), new })
    }

    fn missing(&self) -> String {
        match self {
            Self::Variable(_) => "ORDINAUT_SECRET_KEY is empty".to_owned(),
            Self::Named(path) => format!("{} is not there; {HOW}", path.display()),
            Self::Usual(path) => format!(
                "set ORDINAUT_SECRET_KEY or ORDINAUT_SECRET_KEY_FILE to the same key here and for every executor ({HOW}); \
                 the embedded set keeps its own in {}",
                path.display()
            ),
        }
    }

    fn bad(&self, why: String) -> SecretError {
        SecretError::BadKey { place: self.place(), why }
    }
}

/// A key file with a new key and the former ones.
pub(super) struct Retire {
    path: PathBuf,
    new: Zeroizing<String>,
}

impl Retire {
    /// Leaves only the new key in the file.
    pub(super) fn former_keys(self) -> Result<(), SecretError> {
        make(&self.path, &self.new, true).map_err(|error| SecretError::BadKey {
            place: self.path.display().to_string(),
            why: format!("the former key could not be removed from it: {error}"),
        })
    }
}

fn read_private(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut file = File::open(path)?;
    let found = file.metadata()?;
    let own = geteuid().as_raw();
    if !found.is_file() || found.len() > FILE_BYTES {
        return Err(std::io::Error::other("it is no small file"));
    }
    if found.uid() != own && found.uid() != 0 {
        return Err(std::io::Error::other(format!("it belongs to user {} and not to user {own}", found.uid())));
    }
    if found.mode() & 0o027 != 0 {
        let why = format!("others may read or change it (mode {:o}): `chmod 600` it", found.mode() & 0o777);
        return Err(std::io::Error::other(why));
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Writes the file as a whole: who reads meanwhile sees the old one or the new one.
fn make(path: &Path, text: &str, replace: bool) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let draft = path.with_extension(format!("{:016x}.new", rand::random::<u64>()));
    let written = write_draft(&draft, text).and_then(|()| {
        if replace {
            return fs::rename(&draft, path);
        }
        match fs::hard_link(&draft, path) {
            // Another one was quicker: its key counts.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    // Gone already where it was renamed.
    let _ = fs::remove_file(&draft);
    written?;
    File::open(directory)?.sync_all()
}

fn write_draft(draft: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(text.trim_end().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ordinaut-key-{name}-{:016x}", rand::random::<u64>()));
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn a_key_is_32_bytes_in_any_base64_and_named_by_its_id() {
        let text = new_key();
        let ring = KeyRing::parse(&text).unwrap();
        let url_safe = text.replace('+', "-").replace('/', "_");
        assert_eq!(KeyRing::parse(url_safe.trim_end_matches('=')).unwrap().first().id(), ring.first().id());
        let two = KeyRing::parse(&format!("{}, {}\n", new_key().as_str(), text.as_str())).unwrap();
        assert!(two.has_former() && two.find(ring.first().id()).is_some());
        for bad in ["", "AAAA", "not base64!"] {
            assert!(KeyRing::parse(bad).unwrap_err().contains("/dev/urandom"), "{bad}");
        }
        assert!(!format!("{ring:?} {:?}", KeySource::Variable(text.clone())).contains(text.as_str()));
    }

    #[test]
    fn the_usual_file_is_made_once_for_its_owner_alone() {
        let root = scratch("made");
        let source = KeySource::choose(None, None, &root.join("config"));
        assert!(matches!(source.read(), Err(SecretError::NoKey(_))));
        let made = source.read_or_make().unwrap();
        assert_eq!(source.read_or_make().unwrap().first().id(), made.first().id());
        let KeySource::Usual(path) = &source else { panic!("{source:?}") };
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");

        let retire = source.add_key().unwrap();
        let both = source.read().unwrap();
        assert!(both.find(made.first().id()).is_some() && both.first().id() != made.first().id());
        retire.former_keys().unwrap();
        assert!(source.read().unwrap().find(made.first().id()).is_none());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let root = scratch("open");
        let path = root.join("key");
        fs::write(&path, new_key().as_str()).unwrap();
        let source = KeySource::choose(None, Some(&path), &root);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(source.read().unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        source.read().unwrap();
        fs::remove_dir_all(root).unwrap();
    }
}
