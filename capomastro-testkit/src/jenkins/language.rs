//! Why an item waits, in the language of who asks.

use super::{
    job::Job,
    queue::{Item, Stage},
    state::State,
};

/// Languages in which the texts of the queue were seen.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    German,
    Japanese,
}

impl Language {
    /// The one that `Accept-Language` prefers.
    pub(super) fn of(header: Option<&str>) -> Self {
        match header.unwrap_or_default().get(..2) {
            Some("de") => Self::German,
            Some("ja") => Self::Japanese,
            _ => Self::English,
        }
    }
}

/// A time span as people are shown it: its largest unit, with one decimal below ten.
fn span(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0..10 => format!("{}.{} sec", seconds, millis % 1_000 / 100),
        10..60 => format!("{seconds} sec"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} hr", seconds / 3_600),
        86_400..31_536_000 => format!("{} days", seconds / 86_400),
        _ => format!("{} yr", seconds / 31_536_000),
    }
}

/// Why `item` has not started.
pub(super) fn why(state: &State, item: &Item, job: &Job, language: Language) -> String {
    match item.stage {
        Stage::Waiting { due } => {
            let left = due.saturating_sub(state.now);
            match language {
                Language::English => format!("In the quiet period. Expires in {}", span(left)),
                Language::German => {
                    format!("In Ruhe-Periode. Endet in {}", span(left).replace("sec", "Sekunden"))
                }
                Language::Japanese => format!("待機中です。あと{}です。", span(left).replace("sec", "秒")),
            }
        }
        Stage::Blocked { .. } => match job.running.last() {
            Some(number) => format!("Build #{number} is already in progress (ETA: N/A)"),
            None => "A build is already in progress".to_owned(),
        },
        _ if state.quieting.is_some() => "Jenkins is about to shut down".to_owned(),
        _ => match &job.settings.label {
            Some(label) if !state.runs_here(job) => format!("‘Jenkins’ doesn’t have label ‘{label}’"),
            _ => "Waiting for next available executor".to_owned(),
        },
    }
}
