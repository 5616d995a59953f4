//! The spellings of a secret's value, and where in a text one of them stands.

/// One spelling of a value, before percent signs and backslashes.
#[derive(Clone)]
pub(super) struct Form {
    chars: Vec<char>,
    /// In base64, characters beside it that hold a few bits of the value.
    before: usize,
    after: usize,
}

/// At the end of a text that was cut: shorter beginnings of a value say little, and are everywhere.
const TELLING: usize = 4;

pub(super) struct Found {
    pub(super) end: usize,
    pub(super) before: usize,
}

pub(super) fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte)
}

pub(super) fn forms(value: &str) -> Vec<Form> {
    let mut forms = vec![Form { chars: value.chars().collect(), before: 0, after: 0 }];
    for offset in 0..3 {
        let mut bytes = vec![0; offset];
        bytes.extend_from_slice(value.as_bytes());
        let encoded = crate::template::base64(&bytes);
        // Characters that hold bits of other bytes say nothing here: they depend on what stands beside the value.
        let first = offset.div_ceil(3) + offset;
        let last = bytes.len() * 8 / 6;
        if last <= first {
            continue;
        }
        let core = &encoded[first..last];
        let standard = Form {
            chars: core.chars().collect(),
            before: usize::from(offset > 0),
            after: usize::from(bytes.len() * 8 % 6 != 0),
        };
        if core.contains(['+', '/']) {
            let chars = standard.chars.iter().map(|c| match c {
                '+' => '-',
                '/' => '_',
                c => *c,
            });
            forms.push(Form { chars: chars.collect(), ..standard });
        }
        forms.push(standard);
    }
    forms
}

impl Form {
    /// Where this form ends, if it begins at `start`.
    pub(super) fn at(&self, text: &str, start: usize, is_cut: bool) -> Option<Found> {
        let bytes = text.as_bytes();
        let first = *self.chars.first()?;
        let can_begin = match *bytes.get(start)? {
            b'%' | b'\\' => true,
            b'+' if first == ' ' => true,
            byte => byte == first.encode_utf8(&mut [0; 4]).as_bytes()[0],
        };
        if !can_begin {
            return None;
        }
        // Every place that some reading of what came before leads to.
        let mut places = vec![start];
        for (n, wanted) in self.chars.iter().enumerate() {
            if is_cut && n >= TELLING && places.iter().any(|place| *place >= bytes.len()) {
                return Some(Found { end: bytes.len(), before: self.before });
            }
            let mut next = Vec::new();
            for place in places {
                readings(bytes, place, *wanted, &mut next);
            }
            next.sort_unstable();
            next.dedup();
            if next.is_empty() {
                return None;
            }
            places = next;
        }
        let mut end = *places.last()?;
        if self.after > 0 || self.before > 0 {
            end += bytes[end..].iter().take(self.after).take_while(|byte| is_base64(**byte)).count();
            end += bytes[end..].iter().take(2).take_while(|byte| **byte == b'=').count();
        }
        Some(Found { end, before: self.before })
    }
}

/// How often a percent sign or a backslash may itself be encoded.
const LAYERS: usize = 8;

/// Adds the places behind each way in which `wanted` may be written at `place`.
fn readings(bytes: &[u8], place: usize, wanted: char, next: &mut Vec<usize>) {
    let Some(rest) = bytes.get(place..) else { return };
    let mut buffer = [0; 4];
    let literal = wanted.encode_utf8(&mut buffer).as_bytes();
    if rest.starts_with(literal) {
        next.push(place + literal.len());
    }
    match rest.first() {
        Some(b'+') if wanted == ' ' => next.push(place + 1),
        Some(b'%') => next.extend(percent(rest, literal).map(|length| place + length)),
        Some(b'\\') => escapes(rest, wanted, |length| next.push(place + length)),
        _ => {}
    }
}

/// The length of `wanted` written in percent encoding: `%20`, `%2520`.
fn percent(rest: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut at = 0;
    for byte in wanted {
        at += 1;
        if rest.get(at - 1) != Some(&b'%') {
            return None;
        }
        let is_byte = |at: usize| hex(rest.get(at..at + 2)?).filter(|found| *found == u32::from(*byte));
        let mut layers = 0;
        while is_byte(at).is_none() {
            if rest.get(at..at + 2) != Some(b"25") || layers == LAYERS {
                return None;
            }
            at += 2;
            layers += 1;
        }
        at += 2;
    }
    Some(at)
}

/// The lengths of `wanted` written as an escape of JSON: `\"`, `\u0022`, and with more backslashes, as in JSON in JSON.
fn escapes(rest: &[u8], wanted: char, mut found: impl FnMut(usize)) {
    let backslashes = rest.iter().take(LAYERS).take_while(|byte| **byte == b'\\').count();
    if wanted == '\\' {
        (2..=backslashes).for_each(&mut found);
    }
    let at = backslashes;
    let short = match wanted {
        '"' | '/' => u8::try_from(wanted).ok(),
        '\n' => Some(b'n'),
        '\r' => Some(b'r'),
        '\t' => Some(b't'),
        '\u{8}' => Some(b'b'),
        '\u{c}' => Some(b'f'),
        _ => None,
    };
    if short.is_some() && rest.get(at).copied() == short {
        found(at + 1);
    }
    let mut units = [0; 2];
    let units = wanted.encode_utf16(&mut units);
    let mut end = at;
    for (n, unit) in units.iter().enumerate() {
        if n > 0 {
            let more = rest[end.min(rest.len())..].iter().take(LAYERS).take_while(|byte| **byte == b'\\').count();
            if more == 0 {
                return;
            }
            end += more;
        }
        let is_unit = rest.get(end) == Some(&b'u') && rest.get(end + 1..end + 5).and_then(hex) == Some((*unit).into());
        if !is_unit {
            return;
        }
        end += 5;
    }
    found(end);
}

fn hex(digits: &[u8]) -> Option<u32> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
