//! What becomes of an external build that turned up when its driver had lost its claim?

use crate::{
    Result,
    launch::{Report, Seen},
    model::{Build, ExternalRef, Orphan, OrphanVerdict, Phase},
    time::{Timestamp, until},
};
use std::time::Duration;

/// How long an orphan that the build system does not know is looked at before it is let go.
const UNKNOWN_FOR: Duration = Duration::from_secs(900);
/// How soon an orphan is looked at again that could not be judged.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What to do with an orphan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The verdict is this; nothing else is to be done.
    Verdict(OrphanVerdict),
    /// The build has no external build yet, and this is it: give this answer to [`Situation::found`], then the verdict is
    /// [`OrphanVerdict::Adopted`].
    ///
    /// [`Situation::found`]: super::Situation::found
    Adopt(ExternalRef),
    /// It is a second external build: ask the build system to stop this one, then the verdict is
    /// [`OrphanVerdict::Cancelled`].
    Stop(ExternalRef),
    /// It cannot be told yet: look again after this long.
    Later(Duration),
}

/// Judges an orphan by looks at it and, where the build has a reference of its own, at that one: both may have moved on from
/// a place in a queue to the same build. `build` is `None` where its record is gone.
pub fn judge(
    orphan: &Orphan,
    build: Option<&Build>,
    seen: &Result<Report>,
    own: Option<&Result<Report>>,
    now: Timestamp,
) -> Judgement {
    let Ok(seen) = seen else { return Judgement::Later(LOOK_AGAIN) };
    let newest = seen.external.as_ref().unwrap_or(&orphan.external);
    match build.map(|b| (b, b.external.as_ref())) {
        Some((_, Some(external))) if *external == orphan.external || external == newest => {
            return Judgement::Verdict(OrphanVerdict::Adopted);
        }
        Some((b, Some(_))) if !b.phase.is_terminal() => match own {
            Some(Ok(own)) if own.external.as_ref() == Some(newest) => {
                return Judgement::Verdict(OrphanVerdict::Adopted);
            }
            Some(Ok(_)) => {}
            // Stopping it now might stop the build itself.
            Some(Err(_)) | None => return Judgement::Later(LOOK_AGAIN),
        },
        Some((b, None)) if b.phase == Phase::Launching && seen.seen != Seen::Unknown => {
            return Judgement::Adopt(newest.clone());
        }
        _ => {}
    }
    match seen.seen {
        Seen::Ended(_) => Judgement::Verdict(OrphanVerdict::Ignored),
        Seen::Unknown if until(orphan.seen_at, now) >= UNKNOWN_FOR => {
            Judgement::Verdict(OrphanVerdict::Ignored)
        }
        Seen::Unknown => Judgement::Later(LOOK_AGAIN),
        Seen::Queued { .. } | Seen::Running => Judgement::Stop(newest.clone()),
    }
}
