//! A commit in words.

use capomastro_core::store::{Batch, Record};

/// What a batch writes, for people: a line for each thing of note.
pub(super) fn told(batch: &Batch) -> Vec<String> {
    let mut lines = vec![format!(
        "  commit by {} ({} guards, claims {:?})",
        batch.holder,
        batch.guards.len(),
        batch.claims.iter().map(|c| format!("{}#{}", c.task, c.ticket)).collect::<Vec<_>>()
    )];
    for put in &batch.puts {
        lines.push(match &put.record {
            Record::State(s) => format!(
                "    state {}: observed {:?} accounted {:?} held {:?} waiting {} stored {} retry {:?} linked {:?} paused {} not found {} {} epoch {}",
                s.id, s.observed_revision(), s.accounted_revision(), s.held.as_ref().map(|h| h.owner),
                s.waiting.len(), s.stored.len(), s.retry.as_ref().map(|r| r.not_before), s.linked.as_ref().map(|l| l.build),
                s.paused.is_some(), s.not_found, s.health.as_str(), s.epoch,
            ),
            Record::Build(b) => format!("    build {} no. {} of {}: {} at {} ({:?})", b.id, b.number, b.dependency, b.phase, b.revision, b.external),
            Record::Project(p) => format!("    project {}: current {:?} open {} members {:?}", p.name, p.current.as_ref().map(|c| &c.builds), p.open.len(), p.members),
            Record::ProjectBuild(p) => format!("    project build {}: {:?} {:?}", p.name, p.seal.as_ref().map(|s| s.outcome), p.slots.values().map(|s| &s.kind).collect::<Vec<_>>()),
            Record::Receipt(r) => format!("    receipt {}: {:?}", r.id, r.state),
            other => format!("    {}", other.key()),
        });
    }
    lines.extend(batch.due.iter().map(|due| format!("    {due:?}")));
    lines
}
