//! What requests lead to.

use super::{House, repo::Repo, sign, within};
use capomastro_core::time::{Clock as _, SystemClock};
use capomastro_probes::git::{GitProbe, GitSource};
use capomastro_testkit::ScriptedProbe;
use serde_json::json;
use std::{collections::BTreeSet, sync::Arc};

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_a_real_repository_is_built_at_once() {
    let repo = Repo::empty();
    let first = repo.advance("main");
    repo.git("branch side main");
    let house = House::with("git", Arc::new(GitProbe::new())).await;
    for (name, branch) in [("lib", "main"), ("side", "side")] {
        house.dependency(name, GitSource::new(repo.url()).branch(branch).source("git").unwrap()).await;
    }
    house.until(|| house.launcher.launched().len() == 2).await;
    assert!(house.launcher.launched().iter().all(|l| l.revision.to_string() == first));

    let second = repo.advance("main");
    let on_side = repo.advance("side");
    let url = format!("file://{}/", repo.url());
    assert_eq!(house.hook(&json!({"source": url, "ref": "refs/heads/main"})).await, 202);
    house.until(|| house.launcher.launched().len() == 3).await;
    // Only who follows the branch was looked at: the other one changed too, and was not seen.
    let built = || house.launcher.launched().last().unwrap().revision.to_string();
    assert_eq!(built(), second);
    assert_eq!(house.hook(&json!({"source": url, "ref": "refs/heads/side"})).await, 202);
    house.until(|| house.launcher.launched().len() == 4).await;
    assert_eq!(built(), on_side);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_while_a_probe_runs_is_answered_by_another_probe() {
    let probe = ScriptedProbe::new();
    let house = House::with(ScriptedProbe::NAME, Arc::new(probe.clone())).await;
    house.built(&probe, "lib").await;
    let asked = probe.asked("lib");
    // A look is under way, and has seen r1 already, when somebody pushes.
    probe.hang("lib");
    assert_eq!(house.hook(&json!({"source": "https://h/lib", "ref": "refs/heads/a"})).await, 202);
    within(probe.until_asked("lib", asked + 1)).await;
    assert_eq!(house.hook(&json!({"source": "https://h/lib", "ref": "refs/heads/b"})).await, 202);
    // Its trigger is recorded while that look is still under way.
    within(house.until_triggers("lib", 2)).await;
    assert_eq!(probe.asked("lib"), asked + 1);
    probe.release("lib");
    within(probe.until_asked("lib", asked + 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_few_looks() {
    let probe = ScriptedProbe::new();
    let house = House::with(ScriptedProbe::NAME, Arc::new(probe.clone())).await;
    house.built(&probe, "lib").await;
    let asked = probe.asked("lib");
    let started = SystemClock.monotonic();
    let mut answers = BTreeSet::new();
    for n in 0..10_000 {
        answers
            .insert(house.hook(&json!({"source": "https://h/lib", "ref": format!("refs/heads/{n}")})).await);
    }
    let took = SystemClock.monotonic().since(started);
    assert_eq!(answers, BTreeSet::from([202]));
    probe.set("lib", "r2");
    assert_eq!(house.hook(&json!({"source": "https://h/lib", "ref": "refs/heads/last"})).await, 202);
    house.until(|| house.launcher.launched().len() == 2).await;
    let looks = probe.asked("lib") - asked;
    let seconds = usize::try_from(took.as_secs()).unwrap();
    assert!(looks <= seconds + 5, "{looks} looks in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dependency_that_is_new_is_found() {
    let probe = ScriptedProbe::new();
    let house = House::with(ScriptedProbe::NAME, Arc::new(probe.clone())).await;
    house.built(&probe, "lib").await;
    assert_eq!(house.hook(&json!({"source": "https://h/lib"})).await, 202);
    // The list of dependencies was just read, without this one.
    probe.set("new", "r1");
    house.dependency("new", ScriptedProbe::source("new")).await;
    house.until(|| house.launcher.launched().len() == 2).await;
    probe.set("new", "r2");
    assert_eq!(house.hook(&json!({"source": "https://h/new"})).await, 202);
    house.until(|| house.launcher.launched().len() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_its_answer() {
    let probe = ScriptedProbe::new();
    let house = House::with(ScriptedProbe::NAME, Arc::new(probe.clone())).await;
    let body = json!({"zen": "Design for failure.", "hook_id": 1}).to_string().into_bytes();
    let signature = sign(&[&body]);
    let kind = ("content-type", "application/json");
    let (ping, signed) = (("x-github-event", "ping"), ("x-hub-signature-256", signature.as_str()));
    let wrong = ("x-hub-signature-256", "sha256=00");
    assert_eq!(house.post("github", &[kind, ping, signed], body.clone()).await.0, 200);
    assert_eq!(house.post("github", &[kind, ping], body.clone()).await.0, 401);
    assert_eq!(house.post("github", &[kind, ping, wrong], body.clone()).await.0, 401);
    // A header that is there twice is none.
    assert_eq!(house.post("github", &[kind, ping, signed, wrong], body.clone()).await.0, 401);
    assert_eq!(house.post("gitlab", &[kind, ping, signed], body.clone()).await.0, 404);
    assert_eq!(
        house.post("github", &[ping, signed, ("content-type", "text/html")], body.clone()).await.0,
        415
    );
    assert_eq!(house.post("github", &[kind, ping, signed], vec![b' '; 10_001]).await.0, 413);
    let nonsense = b"<html>".to_vec();
    let signature = sign(&[&nonsense]);
    let signed = ("x-hub-signature-256", signature.as_str());
    let (status, text) = house.post("github", &[kind, ping, signed], nonsense).await;
    assert_eq!(status, 400);
    assert!(text.contains("cannot be read"), "{text}");
    // Missing and wrong are told in the same words.
    let missing = house.post("github", &[kind, ping], body.clone()).await.1;
    assert_eq!(house.post("github", &[kind, ping, wrong], body).await.1, missing);
}
