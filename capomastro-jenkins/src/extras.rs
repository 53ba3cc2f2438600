//! Builds that nobody wants: a request that came late after all, or Jenkins itself, has started a second one of a key.

use crate::{
    address::JobName,
    launcher::Inner,
    observe::Ask,
    stand::{Facts, Stand},
    wire::Build,
};

/// How many are stopped in one look at a job.
const STOPS: usize = 10;

/// Whether a build beside the one that stands for a key is there for no other reason than that one: nobody else has
/// asked for it.
fn is_extra(build: &Build, canonical: &Build) -> bool {
    build.number != canonical.number
        && !build.causes.is_empty()
        && build.causes == canonical.causes
        && build.users == canonical.users
}

impl Inner {
    /// Stops what runs twice, and says so. Whoever may not is warned once; it is no matter of the look.
    pub(crate) async fn stop_extras(&self, name: &JobName, asks: &[&Ask], all: &Facts<'_>) {
        if !self.options.stop_extras {
            return;
        }
        let mut left = STOPS;
        for ask in asks {
            let Stand::Build(canonical) = all.stand(&ask.reference, &ask.key) else { continue };
            let (_, builds) = all.all_of(&ask.reference, &ask.key);
            for build in builds.into_iter().filter(|b| is_extra(b, canonical)) {
                let place = (name.to_string(), build.number);
                if left == 0 || self.memory.extras.get(&place).is_some() {
                    continue;
                }
                left -= 1;
                self.memory.extras.set(place, (), self.client.clock().monotonic());
                metrics::counter!("capomastro_jenkins_extra_builds_total").increment(1);
                tracing::warn!(job = %name, number = build.number, canonical = canonical.number, key = %ask.key,
                    "a launch has started a second build, which is stopped");
                if let Err(e) = self.stop(name, build).await {
                    tracing::warn!(job = %name, number = build.number, error = %e.report(),
                        "a second build of a launch could not be stopped: stop it by hand");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(number: u64, causes: &[&str], users: &[&str]) -> Build {
        let all = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
        Build { number, causes: all(causes), users: all(users), is_building: true, ..Build::default() }
    }

    #[test]
    fn what_somebody_else_wants_is_not_extra() {
        let canonical = build(3, &["UserIdCause"], &["robot"]);
        for (other, extra) in [
            (build(4, &["UserIdCause"], &["robot"]), true),
            (build(3, &["UserIdCause"], &["robot"]), false),
            (build(4, &["UserIdCause"], &["somebody"]), false),
            (build(4, &["UserIdCause", "RebuildCause"], &["robot"]), false),
            (build(4, &["UserIdCause", "UserIdCause"], &["robot", "somebody"]), false),
            (build(4, &[], &[]), false),
        ] {
            assert_eq!(is_extra(&other, &canonical), extra, "{other:?}");
        }
        assert!(!is_extra(&build(4, &[], &[]), &build(3, &[], &[])), "nothing is known yet");
    }
}
