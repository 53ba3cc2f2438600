//! Text for people and for shells.

/// Text of the other side on one bounded line, control characters escaped.
pub(crate) fn shown(text: &str, max: usize) -> String {
    text.trim().chars().flat_map(char::escape_debug).take(max).collect()
}
