//! Secrets that a script repeats do not get into errors.

use capomastro_core::secret::Secret;

const PLACEHOLDER: &[u8] = b"(secret)";

/// Lines of a secret that are shorter say nothing of it, and would be found everywhere.
const SHORTEST_LINE: usize = 6;

/// The values that must not be shown.
#[derive(Debug, Default)]
pub(super) struct Redactor {
    /// Longest first, so that no secret is left half where another one is a part of it.
    values: Vec<Secret>,
}

impl Redactor {
    /// Hides these secrets, and each line of those that have several.
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Self {
        let mut values = Vec::new();
        for secret in secrets {
            let whole = secret.expose();
            let lines = whole.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE);
            let trimmed = Some(whole.trim()).filter(|whole| !whole.is_empty());
            values.extend(trimmed.into_iter().chain(lines).map(Secret::new));
        }
        values.sort_by_key(|v| std::cmp::Reverse(v.expose().len()));
        Self { values }
    }

    /// `text` without the secrets. `is_cut` says that its beginning may have been cut off, and a secret with it.
    pub(super) fn bytes(&self, mut text: Vec<u8>, is_cut: bool) -> Vec<u8> {
        if is_cut && let Some(longest) = self.values.first() {
            text.drain(..longest.expose().len().min(text.len()));
        }
        for value in &self.values {
            text = replace(&text, value.expose().as_bytes());
        }
        text
    }

    /// `text` without the secrets.
    pub(super) fn text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.bytes(text.as_bytes().to_vec(), false)).into_owned()
    }
}

fn replace(text: &[u8], value: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(&first) = rest.first() {
        if let Some(behind) = rest.strip_prefix(value) {
            shown.extend_from_slice(PLACEHOLDER);
            rest = behind;
        } else {
            shown.push(first);
            rest = &rest[1..];
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let secrets: Vec<Secret> = secrets.iter().map(|s| Secret::new(*s)).collect();
        Redactor::new(secrets.iter())
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let cases: [(&[&str], &str, &str); 6] = [
            (&["hunter2"], "a hunter2 hunter2b", "a (secret) (secret)b"),
            (&["hunter", "hunter2"], "hunter2", "(secret)"),
            (&["", " \n"], "nothing to hide", "nothing to hide"),
            (&["hunter2\n"], "with no newline: hunter2", "with no newline: (secret)"),
            (&["first line\nsecond line\nx"], "+ second line", "+ (secret)"),
            (&["ä"], "für ähnliche", "für (secret)hnliche"),
        ];
        for (secrets, text, expected) in cases {
            assert_eq!(redactor(secrets).text(text), expected);
        }
    }

    #[test]
    fn half_a_secret_at_a_cut_is_hidden_too() {
        let cut = redactor(&["hunter2"]).bytes(b"nter2 and the rest".to_vec(), true);
        assert_eq!(cut, b"nd the rest");
        assert_eq!(redactor(&[]).bytes(b"all of it".to_vec(), true), b"all of it");
    }
}
