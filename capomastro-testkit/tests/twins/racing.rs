//! Twins of the cases in which several come at once, or give up. Alone, and waited for, each of these stores is sound.

use crate::{
    Ground,
    bent::{Bent, Mem, derived, later_on, refuse},
    twins,
};
use capomastro_core::{
    ErrorKind, Result, async_trait,
    model::{EventSeq, HolderId},
    store::{
        Batch, ClaimAsk, Claimed, Committed, DueChange, EventFilter, EventPage, Key, Page, PutBack, Query,
        Snapshot, StateStore, StoreInfo,
    },
};
use std::time::Duration;

/// One method with a pause in it; the others are sound.
macro_rules! paused {
    ($(#[$doc:meta])* $name:ident: commit($this:ident, $batch:ident) $body:block) => {
        paused!(@ $(#[$doc])* $name: {
            async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
                self.mem.get(keys)
            }
            async fn commit(&self, $batch: &Batch) -> Result<Committed> {
                let $this = self;
                $body
            }
            async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
                self.mem.claim_due(ask)
            }
        });
    };
    ($(#[$doc:meta])* $name:ident: get($this:ident, $keys:ident) $body:block) => {
        paused!(@ $(#[$doc])* $name: {
            async fn get(&self, $keys: &[Key]) -> Result<Snapshot> {
                let $this = self;
                $body
            }
            async fn commit(&self, batch: &Batch) -> Result<Committed> {
                self.mem.commit(batch)
            }
            async fn claim_due(&self, ask: &ClaimAsk) -> Result<Claimed> {
                self.mem.claim_due(ask)
            }
        });
    };
    ($(#[$doc:meta])* $name:ident: claim_due($this:ident, $ask:ident) $body:block) => {
        paused!(@ $(#[$doc])* $name: {
            async fn get(&self, keys: &[Key]) -> Result<Snapshot> {
                self.mem.get(keys)
            }
            async fn commit(&self, batch: &Batch) -> Result<Committed> {
                self.mem.commit(batch)
            }
            async fn claim_due(&self, $ask: &ClaimAsk) -> Result<Claimed> {
                let $this = self;
                $body
            }
        });
    };
    (@ $(#[$doc:meta])* $name:ident: { $($methods:tt)* }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name {
            mem: Mem,
            sound: Bent,
        }

        impl $name {
            pub(crate) fn new(ground: &Ground) -> Self {
                let mem = ground.mem();
                Self { sound: Bent::new(mem.clone()), mem }
            }
        }

        #[async_trait]
        impl StateStore for $name {
            async fn check(&self) -> Result<StoreInfo> {
                self.sound.check().await
            }
            async fn list(&self, query: &Query, after: Option<&str>, limit: usize) -> Result<Page> {
                self.sound.list(query, after, limit).await
            }
            async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
                self.sound.events(filter, after, limit).await
            }
            async fn put_back(&self, holder: &HolderId, items: &[PutBack]) -> Result<()> {
                self.sound.put_back(holder, items).await
            }
            $($methods)*
        }
    };
}

impl Mem {
    /// Writes what was checked a while ago, over whatever was written since to records of which a version was expected,
    /// or to those of which there was none.
    fn force(&self, batch: &Batch, created: bool) -> Result<Committed> {
        let mut batch = batch.clone();
        for put in batch.puts.iter_mut().filter(|put| put.expect.is_none() == created) {
            put.expect = self.stored(&put.record.key()).map(|stored| stored.version);
        }
        self.commit(&batch)
    }
}

paused! {
    /// Asks what is due, and takes it afterwards.
    LooksBeforeItTakes: claim_due(this, ask) {
        let seen = this.mem.fork().claim_due(ask);
        later_on().await;
        this.mem.claim_due(ask)?;
        seen
    }
}

paused! {
    /// Compares versions, and writes afterwards.
    ComparesBeforeItWrites: commit(this, batch) {
        this.mem.fork().commit(batch)?;
        later_on().await;
        this.mem.force(batch, false)
    }
}

paused! {
    /// Looks whether there is a record, and creates it afterwards.
    LooksBeforeItCreates: commit(this, batch) {
        this.mem.fork().commit(batch)?;
        later_on().await;
        this.mem.force(batch, true)
    }
}

paused! {
    /// Looks whether a name is free, and tells nobody when it is not any more.
    LooksBeforeItNames: commit(this, batch) {
        let seen = this.mem.fork().commit(batch)?;
        later_on().await;
        match this.mem.commit(batch) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(seen),
            answer => answer,
        }
    }
}

paused! {
    /// Looks whether it remembers a commit, and says so afterwards.
    RemembersTooLate: commit(this, batch) {
        let repeated = this.mem.remembers(batch.id);
        later_on().await;
        Ok(Committed { repeated, ..this.mem.commit(batch)? })
    }
}

paused! {
    /// Reads record by record.
    ReadsOneByOne: get(this, keys) {
        let (mut at, mut records) = (this.mem.now(), Vec::new());
        for key in keys {
            let one = this.mem.get(std::slice::from_ref(key))?;
            at = one.at;
            records.extend(one.records);
            later_on().await;
        }
        Ok(Snapshot { at, records })
    }
}

paused! {
    /// Writes records, and then the rest.
    WritesInTwoSteps: commit(this, batch) {
        if this.mem.remembers(batch.id) {
            return this.mem.commit(batch);
        }
        let mut records = batch.clone();
        records.id = derived(batch.id, 1);
        records.due.clear();
        records.events.clear();
        if !this.mem.remembers(records.id) {
            this.mem.fork().commit(batch)?;
            this.mem.commit(&records)?;
        }
        later_on().await;
        let mut rest = batch.clone();
        rest.puts.clear();
        rest.deletes.clear();
        rest.guards.clear();
        this.mem.commit(&rest)
    }
}

paused! {
    /// Takes what is due for a long time, and for the time that was asked for afterwards.
    ClaimsInTwoSteps: claim_due(this, ask) {
        let lease = ask.lanes.iter().map(|one| one.lease).max().unwrap_or_default();
        let mut long = ask.clone();
        long.lanes.iter_mut().for_each(|one| one.lease = Duration::from_secs(1_000_000));
        let claimed = this.mem.claim_due(&long)?;
        if claimed.claims.is_empty() {
            return Ok(claimed);
        }
        later_on().await;
        let id = u128::from(claimed.claims[0].ticket);
        let mut batch = Batch::new(
            capomastro_core::model::CommitId::from_uuid(uuid::Uuid::from_u128(id)),
            ask.holder.clone(),
        );
        batch.claims.clone_from(&claimed.claims);
        for claim in &claimed.claims {
            let Some(row) = this.mem.row(claim.task) else { return refuse(ErrorKind::Internal) };
            batch.due.push(DueChange::Hold { task: claim.task, lane: row.lane, lease });
        }
        this.mem.commit(&batch)?;
        Ok(claimed)
    }
}

twins! {
    one_committer_wins_each_version, "versions are compared before the write": ComparesBeforeItWrites::new;
    one_creator_wins, "that there is no record is seen before the write": LooksBeforeItCreates::new;
    one_owner_wins_a_name, "that a name is free is seen before the write": LooksBeforeItNames::new;
    one_of_the_same_commit_writes, "that a commit is new is seen before the write": RemembersTooLate::new;
    snapshots_are_never_torn, "records are read one by one": ReadsOneByOne::new;
    a_dropped_commit_is_written_whole_or_not_at_all, "records are written before the rest": WritesInTwoSteps::new;
    a_dropped_claim_ends_by_itself, "a claim is made in two steps": ClaimsInTwoSteps::new;
}
