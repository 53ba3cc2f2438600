//! Removing builds that nobody needs any more.

use crate::{
    enclosure::Enclosure,
    fault::on_disk,
    folder::{Folder, remove},
    launcher::CommandLauncher,
    runner::blocking,
};
use capomastro_core::{
    Result,
    model::LaunchKey,
    time::{Timestamp, until},
};
use std::{fs, io, time::Duration};

impl CommandLauncher {
    /// Removes these builds, with log, artifacts and workspace. Call it with builds whose end the scheduler has recorded:
    /// the key of a build that is forgotten is free again.
    ///
    /// Builds that run, or that somebody is just looking at, are left alone and returned; those that are not there count
    /// as removed. *Idempotency*: may be repeated. *Cancellation*: what is removed stays removed.
    ///
    /// # Errors
    /// [`Unavailable`](capomastro_core::ErrorKind::Unavailable) if a folder cannot be removed.
    pub async fn forget(&self, keys: &[LaunchKey]) -> Result<Vec<LaunchKey>> {
        let (keys, this) = (keys.to_vec(), self.clone());
        blocking(move || {
            let mut kept = Vec::new();
            for key in keys {
                if !forget(&this.0.root.folder(key), this.0.enclosure.as_deref())? {
                    kept.push(key);
                }
            }
            Ok(kept)
        })
        .await
    }

    /// Removes the builds that were first reported as ended at least this long ago, and what is left of launches of
    /// that age that came to nothing. Returns their keys.
    ///
    /// Never touches a build that runs, nor one whose end nobody has asked for yet. Choose more than the longest time
    /// between two looks of the scheduler. *Idempotency*: may be repeated. *Cancellation*: as
    /// [`forget`](CommandLauncher::forget).
    ///
    /// A build that cannot be removed is logged and left.
    ///
    /// # Errors
    /// [`Unavailable`](capomastro_core::ErrorKind::Unavailable) if the folder of builds cannot be read.
    pub async fn sweep(&self, older_than: Duration) -> Result<Vec<LaunchKey>> {
        let this = self.clone();
        let now = this.0.clock.now();
        blocking(move || {
            for leaving in this.0.root.leavings()? {
                remove(&leaving).map_err(|e| on_disk("remove a build's folder", &leaving, e))?;
            }
            let mut removed = Vec::new();
            for key in this.0.root.keys()? {
                let folder = this.0.root.folder(key);
                match is_older(&folder, now, older_than)
                    .and_then(|old| Ok(old && forget(&folder, this.0.enclosure.as_deref())?))
                {
                    Ok(true) => removed.push(key),
                    Ok(false) => {}
                    // One that cannot be removed must not keep the others.
                    Err(error) => tracing::warn!(%key, error = %error.report(), "a build cannot be swept"),
                }
            }
            Ok(removed)
        })
        .await
    }
}

/// Whether a build was reported as ended, or a launch came to nothing, that long ago.
fn is_older(folder: &Folder, now: Timestamp, than: Duration) -> Result<bool> {
    let file = if folder.has("started") { "result.json" } else { "lock" };
    let file = folder.at(file);
    match fs::metadata(&file).and_then(|m| m.modified()) {
        Ok(at) => Ok(until(Timestamp::from(at), now) >= than),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(on_disk("tell a build's age", &file, e)),
    }
}

/// Removes a build unless it runs or somebody is busy with it.
fn forget(folder: &Folder, enclosure: Option<&dyn Enclosure>) -> Result<bool> {
    if !folder.exists() {
        return Ok(true);
    }
    let Some(lock) = folder.lock()? else { return Ok(!folder.exists()) };
    // A damaged record is no reason to keep a build: its supervisor is gone, or we would not have the lock.
    let lives = !folder.has("status.json")
        && folder
            .started()
            .ok()
            .flatten()
            .is_some_and(|started| started.living_group(folder.key()).is_some());
    if !lives {
        if let Some(enclosure) = enclosure {
            enclosure.leave(folder.key(), folder.path())?;
        }
        folder.remove()?;
    }
    drop(lock);
    Ok(!lives)
}
