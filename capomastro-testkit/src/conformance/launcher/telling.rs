//! What a build is told.

use super::{
    LauncherHarness,
    desk::{Desk, Memos},
};
use capomastro_core::launch::{LaunchRequest, Launched};

/// What was told must be what was asked for, where the build system tells it at all.
fn agrees(told: &super::Told, request: &LaunchRequest) {
    assert_eq!(told.revision, request.revision, "the revision is the pinned one");
    if let Some(dependency) = &told.dependency {
        assert_eq!(*dependency, request.dependency, "the dependency's name");
    }
    if let Some(number) = told.number {
        assert_eq!(number, request.number, "the build's number");
    }
    if let Some(build_key) = &told.build_key {
        assert_eq!(*build_key, request.build_key, "the key that builds of one request share");
    }
}

impl Desk<'_> {
    async fn told(&self, request: LaunchRequest) -> super::Told {
        let build = self.launch(request).await;
        self.until_started(build.key()).await;
        let mut builds = self.builds(build.key()).await;
        assert_eq!(builds.len(), 1, "one launch, one build");
        builds.remove(0)
    }
}

pub(super) async fn a_build_is_told_the_pinned_revision(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    for revision in ["r1", "0123456789abcdef0123456789abcdef01234567", "r0", "r1"] {
        let mut request = desk.request();
        request.revision = revision.parse().expect("a revision");
        let told = desk.told(request).await;
        assert_eq!(told.revision.as_str(), revision, "the revision is the pinned one, and no other");
    }
}

pub(super) async fn a_build_is_told_its_parameters(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let mut request = desk.request();
    request.parameters = [("FAST", "yes"), ("EMPTY", ""), ("TARGET", "a b")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let told = desk.told(request.clone()).await;
    match told.parameters {
        Some(parameters) => assert_eq!(parameters, request.parameters, "as somebody gave them"),
        None => assert_eq!(told.revision, request.revision, "it is told its revision at least"),
    }
}

pub(super) async fn a_build_is_told_what_it_is(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let mut request = desk.request();
    request.number = 4_711;
    request.build_key = Some("nightly".parse().expect("a key"));
    agrees(&desk.told(request.clone()).await, &request);
    let mut request = desk.request();
    request.dependency = "another".parse().expect("a name");
    agrees(&desk.told(request.clone()).await, &request);
}

pub(super) async fn hostile_texts_arrive_as_they_are(harness: &dyn LauncherHarness) {
    let desk = Desk::new(harness).await;
    let texts = [
        "$(touch x) `id` ${HOME}",
        "'; exit 1; \"",
        "--help",
        "../../x/..",
        "a&b=c#d?e%20f+g",
        "<a>&amp;</a>",
        "🦀 ö\u{301}\u{202e}x",
        "{\"a\": [1]}",
        "\\n\t\\",
        " two  blanks ",
    ];
    for text in texts {
        let mut request = desk.request();
        request.revision = text.parse().expect("a revision may be any line");
        request.parameters = [("P".to_owned(), text.to_owned())].into();
        if let Ok(name) = text.trim().parse() {
            request.dependency = name;
        }
        match desk.launcher.launch(&request, &Memos::default()).await {
            Ok(Launched::Accepted(_)) => {
                desk.until_started(request.key).await;
                let told = desk.builds(request.key).await.remove(0);
                agrees(&told, &request);
                if let Some(parameters) = told.parameters {
                    assert_eq!(parameters, request.parameters, "no text means anything to the launcher");
                }
            }
            Ok(Launched::Refused(refusal)) => {
                assert!(!refusal.reason.trim().is_empty(), "people are told what is wrong with {text:?}");
                desk.nothing_started(request.key, "it was refused").await;
            }
            Err(e) => panic!("what is never possible is refused, not tried again: {text:?}: {e:?}"),
        }
    }
}
