//! The shortest story: what can be left out without the violation going away.

use super::{Shortest, Simulation, history, plan::Plan};

/// How many runs are spent on it.
const MOST_RUNS: u32 = 400;

pub(super) fn shrink(simulation: &Simulation) -> Option<Shortest> {
    let quiet = Simulation { tells: false, ..simulation.clone() };
    let mut plan = Plan::draw(simulation.seed);
    let first = history::run(&quiet, plan.clone()).violations.into_iter().next()?;
    let mut runs = 0;
    let mut still_fails = |candidate: &Plan| {
        runs += 1;
        runs <= MOST_RUNS
            && history::run(&quiet, candidate.clone())
                .violations
                .first()
                .is_some_and(|v| v.invariant == first.invariant)
    };
    loop {
        let before = plan.size();
        for candidate in plan.without_faults() {
            if candidate.size() < plan.size() && still_fails(&candidate) {
                plan = candidate;
            }
        }
        for place in (0..plan.actions.len()).rev() {
            let mut candidate = plan.clone();
            candidate.actions.remove(place);
            if still_fails(&candidate) {
                plan = candidate;
            }
        }
        if plan.size() == before {
            break;
        }
    }
    let told = Simulation { tells: true, ..simulation.clone() };
    let verdict = history::run(&told, plan.clone());
    Some(Shortest { plan: plan.lines(), verdict })
}

impl Plan {
    /// How much there is to leave out.
    fn size(&self) -> usize {
        let f = &self.faults;
        let rates = [f.store_before, f.store_after, f.slow, f.launch, f.system, f.probe, f.bad_builds];
        self.actions.len() + rates.iter().filter(|r| **r > 0).count() + self.processes.len()
    }

    /// The plan without one thing that goes wrong by itself.
    fn without_faults(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for n in 0..8 {
            let mut plan = self.clone();
            let f = &mut plan.faults;
            match n {
                0 => f.store_before = 0,
                1 => f.store_after = 0,
                2 => f.slow = 0,
                3 => f.launch = 0,
                4 => f.system = 0,
                5 => f.probe = 0,
                6 => f.bad_builds = 0,
                _ => plan.processes.truncate(1),
            }
            all.push(plan);
        }
        all
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("schedulers (whether each runs by itself): {:?}", self.processes),
            format!(
                "promise {:?}, lock elsewhere {:?}, limits {:?} {:?}, one repository {}, says same {}",
                self.promise,
                self.lock_lasts,
                self.overall_limit,
                self.launcher_limit,
                self.one_repository,
                self.says_same
            ),
            format!("{:?}", self.faults),
        ];
        lines.extend(self.dependencies.iter().map(|d| format!("{d:?}")));
        lines.extend(self.actions.iter().map(|(at, a)| format!("at {at} ms: {a:?}")));
        lines
    }
}
