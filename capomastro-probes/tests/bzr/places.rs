//! Which sources are looked at together.

use super::asking::{ask_for, within};
use super::{
    branch::Branches,
    web::{Answer, Web},
};
use capomastro_core::{ErrorKind, model::Source, probe::Ask, probe::RevisionProbe as _, secret::Secrets};
use capomastro_probes::bzr::{BzrProbe, BzrSource};
use serde_json::json;

#[test]
fn keys_tell_apart_what_must_be() {
    let probe = BzrProbe::new();
    let keys: Vec<_> = [
        BzrSource::new("https://h/a"),
        BzrSource::new("http://h/a"),
        BzrSource::new("https://h/a").branch("b"),
        BzrSource::new("https://h/a").login("robot", "forge"),
        BzrSource::new("https://h/a").login("other", "forge"),
        BzrSource::new("https://h/a").login("robot", "other"),
        BzrSource::new("bzr://h/a"),
        BzrSource::new("bzr+ssh://h/a"),
        BzrSource::new("bzr+ssh://h/a").ssh_key("k"),
        BzrSource::new("bzr+ssh://h/a").known_hosts("h x y"),
        BzrSource::new("/a"),
        BzrSource::new("lp:a"),
    ]
    .map(|s| probe.key(&s.source("bzr").unwrap()).unwrap())
    .into();
    for (n, key) in keys.iter().enumerate() {
        assert!(!keys[..n].contains(key), "{n}: {key:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_asks_for_one_branch_are_one_look() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    branches.init("trunk", &[]);
    let id = branches.commit("trunk");
    let web = Web::serve(branches.root.path().into(), |_| Answer::File).await;
    let asks: Vec<Ask> = (0..50).map(|_| ask_for(BzrSource::new(web.url("trunk")))).collect();
    let answers = within(BzrProbe::new().probe(&asks)).await;
    assert_eq!(answers.len(), 50);
    for answer in answers {
        let seen = answer.unwrap();
        assert!(format!("{seen:?}").contains(&id));
    }
    assert_eq!(web.got().len(), 1);
}

/// One ask that cannot be read spoils no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_ask_is_alone() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    branches.init("trunk", &[]);
    branches.commit("trunk");
    let bad = Source { probe: "bzr".parse().unwrap(), config: json!({"url": "https://u:hunter2@h/a"}) };
    let bad = Ask::new("x".try_into().unwrap(), bad, std::time::Duration::from_secs(9), Secrets::none());
    let good = ask_for(BzrSource::new(branches.url("trunk")));
    let answers = within(BzrProbe::new().probe(&[bad, good])).await;
    let e = answers[0].as_ref().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidConfig);
    assert!(!e.report().contains("hunter2"));
    assert!(answers[1].is_ok());
}
