//! Reading a list past what cannot be read in it: a damaged record hides none of the others.

use super::Inner;
use crate::{
    Error, Result,
    error::ErrorKind,
    store::{ListKey, Page, Query, Record},
};

/// How many records that cannot be read one call passes over; the next goes on behind them.
const MOST_PASSED: usize = 16;
/// How often is looked for the place behind one.
const MOST_LOOKS: usize = 500;

/// Whether an error is about one record, and not about the store.
pub(super) fn is_of_one_record(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat)
}

/// Logs and counts a record that cannot be read. What is about it is left alone.
pub(super) fn pass_over(error: &Error) {
    metrics::counter!("capomastro_unreadable_total", "what" => "record").increment(1);
    tracing::warn!(error = %error.report(), "a record cannot be read and is passed over");
}

impl Inner {
    /// A part of a list, and where it goes on. What cannot be read is logged, counted and passed over.
    pub(super) async fn part_of(
        &self,
        list: &ListKey,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Record>, Option<String>)> {
        let (mut records, mut at) = (Vec::new(), after.map(ToOwned::to_owned));
        let (mut size, mut passed) = (limit, 0);
        while records.len() < limit && passed < MOST_PASSED {
            match self.store.list(&forwards(list), at.as_deref(), size.min(limit - records.len())).await {
                Ok(Page { items, next, .. }) => {
                    records.extend(items.into_iter().map(|v| v.record));
                    at = next;
                    if at.is_none() {
                        return Ok((records, None));
                    }
                }
                Err(error) if !is_of_one_record(&error) => return Err(error),
                Err(_) if size > 1 => size /= 2,
                Err(error) => {
                    pass_over(&error);
                    passed += 1;
                    at = Some(self.behind(list, at.unwrap_or_default(), &error).await?);
                    size = limit;
                }
            }
        }
        Ok((records, at))
    }

    /// A place behind the record that cannot be read and is the first behind `low`, before the next one. It is searched by
    /// halves; that it is the same record which cannot be read is told by the words of the error.
    async fn behind(&self, list: &ListKey, mut low: String, error: &Error) -> Result<String> {
        let said = error.report();
        let mut high = match self.one(&backwards(list), None).await? {
            Ok(Some(last)) => place(&last, list),
            _ => char::MAX.to_string(),
        };
        for _ in 0..MOST_LOOKS {
            let Some(middle) = between(&low, &high) else { break };
            if self.one(&forwards(list), Some(&middle)).await?.is_err_and(|e| e.report() == said) {
                low = middle;
                continue;
            }
            match self.one(&backwards(list), Some(&middle)).await? {
                Err(e) if e.report() == said => return Ok(middle),
                Ok(Some(before)) if place(&before, list) > low => high = place(&before, list),
                _ => high = middle,
            }
        }
        Ok(high)
    }

    /// The next record of a list, or why it cannot be read.
    async fn one(&self, query: &Query, after: Option<&str>) -> Result<Result<Option<Record>>> {
        match self.store.list(query, after, 1).await {
            Err(error) if !is_of_one_record(&error) => Err(error),
            page => Ok(page.map(|page| page.items.into_iter().next().map(|v| v.record))),
        }
    }
}

fn forwards(list: &ListKey) -> Query {
    Query::List { list: list.clone(), backwards: false }
}

fn backwards(list: &ListKey) -> Query {
    Query::List { list: list.clone(), backwards: true }
}

/// Where a record stands in a list.
fn place(record: &Record, list: &ListKey) -> String {
    record.lists().into_iter().find(|(l, _)| l == list).map(|(_, sort)| sort).unwrap_or_default()
}

/// A text between two, so that a search by halves comes to an end. `None` if it finds none.
fn between(low: &str, high: &str) -> Option<String> {
    let mut text = String::new();
    let (mut lows, mut highs) = (low.chars(), high.chars());
    loop {
        let (a, b) = (lows.next(), highs.next()?);
        if a == Some(b) {
            text.push(b);
            continue;
        }
        // Nothing in lists sorts by control characters.
        if let Some(c) = middle(a.map_or(0x1f, u32::from), b.into()) {
            text.push(c);
            return Some(text);
        }
        if highs.next().is_some() {
            text.push(b);
            return Some(text);
        }
        text.push(a?);
        break;
    }
    for c in lows {
        if let Some(c) = middle(c.into(), u32::from(char::MAX) + 1) {
            text.push(c);
            return Some(text);
        }
        text.push(c);
    }
    text.push('P');
    Some(text)
}

/// A character between two. Most texts are ASCII.
fn middle(low: u32, high: u32) -> Option<char> {
    const DELETE: u32 = 0x7f;
    let middle = if low < DELETE && high > DELETE + 1 { DELETE } else { u32::midpoint(low, high) };
    let middle = char::from_u32(middle).or(char::from_u32(0xe000))?;
    (low < middle.into() && u32::from(middle) < high).then_some(middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_is_between() {
        let texts = [
            "",
            " ",
            "!",
            "0",
            "00",
            "000",
            "0000/a",
            "0001",
            "0001/b",
            "1",
            "a",
            "aa",
            "ab",
            "az",
            "b",
            "zz",
            "~",
            "~~",
            "\u{7f}",
            "\u{80}",
            "a\u{7f}",
            "aé",
            "é",
            "é\u{d7ff}",
            "é\u{e000}",
            "\u{10ffff}",
        ];
        for low in texts {
            for high in texts.into_iter().filter(|high| low < *high) {
                match between(low, high) {
                    Some(text) => {
                        assert!(low < text.as_str() && text.as_str() < high, "{low:?} {text:?} {high:?}")
                    }
                    None => assert!(high.starts_with(low), "{low:?} {high:?}"),
                }
            }
        }
    }

    #[test]
    fn a_search_by_halves_finds_every_place() {
        let places =
            ["0", "00000001700000000000/0190", "00000001700000000001/0191", "a b", "é", "zz~", "日本"];
        for place in places {
            let (mut low, mut high) = (String::new(), char::MAX.to_string());
            let mut looks = 0;
            while high != place {
                let text = between(&low, &high).unwrap_or_else(|| panic!("{low:?} {place:?} {high:?}"));
                if text.as_str() < place {
                    low = text
                } else {
                    high = text
                }
                looks += 1;
                assert!(looks < MOST_LOOKS, "{low:?} {place:?} {high:?}");
                // A place just behind it serves as well.
                if high.starts_with(place) {
                    break;
                }
            }
        }
    }
}
