//! The scripted probe is what a probe must be.

use capomastro_core::{
    ErrorKind, async_trait,
    model::{Relation, Source},
    probe::{Ask, RevisionProbe, probe_fn},
};
use capomastro_testkit::{
    conformance::{
        Time,
        probe::{Guarded, Happens, ProbeHarness},
    },
    fakes::{ManualClock, ScriptedProbe},
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// The configuration of a scripted source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read by the scripted probe itself")]
struct Config {
    name: String,
    remote: Option<String>,
}

/// Sources by name, each with its history.
#[derive(Debug, Default)]
struct Scripted {
    world: ScriptedProbe,
    /// Whether answers say that a revision is the same as seen, like an HTTP 304.
    says_same: bool,
    /// Whether the world is looked at by a closure, which is given one ask for all that are equal.
    by_closure: bool,
    histories: Mutex<BTreeMap<String, Vec<String>>>,
}

impl Scripted {
    fn make(&self, remote: Option<&str>) -> Source {
        let mut histories = self.histories.lock().expect("no test has panicked");
        let name = format!("s{}", histories.len());
        histories.insert(name.clone(), vec![format!("{name}-0")]);
        self.world.set(&name, &format!("{name}-0"));
        self.world.same_as_seen(&name, self.says_same);
        ScriptedProbe::source_at(remote.unwrap_or(&name), &name)
    }
}

#[async_trait]
impl ProbeHarness for Scripted {
    fn time(&self) -> Time {
        Time::Manual(ManualClock::new())
    }

    fn open(&self) -> Arc<dyn RevisionProbe> {
        if !self.by_closure {
            return Arc::new(self.world.clone());
        }
        let world = self.world.clone();
        probe_fn(move |_: Config, ask: Ask| {
            let world = world.clone();
            async move { world.probe(&[ask]).await.remove(0) }
        })
    }

    fn refused(&self) -> Vec<Source> {
        [json!({}), json!({"name": 1}), json!({"name": "a", "nam": "b"}), json!(null)]
            .map(|config| Source::new(ScriptedProbe::NAME, config).expect("a source"))
            .into()
    }

    async fn source(&self) -> Source {
        self.make(None)
    }

    async fn beside(&self, source: &Source) -> Option<Source> {
        if self.by_closure {
            return None;
        }
        Some(self.make(source.config["remote"].as_str()))
    }

    async fn cause(&self, source: &Source, what: Happens) -> bool {
        let name = source.config["name"].as_str().expect("a source of this harness");
        let mut histories = self.histories.lock().expect("no test has panicked");
        let made = histories.len();
        let history = histories.get_mut(name).expect("a source of this harness");
        let now = history.last().expect("it began somewhere").clone();
        match what {
            Happens::Change | Happens::Diverge => {
                let new = format!("{now}.{made}{}", history.len());
                for old in &*history {
                    let relation = match what {
                        Happens::Diverge => Relation::Diverged,
                        _ => Relation::Forward { by: None },
                    };
                    self.world.relate(name, old, &new, relation);
                    self.world.relate(name, &new, old, Relation::Rewound);
                }
                self.world.set(name, &new);
                history.push(new);
            }
            Happens::Rewind => {
                history.pop();
                self.world.set(name, history.last().expect("it was changed before"));
            }
            Happens::Vanish => self.world.gone(name),
            Happens::Cut => self.world.fail(name, ErrorKind::Unavailable),
            Happens::Hang => self.world.hang(name),
            Happens::Mend => {
                self.world.heal(name);
                self.world.release(name);
                self.world.set(name, &now);
            }
        }
        true
    }

    async fn guarded(&self) -> Option<Guarded> {
        None
    }

    async fn left(&self) -> usize {
        0
    }
}

capomastro_testkit::revision_probe_conformance!(observes, Scripted::default());
capomastro_testkit::revision_probe_conformance!(
    says_the_same,
    Scripted { says_same: true, ..Scripted::default() }
);
capomastro_testkit::revision_probe_conformance!(
    by_closure,
    Scripted { says_same: true, by_closure: true, ..Scripted::default() }
);
