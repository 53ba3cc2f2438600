//! A first project: what changed is built, and the project is complete.

use capomastro_core::model::{Policy, ProjectOutcome, SlotKind};
use capomastro_testkit::ControllableLauncher;
use capomastro_tests::Stage;

#[tokio::test]
async fn a_change_is_built_once_and_the_project_stays_complete() {
    let stage = Stage::new(ControllableLauncher::auto_succeed());
    for name in ["a", "b", "c"] {
        stage.probe.set(name, "r1");
        stage.define(name, &["website"], Policy::default()).await;
    }
    stage.pass(300).await;
    for name in ["a", "b", "c"] {
        assert_eq!(stage.built(name), ["r1"], "{name}");
    }
    stage.probe.set("a", "r2");
    stage.pass(300).await;
    assert_eq!(stage.built("a"), ["r1", "r2"]);
    assert_eq!(stage.built("b"), ["r1"]);
    let status = stage.scheduler.project_status("website").await.unwrap();
    let current = status.current.expect("the project is complete");
    assert_eq!(current.seal.as_ref().unwrap().outcome, ProjectOutcome::Succeeded);
    let fresh = current.slots.values().filter(|s| matches!(s.kind, SlotKind::Fresh { .. })).count();
    let carried = current.slots.values().filter(|s| matches!(s.kind, SlotKind::Carried { .. })).count();
    assert_eq!((fresh, carried), (1, 2));
    assert_eq!(status.open.len(), 0);
    assert!(stage.launcher.duplicates().is_empty());
}
