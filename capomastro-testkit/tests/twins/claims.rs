//! Twins of the cases about taking due work and giving it back.

use crate::{
    Ground,
    bent::{Bent, Mem, refuse},
    twins,
};
use capomastro_core::{
    ErrorKind, async_trait,
    model::CommitId,
    store::{Batch, Claim, ClaimAsk, Claimed, DueChange, PutBack, Task},
    time::{Clock, Monotonic, Timestamp, later},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A wall clock that never goes back.
#[derive(Debug)]
struct Latest<C> {
    clock: C,
    seen: Mutex<Timestamp>,
}

#[async_trait]
impl<C: Clock> Clock for Latest<C> {
    fn now(&self) -> Timestamp {
        let mut seen = self.seen.lock().unwrap();
        *seen = self.clock.now().max(*seen);
        *seen
    }
    fn monotonic(&self) -> Monotonic {
        self.clock.monotonic()
    }
    async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }
}

/// Tickets as a twin tells them, by the tickets that the store knows.
#[derive(Debug, Default)]
struct Told(BTreeMap<(Task, u64), u64>);

impl Told {
    fn tell(&mut self, claim: &mut Claim, told: u64) {
        self.0.insert((claim.task, claim.ticket), told);
        claim.ticket = told;
    }

    /// The newest ticket that was told as this one, as the store knows it.
    fn known(&self, claim: &Claim) -> u64 {
        let mut known = claim.ticket;
        for ((task, ticket), told) in &self.0 {
            if *task == claim.task && *told == claim.ticket {
                known = *ticket;
            }
        }
        known
    }
}

/// A store that tells other tickets: `told` says which, by the claims that were told of the task before.
fn tells_tickets(
    ground: &Ground,
    told: impl Fn(&Mem, &ClaimAsk, &Claim, &Told) -> u64 + Send + Sync + 'static,
) -> Bent {
    let tickets: Arc<Mutex<Told>> = Arc::default();
    let known = Arc::clone(&tickets);
    ground
        .sound()
        .on_claim(move |mem, ask| {
            let before = mem.fork();
            let mut claimed = mem.claim_due(&ask)?;
            let mut tickets = tickets.lock().unwrap();
            for claim in &mut claimed.claims {
                let ticket = told(&before, &ask, claim, &tickets);
                tickets.tell(claim, ticket);
            }
            Ok(claimed)
        })
        .on_commit(move |mem, mut batch| {
            let known = known.lock().unwrap();
            batch.claims.iter_mut().for_each(|claim| claim.ticket = known.known(claim));
            mem.commit(&batch)
        })
}

/// Takes what is due a moment too early.
fn early(mem: &Mem, ask: &ClaimAsk) -> capomastro_core::Result<Claimed> {
    let mut claimed = mem.claim_due(ask)?;
    let soon = later(mem.now(), Duration::from_millis(1));
    for lane in &ask.lanes {
        for row in mem.rows() {
            if row.lane == lane.lane && row.claimed_by.is_none() && row.due_at <= soon && lane.limit > 0 {
                let id = CommitId::from_uuid(uuid::Uuid::from_u128(
                    row.due_at.timestamp_micros().unsigned_abs().into(),
                ));
                let mut batch = Batch::new(id, ask.holder.clone());
                batch.due = vec![DueChange::Hold { task: row.task, lane: row.lane, lease: lane.lease }];
                claimed.claims.extend(mem.commit(&batch)?.claims);
            }
        }
    }
    Ok(claimed)
}

twins! {
    nothing_is_taken_before_it_is_due, "what is due within a millisecond is due": |ground: &Ground| {
        ground.sound().on_claim(|mem, ask| early(mem, &ask))
    };
    work_is_taken_in_due_order, "what was due last is told first": |ground: &Ground| {
        ground.sound().on_claim(|mem, ask| {
            let mut claimed = mem.claim_due(&ask)?;
            claimed.claims.reverse();
            Ok(claimed)
        })
    };
    lanes_and_their_limits_are_kept_apart, "probes whose names differ in case share a lane": |ground: &Ground| {
        use capomastro_core::store::Lane;
        let folded = |lane: &mut Lane| {
            if let Lane::Probe(name) = lane {
                *lane = Lane::Probe(name.to_string().to_ascii_lowercase().parse().unwrap());
            }
        };
        ground
            .sound()
            .on_commit(move |mem, mut batch| {
                for change in &mut batch.due {
                    if let DueChange::Set { lane, .. } | DueChange::Hold { lane, .. } = change {
                        folded(lane);
                    }
                }
                mem.commit(&batch)
            })
            .on_claim(move |mem, ask| {
                let mut claimed = Claimed { now: mem.now(), claims: Vec::new(), next_due: None };
                let mut seen = std::collections::BTreeSet::new();
                for mut one in ask.lanes {
                    if !seen.insert(one.lane.clone()) {
                        return refuse(ErrorKind::InvalidInput);
                    }
                    folded(&mut one.lane);
                    let of_lane = mem.claim_due(&ClaimAsk { lanes: vec![one], holder: ask.holder.clone() })?;
                    claimed.claims.extend(of_lane.claims);
                    claimed.next_due = claimed.next_due.into_iter().chain(of_lane.next_due).min();
                }
                Ok(claimed)
            })
    };
    a_claim_is_exclusive, "a lease ends a moment too early": |ground: &Ground| {
        ground.sound().on_claim(|mem, ask| {
            let soon = later(mem.now(), Duration::from_millis(1));
            for row in mem.rows() {
                if let Some(owner) = row.claimed_by.filter(|_| row.due_at > mem.now() && row.due_at <= soon) {
                    let (task, ticket, due_at, note) = (row.task, row.ticket, row.due_at, row.note);
                    let claim = Claim { task, ticket, due_at, note: note.clone() };
                    let ended = PutBack { claim, after: Duration::ZERO, note };
                    mem.put_back(&owner.parse().unwrap(), &[ended])?;
                }
            }
            mem.claim_due(&ask)
        })
    };
    racing_claimers_never_share_a_task, "what is due is read before it is taken": crate::racing::LooksBeforeItTakes::new;
    a_lapsed_claim_is_taken_over_with_a_higher_ticket, "who takes its own work again keeps the ticket": |ground: &Ground| {
        tells_tickets(ground, |before, ask, claim, told| {
            let own = before.row(claim.task).filter(|row| row.claimed_by == Some(ask.holder.to_string()));
            own.and_then(|row| told.0.get(&(claim.task, row.ticket)).copied()).unwrap_or(claim.ticket)
        })
    };
    a_lapsed_claim_holds_until_it_is_taken_over, "a claim ends with its lease": |ground: &Ground| {
        ground.sound().on_commit(|mem, batch| {
            let lapsed = |claim: &Claim| mem.row(claim.task).is_some_and(|row| row.due_at <= mem.now());
            if batch.claims.iter().any(lapsed) && !mem.remembers(batch.id) {
                return refuse(ErrorKind::ClaimLost);
            }
            mem.commit(&batch)
        })
    };
    a_late_commit_of_an_old_claim_is_lost, "a claim is looked at only where its own row is changed": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            let changed: Vec<Task> = batch.due.iter().map(DueChange::task).collect();
            batch.claims.retain(|claim| changed.contains(&claim.task));
            mem.commit(&batch)
        })
    };
    a_claim_is_its_holders_own, "anybody may give a claim back": |ground: &Ground| {
        ground.sound().on_put_back(|mem, _, items| {
            for item in items {
                let owner = mem.row(item.claim.task).and_then(|row| row.claimed_by);
                if let Some(owner) = owner {
                    mem.put_back(&owner.parse().unwrap(), &[item])?;
                }
            }
            Ok(())
        })
    };
    a_claim_that_was_given_back_is_lost, "a claim can be used until somebody else takes the task": |ground: &Ground| {
        ground.sound().on_commit(|mem, mut batch| {
            batch.claims.retain(|claim| {
                mem.row(claim.task)
                    .is_none_or(|row| row.ticket != claim.ticket || row.claimed_by.is_some())
            });
            mem.commit(&batch)
        })
    };
    a_late_put_back_is_passed_over, "one claim that is lost keeps the others from being given back": |ground: &Ground| {
        ground.sound().on_put_back(|mem, holder, items| {
            let is_held = |claim: &Claim| mem.row(claim.task).is_some_and(|row| row.ticket == claim.ticket);
            if !items.iter().all(|item| is_held(&item.claim)) {
                return Ok(());
            }
            mem.put_back(holder, &items)
        })
    };
    tickets_grow_even_when_the_row_is_made_anew, "a new row begins with the first ticket": |ground: &Ground| {
        tells_tickets(ground, |before, _, claim, _| match before.row(claim.task) {
            Some(row) if row.ticket == 0 => 1,
            _ => claim.ticket,
        })
    };
    the_next_due_time_is_that_of_the_lanes_asked_for, "only the first lane says what is due next": |ground: &Ground| {
        ground.sound().on_claim(|mem, ask| {
            let mut claimed = mem.claim_due(&ask)?;
            let first = ask.lanes.first().map(|one| &one.lane);
            let next = mem.rows().into_iter().filter(|row| {
                Some(&row.lane) == first && claimed.claims.iter().all(|claim| claim.task != row.task)
            });
            claimed.next_due = next.map(|row| row.due_at).min();
            Ok(claimed)
        })
    };
    a_clock_that_jumps_loses_nothing, "time never goes back": |ground: &Ground| {
        let clock = Latest { seen: Mutex::new(ground.clock.now()), clock: ground.clock.clone() };
        Bent::new(ground.mem().by(Arc::new(clock)))
    };
}
