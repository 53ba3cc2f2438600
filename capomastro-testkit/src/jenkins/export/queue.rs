//! The queue as JSON.

use super::{
    Object,
    build::{export_causes, export_values},
    job_path,
};
use crate::jenkins::{
    job::Job,
    language::{Language, why},
    queue::{Fate, Item, Stage},
    security::{Permission, Who},
    state::State,
    tree::{
        Select,
        visible::{ALWAYS, DEEPER, HERE},
    },
    trigger::shown,
};
use serde_json::Value;

impl State {
    /// An item, in the queue or left.
    pub(in crate::jenkins) fn export_item(
        &self,
        item: &Item,
        fate: Option<Fate>,
        language: Language,
        select: &Select,
    ) -> Value {
        let Some(job) = self.jobs.get(&item.job).or_else(|| self.deleted.get(&item.job)) else {
            return Value::Null;
        };
        let class = match (fate, item.stage) {
            (Some(_), _) => "hudson.model.Queue$LeftItem",
            (None, Stage::Waiting { .. }) => "hudson.model.Queue$WaitingItem",
            (None, Stage::Blocked { .. }) => "hudson.model.Queue$BlockedItem",
            (None, Stage::Buildable { .. } | Stage::Pending { .. }) => "hudson.model.Queue$BuildableItem",
        };
        let live = fate.is_none();
        let buildable = live && matches!(item.stage, Stage::Buildable { .. } | Stage::Pending { .. });
        let params: String = item
            .values
            .iter()
            .flat_map(|values| values.iter())
            .map(|(name, value)| format!("\n{name}={}", shown(value)))
            .collect();
        let mut out = Object::of(select, class);
        let both: [bool; 2] = [item.values.is_some(), true];
        out.list(
            "actions",
            HERE,
            both.iter().enumerate().filter(|(_, is)| **is),
            |(which, _), select| match (which, &item.values) {
                (0, Some(values)) => export_values(values, select),
                _ => export_causes(&item.causes, select),
            },
        )
        .put("blocked", HERE, live && matches!(item.stage, Stage::Blocked { .. }))
        .put("buildable", HERE, buildable)
        .put("id", HERE, item.id)
        .put("inQueueSince", HERE, item.since)
        .put("params", HERE, params)
        .put("stuck", HERE, live && self.is_stuck(item, job))
        .object("task", HERE, |select| {
            Object::of(select, job.class())
                .put("name", ALWAYS, job.name())
                .put("url", ALWAYS, format!("{}{}", self.root(), job_path(&job.full_name)))
                .put("color", ALWAYS, self.color(job))
                .done()
        })
        .put("url", HERE, format!("queue/item/{}/", item.id))
        .put(
            "why",
            HERE,
            if live { Value::from(why(self, item, job, language)) } else { Value::Null },
        );
        match (fate, item.stage) {
            (Some(fate), _) => {
                out.put("cancelled", HERE, fate == Fate::Cancelled).object("executable", HERE, |select| {
                    match fate {
                        Fate::Started { number, shown_from } if shown_from <= self.now => {
                            Object::of(select, job.build_class())
                                .put("number", DEEPER, number)
                                .put("url", DEEPER, self.build_url(job, number))
                                .done()
                        }
                        Fate::Cancelled | Fate::Nothing | Fate::Started { .. } => Value::Null,
                    }
                });
            }
            (None, Stage::Waiting { due }) => {
                out.put("timestamp", HERE, due);
            }
            (None, Stage::Blocked { since }) => {
                out.put("buildableStartMilliseconds", HERE, since);
            }
            (None, Stage::Buildable { since }) => {
                out.put("buildableStartMilliseconds", HERE, since).put("pending", HERE, false);
            }
            (None, Stage::Pending { since, .. }) => {
                out.put("buildableStartMilliseconds", HERE, since).put("pending", HERE, true);
            }
        }
        out.done()
    }

    /// Buildable for far longer than it should take, or without any node that could run it.
    fn is_stuck(&self, item: &Item, job: &Job) -> bool {
        let Stage::Buildable { since } = item.stage else { return false };
        let waited = self.now.saturating_sub(since);
        let limit = job.estimate().map_or(86_400_000, |estimate| estimate.max(60_000).saturating_mul(10));
        !self.runs_here(job) || waited > limit
    }

    pub(in crate::jenkins) fn export_queue(&self, who: &Who, language: Language, select: &Select) -> Value {
        let mut out = Object::of(select, "hudson.model.Queue");
        let read = self.may(who, Permission::JobRead);
        let discover = !read && self.may(who, Permission::JobDiscover);
        // Waiting ones first, then blocked, buildable and pending ones, each in their order.
        let mut items: Vec<&Item> = self.queue.items.values().collect();
        items.sort_by_key(|item| match item.stage {
            Stage::Waiting { .. } => 0,
            Stage::Blocked { .. } => 1,
            Stage::Buildable { .. } => 2,
            Stage::Pending { .. } => 3,
        });
        out.list("discoverableItems", HERE, items.iter().filter(|_| discover), |item, select| {
            Object::plain(select)
                .object("task", ALWAYS, |select| {
                    let name = self.jobs.get(&item.job).map(Job::name);
                    Object::plain(select).put("name", ALWAYS, name).done()
                })
                .done()
        });
        out.inline("items", items.iter().filter(|_| read), |item, select| {
            self.export_item(item, None, language, select)
        });
        out.done()
    }
}
