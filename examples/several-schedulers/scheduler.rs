//! One scheduler of several: the whole of what each process runs.

use capomastro_core::{
    Error, Result, Scheduler,
    probe::{Ask, Probed, probe_fn},
};
use capomastro_process::CommandLauncher;
use capomastro_store_postgres::PostgresStore;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// Where everything is that the processes share.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) schema: String,
    pub(crate) folder: PathBuf,
}

impl Place {
    /// The arguments of a process that runs a scheduler of this name.
    pub(crate) fn arguments(&self, name: &str) -> [String; 5] {
        [
            "--scheduler".into(),
            name.into(),
            self.url.clone(),
            self.schema.clone(),
            self.folder.display().to_string(),
        ]
    }

    /// The name and place of a scheduler, if the arguments are those of one.
    pub(crate) fn from_arguments(arguments: &[String]) -> Option<(String, Self)> {
        let [first, name, url, schema, folder] = arguments else { return None };
        let place = Self { url: url.clone(), schema: schema.clone(), folder: folder.into() };
        (first == "--scheduler").then(|| (name.clone(), place))
    }

    /// The source of a dependency.
    pub(crate) fn branch(&self, dependency: &str) -> PathBuf {
        self.folder.join(format!("{dependency}.branch"))
    }

    /// Where the builds write down that they ran.
    pub(crate) fn built(&self) -> PathBuf {
        self.folder.join("built")
    }
}

/// A source that is a file with a revision in it.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Branch {
    pub(crate) file: PathBuf,
}

/// A scheduler over the database.
pub(crate) async fn build(name: &str, place: &Place) -> Result<Scheduler> {
    let store =
        Arc::new(PostgresStore::builder(place.url.as_str()).schema(place.schema.as_str()).open().await?);
    let launcher = CommandLauncher::builder(place.folder.join("builds")).build()?;
    let looker = name.to_owned();
    let probe = probe_fn(move |source: Branch, ask: Ask| {
        println!("  {looker} looks at {}", ask.dependency);
        async move { Probed::revision(std::fs::read_to_string(&source.file).map_err(Error::transient)?) }
    });
    Scheduler::builder(Arc::clone(&store))
        .instance(name)
        .hints(store)
        .probe("branch", probe)
        .launcher("local", Arc::new(launcher))
        // What a killed scheduler held is taken over after this long.
        .request_timeout(Duration::from_secs(2))
        .drive_lease(Duration::from_secs(5))
        .look_lease(Duration::from_secs(12))
        // A few at once, so that there is something left for the others.
        .at_once(2)
        .build()
}

/// Runs until the standard input ends.
pub(crate) async fn run(name: &str, place: &Place) -> Result<()> {
    let scheduler = build(name, place).await?;
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Nothing is said there; that it ends is what counts.
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
        ended.send(()).ok();
    });
    scheduler.run(async { drop(end.await) }).await
}
