//! Callers that lose interest.

use super::{
    Happens, ProbeHarness,
    desk::{Desk, ask},
};
use crate::conformance::abandon::abandoned;
use capomastro_core::time::{Clock, SystemClock};
use futures_util::future::{Either, select};

impl Desk<'_> {
    async fn nothing_is_left(&self) {
        let what = "what dropped looks have started to end";
        let time = self.harness.time();
        time.until(what, || async { (self.harness.left().await == 0).then_some(()) }).await;
    }
}

pub(super) async fn a_dropped_look_spoils_nothing(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let seen = desk.observed(&source).await;
    for polls in 0..6 {
        drop(abandoned(desk.probe.probe(&[ask(&source)]), polls).await);
        assert_eq!(desk.observed(&source).await.revision, seen.revision, "the next look is as good as any");
    }
    desk.nothing_is_left().await;
}

pub(super) async fn a_look_that_hangs_can_be_dropped(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let source = harness.source().await;
    let seen = desk.observed(&source).await;
    if harness.cause(&source, Happens::Hang).await {
        let asks = [ask(&source)];
        for _ in 0..3 {
            let look = desk.probe.probe(&asks);
            if let Either::Left((answers, _)) =
                select(look, SystemClock.sleep(harness.time().a_while())).await
            {
                panic!("a look at it does not end by itself, but: {answers:?}");
            }
        }
        desk.nothing_is_left().await;
        desk.cause(&source, Happens::Mend).await;
    }
    assert_eq!(desk.observed(&source).await.revision, seen.revision, "it is looked at as before");
    desk.nothing_is_left().await;
}
