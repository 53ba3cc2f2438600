//! What is checked when a dependency is defined.

use super::{LauncherHarness, desk::Desk};
use capomastro_core::ErrorKind;

pub(super) async fn a_good_job_is_taken(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    // A dependency can be defined while the build system is out of reach.
    let is_cut = harness.cut(true).await;
    for job in [Some(harness.job()), harness.refused_job()].into_iter().flatten() {
        let checked = desk.launcher.check_job(&job);
        assert!(checked.is_ok(), "a job that looks good is taken, but: {checked:?}");
    }
    if is_cut {
        harness.cut(false).await;
    }
}

pub(super) async fn bad_jobs_are_refused_with_what_to_do(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let jobs = harness.bad_jobs();
    assert!(!jobs.is_empty(), "the harness names a job that can never be built");
    for job in jobs {
        let e = desk.launcher.check_job(&job).expect_err("a job that can never be built is refused");
        assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e:?}");
        assert!(e.report().len() > 15, "the message says what to do: {e:?}");
    }
}
