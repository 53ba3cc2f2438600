//! How builds end, and what is told of it.

use super::{End, LauncherHarness, desk::Desk};
use capomastro_core::launch::Outcome;
use sha2::{Digest, Sha256};

pub(super) async fn each_outcome_is_told(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    for outcome in [Outcome::Succeeded, Outcome::Failed] {
        let build = desk.build().await;
        desk.end(&build, outcome).await;
    }
    let build = desk.build().await;
    if harness.end(build.key(), &End::of(Outcome::Unstable)).await {
        assert_eq!(desk.ended(&build).await.outcome, Outcome::Unstable, "neither good nor bad");
    } else {
        desk.goes_on(&build, "builds cannot end so").await;
    }
}

pub(super) async fn an_end_stays(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let (one, other) = (desk.build().await, desk.build().await);
    let (first, second) = (desk.end(&one, Outcome::Failed).await, desk.end(&other, Outcome::Succeeded).await);
    for _ in 0..5 {
        desk.build().await;
        assert_eq!(desk.ended(&one).await, first, "the same end at every look");
        assert_eq!(desk.ended(&other).await, second, "the same end at every look");
    }
    let desk = desk.restarted().await;
    assert_eq!(desk.ended(&one).await, first, "in every process");
}

pub(super) async fn the_revision_that_was_built_is_told(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let build = desk.build().await;
    let ended = desk.end(&build, Outcome::Succeeded).await;
    if let Some(built) = ended.built {
        assert_eq!(built, build.request.revision, "the pinned one was built");
    }
    let build = desk.build().await;
    let drifted = "r-another".parse().expect("a revision");
    let end = End { built: Some(drifted), ..End::of(Outcome::Succeeded) };
    if harness.end(build.key(), &end).await {
        assert_eq!(desk.ended(&build).await.built, end.built, "another one was built, and is told");
    } else {
        let ended = desk.end(&build, Outcome::Succeeded).await;
        assert!(
            ended.built.is_none_or(|built| built == build.request.revision),
            "who cannot see what was built does not invent it"
        );
    }
}

pub(super) async fn artifacts_are_told(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let build = desk.build().await;
    let ended = desk.end(&build, Outcome::Succeeded).await;
    assert!(ended.artifacts.is_empty(), "it left nothing, but: {:?}", ended.artifacts);
    let build = desk.build().await;
    let artifacts = [("a.txt", &b"one"[..]), ("dist/b \u{1f980}.bin", &[0, 255, 10, 13]), ("empty", &[])]
        .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
        .into();
    let end = End { artifacts, ..End::of(Outcome::Succeeded) };
    if !harness.end(build.key(), &end).await {
        let ended = desk.end(&build, Outcome::Succeeded).await;
        assert!(ended.artifacts.is_empty(), "builds cannot leave anything, but: {:?}", ended.artifacts);
        return;
    }
    let mut told = desk.ended(&build).await.artifacts;
    told.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<&str> = told.iter().map(|artifact| artifact.name.as_str()).collect();
    assert_eq!(names, end.artifacts.keys().collect::<Vec<_>>(), "each artifact once, by its name");
    for (artifact, bytes) in told.iter().zip(end.artifacts.values()) {
        if let Some(size) = artifact.size {
            assert_eq!(usize::try_from(size), Ok(bytes.len()), "{artifact:?}");
        }
        if let Some(digest) = artifact.digest.as_deref().and_then(|digest| digest.strip_prefix("sha256:")) {
            let right: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest, right, "{artifact:?}");
        }
    }
}
