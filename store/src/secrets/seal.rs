//! Encryption of one value: ChaCha20-Poly1305 under a random nonce, name and bindings authenticated with it.

use ring::aead::{Aad, NONCE_LEN, Nonce};
use zeroize::Zeroizing;

use super::{Bindings, KeyRing, SecretError};

/// A row of `secret`.
#[derive(Clone)]
pub(super) struct Sealed {
    pub(super) name: String,
    pub(super) ciphertext: Vec<u8>,
    pub(super) nonce: Vec<u8>,
    pub(super) key_id: String,
    pub(super) bindings: Bindings,
}

/// What the ciphertext is bound to. The number goes up when this changes.
fn context(name: &str, key_id: &str, bindings: &Bindings) -> Aad<Vec<u8>> {
    let Bindings { hosts, servers, channels } = bindings;
    Aad::from(
        serde_json::to_vec(&(1, name, key_id, hosts, servers, channels)).expect("texts and lists of them are JSON"),
    )
}

pub(super) fn seal(keys: &KeyRing, name: &str, bindings: Bindings, value: &str) -> Sealed {
    let key = keys.first();
    // Random: a key would have to encrypt billions of values before two nonces met.
    let nonce = rand::random::<[u8; NONCE_LEN]>();
    // Reserved ahead, so that no copy of the value is left where it outgrew its place.
    let mut text = Vec::with_capacity(value.len() + key.aead.algorithm().tag_len());
    text.extend_from_slice(value.as_bytes());
    key.aead
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), context(name, key.id(), &bindings), &mut text)
        .expect("a value is far shorter than what the algorithm can encrypt");
    Sealed { name: name.to_owned(), ciphertext: text, nonce: nonce.to_vec(), key_id: key.id().to_owned(), bindings }
}

pub(super) fn open(keys: &KeyRing, sealed: &Sealed) -> Result<Zeroizing<String>, SecretError> {
    let key = keys.find(&sealed.key_id).ok_or_else(|| SecretError::OtherKey {
        secret: sealed.name.clone(),
        key_id: sealed.key_id.clone(),
        configured: keys.first().id().to_owned(),
    })?;
    let damaged = || SecretError::Damaged { secret: sealed.name.clone() };
    let nonce = Nonce::try_assume_unique_for_key(&sealed.nonce).map_err(|_| damaged())?;
    let mut text = Zeroizing::new(sealed.ciphertext.clone());
    let opened = key
        .aead
        .open_in_place(nonce, context(&sealed.name, &sealed.key_id, &sealed.bindings), &mut text)
        .map_err(|_| damaged())?;
    std::str::from_utf8(opened).map(|value| Zeroizing::new(value.to_owned())).map_err(|_| damaged())
}
