//! Builds: what the server keeps of each, and what it shows at a time.

use super::{queue::Cause, script::Script};
use std::{sync::Arc, time::Duration};

/// How long a build that starts is seen half-made. Everything is counted from the moment at which its item left the
/// queue and its number was taken.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Youth {
    /// Until then `nextBuildNumber` counts it, and no list shows it.
    pub unlisted: Duration,
    /// Until then its item has left the queue with `executable:null`.
    pub no_executable: Duration,
    /// Until then its `queueId` is -1.
    pub no_queue_id: Duration,
    /// Until then it has no parameters.
    pub no_parameters: Duration,
    /// Until then it is not in progress.
    pub not_started: Duration,
}

impl Youth {
    /// The same time for all.
    pub const fn all(time: Duration) -> Self {
        Self {
            unlisted: Duration::ZERO,
            no_executable: time,
            no_queue_id: time,
            no_parameters: time,
            not_started: time,
        }
    }
}

/// A value of a parameter, of the kind that the job declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Given {
    Text(String),
    Boolean(bool),
    Secret(String),
    LongText(String),
}

impl Given {
    pub(super) fn plain(&self) -> String {
        match self {
            Self::Text(text) | Self::LongText(text) | Self::Secret(text) => text.clone(),
            Self::Boolean(value) => value.to_string(),
        }
    }

    pub(super) fn class(&self) -> &'static str {
        match self {
            Self::Text(_) => "hudson.model.StringParameterValue",
            Self::LongText(_) => "hudson.model.TextParameterValue",
            Self::Boolean(_) => "hudson.model.BooleanParameterValue",
            Self::Secret(_) => "hudson.model.PasswordParameterValue",
        }
    }

    /// Equality as the queue sees it: secrets are all alike.
    pub(super) fn same(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Secret(_), Self::Secret(_))) || self == other
    }
}

/// Parameters in the order in which the job declares them.
pub(super) type Values = Arc<Vec<(String, Given)>>;

/// How a build came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) at: u64,
    pub(super) result: String,
    /// Who stopped it.
    pub(super) interrupted_by: Option<String>,
    /// A record that was saved early and found again after the process had died: no duration, no last line of its log.
    pub(super) cut: bool,
}

/// A build as the server has it.
#[derive(Clone, Debug)]
pub(super) struct Build {
    pub(super) number: u32,
    pub(super) queue_id: u64,
    /// `None`: a job without parameters.
    pub(super) values: Option<Values>,
    pub(super) causes: Vec<Cause>,
    /// When it was created, in milliseconds.
    pub(super) created: u64,
    pub(super) script: Arc<Script>,
    pub(super) youth: Youth,
    pub(super) ended: Option<Ended>,
    pub(super) description: Option<String>,
    /// Its record is on disk, though it has not ended.
    pub(super) saved: bool,
    /// The record is away for good: a hole.
    pub(super) hole: bool,
    /// How hard it was asked to stop.
    pub(super) stop_asked: Option<super::script::Stop>,
}

/// What a build shows at a time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct View<'a> {
    pub(super) listed: bool,
    pub(super) queue_id_known: bool,
    pub(super) values_known: bool,
    pub(super) building: bool,
    pub(super) in_progress: bool,
    pub(super) result: Option<&'a str>,
    pub(super) duration: u64,
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Build {
    /// When its script began.
    pub(super) fn began(&self) -> u64 {
        self.created.saturating_add(millis(self.youth.not_started))
    }

    /// When it stops counting as building: its result is shown some time before that.
    fn stops_building(&self, ended: &Ended) -> u64 {
        if ended.cut { ended.at } else { ended.at.saturating_add(millis(self.script.result_before_end)) }
    }

    /// When everything about it is over and its executor is free.
    pub(super) fn over(&self) -> Option<u64> {
        let ended = self.ended.as_ref()?;
        let stops = self.stops_building(ended);
        Some(if ended.cut { stops } else { stops.saturating_add(millis(self.script.post_production)) })
    }

    pub(super) fn view(&self, now: u64, pipeline: bool) -> View<'_> {
        let since = |time: Duration| now >= self.created.saturating_add(millis(time));
        let mut view = View {
            listed: !self.hole && since(self.youth.unlisted),
            queue_id_known: since(self.youth.no_queue_id),
            values_known: since(self.youth.no_parameters),
            building: true,
            in_progress: since(self.youth.not_started),
            result: self.provisional(now),
            duration: 0,
        };
        if let Some(ended) = &self.ended
            && now >= ended.at
        {
            view.result = Some(&ended.result);
            let over = self.over().is_some_and(|over| now >= over);
            // A Pipeline counts as building until all is over.
            view.building = if pipeline { !over } else { now < self.stops_building(ended) };
            view.in_progress = !over;
            if !view.building && !ended.cut {
                view.duration = self.stops_building(ended).saturating_sub(self.began());
            }
        }
        view
    }

    fn provisional(&self, now: u64) -> Option<&str> {
        let began = self.began();
        self.script
            .worsens
            .iter()
            .rfind(|(after, _)| now >= began.saturating_add(millis(*after)))
            .map(|(_, result)| result.as_str())
    }
}
