//! Secrets are fetched for a look, and told to nobody.

use super::{
    Happens, ProbeHarness,
    desk::{Desk, ask},
};
use capomastro_core::{
    Error, ErrorKind, Result, async_trait,
    probe::Probed,
    secret::{FixedSecrets, Secret, SecretRef, SecretResolver, Secrets},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Has no secrets, and counts who asks for one.
#[derive(Debug, Default)]
struct Asked(AtomicUsize);

#[async_trait]
impl SecretResolver for Asked {
    async fn resolve(&self, secret: &SecretRef) -> Result<Secret> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(Error::new(ErrorKind::NotFound, "the test has no such secret")
            .with_context("secret", &secret.secret))
    }
}

pub(super) async fn no_secret_is_told(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    let Some(guarded) = harness.guarded().await else {
        // A probe that knows no secrets asks for none.
        let asked = Arc::new(Asked::default());
        let mut ask = ask(&harness.source().await);
        ask.secrets = Secrets::new(Arc::<Asked>::clone(&asked));
        drop(desk.look(ask).await);
        assert_eq!(asked.0.load(Ordering::SeqCst), 0, "it asks for secrets: give a source that needs one");
        return;
    };
    let secrets = FixedSecrets::default().with(&guarded.secret, &guarded.value);
    let mut ask = ask(&guarded.source);
    ask.secrets = Secrets::new(Arc::new(secrets));
    let silent = |where_: &str, text: String| {
        assert!(!text.contains(&guarded.value), "{where_} tells the secret: {text}");
    };
    silent("the key", format!("{:?}", desk.probe.key(&guarded.source)));
    let answer = desk.look(ask.clone()).await;
    assert!(matches!(answer, Ok(Probed::Observed(_))), "with its secret it can be looked at: {answer:?}");
    silent("the answer", format!("{answer:?}"));
    desk.cause(&guarded.source, Happens::Cut).await;
    match desk.look(ask).await {
        Err(e) => silent("the error", format!("{e:?} {e} {}", e.report())),
        Ok(answer) => panic!("nothing can be said of what is out of reach, but: {answer:?}"),
    }
    silent("the probe", format!("{:?}", desk.probe));
}

pub(super) async fn a_secret_that_is_missing_is_an_error(harness: &dyn ProbeHarness) {
    let desk = Desk::new(harness);
    match harness.guarded().await {
        Some(guarded) => {
            let answer = desk.look(ask(&guarded.source)).await;
            assert!(answer.is_err(), "it cannot be looked at without its secret, but: {answer:?}");
        }
        // It does without.
        None => drop(desk.observed(&harness.source().await).await),
    }
}
