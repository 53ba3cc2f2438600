//! One history of a repository, seen through every transport.

use super::{
    asking::{answer, ask_for, seen},
    inetd,
    repo::{Repo, git},
    runner::Remembering,
    ssh,
    web::{Answer, Web},
};
use capomastro_core::{
    model::Relation,
    probe::{Ask, Probed},
};
use capomastro_probes::git::{GitProbe, GitSource};

struct Told<'a> {
    repo: &'a Repo,
    probe: GitProbe,
    url: String,
    /// Whether the transport knows relations.
    local: bool,
}

impl Told<'_> {
    fn source(&self) -> GitSource {
        GitSource::new(&self.url)
    }

    /// What a web server without git shows has to be written first.
    fn publish(&self) {
        self.repo.git("update-server-info");
    }

    /// The ref is at `id`; and how it relates to `accounted`.
    async fn at(&self, source: GitSource, id: &str, accounted: Option<&str>, relation: Option<Relation>) {
        self.publish();
        let mut ask: Ask = ask_for(source);
        ask.accounted = accounted.map(|a| a.parse().unwrap());
        let seen = seen(&self.probe, ask).await;
        assert_eq!(seen.revision.as_str(), id);
        assert_eq!(seen.relation, relation.filter(|_| self.local), "{}", self.url);
        assert!(seen.display.unwrap().starts_with(&id[..12]));
    }

    async fn nowhere(&self, source: GitSource) {
        self.publish();
        assert_eq!(answer(&self.probe, ask_for(source)).await.unwrap(), Probed::NotFound, "{}", self.url);
    }
}

async fn tell(told: Told<'_>) {
    let repo = told.repo;
    let main = || told.source().branch("main");
    let forward = |by| Some(Relation::Forward { by: Some(by) });

    // Nothing was ever pushed.
    told.nowhere(main()).await;
    told.nowhere(told.source()).await;
    told.nowhere(told.source().tag("v1")).await;

    // Commits.
    let first = repo.advance("main");
    told.at(main(), &first, None, None).await;
    told.at(told.source(), &first, None, None).await;
    told.nowhere(told.source().branch("mai")).await;
    told.nowhere(told.source().branch("main2")).await;
    let second = repo.advance("main");
    let third = repo.advance("main");
    told.at(main(), &third, Some(&first), forward(2)).await;
    told.at(main(), &third, Some(&third), None).await;

    // A rewind, by a push from elsewhere.
    let clone = repo.root.path().join("clone");
    git(repo.root.path(), ["clone", "--quiet", "a.git", "clone"]);
    git(&clone, ["push", "--quiet", "--force", "origin", &format!("{second}:refs/heads/main")]);
    told.at(main(), &second, Some(&third), Some(Relation::Rewound)).await;

    // A force push to other commits.
    git(&clone, ["reset", "--quiet", "--hard", &first]);
    git(&clone, ["commit", "--quiet", "--allow-empty", "-m", "other"]);
    let other = git(&clone, ["rev-parse", "HEAD"]);
    git(&clone, ["push", "--quiet", "--force", "origin", "HEAD:main"]);
    told.at(main(), &other, Some(&second), Some(Relation::Diverged)).await;

    // A merge.
    let merge = repo.commit(&[&other, &third]);
    repo.git(&format!("update-ref refs/heads/main {merge}"));
    told.at(main(), &merge, Some(&other), forward(3)).await;

    // Deleted, and made anew from a history of its own.
    repo.git("branch side");
    repo.git("update-ref -d refs/heads/side");
    told.nowhere(told.source().branch("side")).await;
    let anew = repo.commit(&[]);
    repo.git(&format!("update-ref refs/heads/side {anew}"));
    told.at(told.source().branch("side"), &anew, Some(&merge), Some(Relation::Diverged)).await;
    let never_known = "0123456789012345678901234567890123456789";
    told.at(told.source().branch("side"), &anew, Some(never_known), Some(Relation::Recreated)).await;
    told.at(told.source().branch("side"), &anew, Some("not of git"), None).await;

    // Tags: plain, moved, annotated, a tag of a tag.
    repo.git(&format!("tag v1 {first}"));
    told.at(told.source().tag("v1"), &first, None, None).await;
    repo.git(&format!("tag --force v1 {second}"));
    told.at(told.source().tag("v1"), &second, Some(&first), forward(1)).await;
    repo.git(&format!("tag --annotate --message m v2 {third}"));
    repo.git("tag --annotate --message m v3 v2");
    for tag in ["v2", "v3"] {
        told.at(told.source().tag(tag), &third, None, None).await;
        told.at(told.source().reference(format!("refs/tags/{tag}")), &third, None, None).await;
        let observation = seen(&told.probe, ask_for(told.source().tag(tag))).await;
        assert_eq!(observation.metadata["tag_object"], repo.git(&format!("rev-parse refs/tags/{tag}")));
        assert_eq!(observation.metadata["ref"], format!("refs/tags/{tag}"));
    }
    repo.git(&format!("tag --force --annotate --message m v2 {first}"));
    told.at(told.source().tag("v2"), &first, None, None).await;

    // Packed, then partly loose again.
    repo.git("pack-refs --all --prune");
    repo.git("gc --quiet");
    told.at(main(), &merge, None, None).await;
    told.at(told.source().tag("v3"), &third, None, None).await;
    told.at(told.source(), &merge, None, None).await;
    let after = repo.advance("main");
    told.at(main(), &after, Some(&merge), forward(1)).await;

    // Another default branch, a symbolic ref of one's own, and none at all.
    repo.git("symbolic-ref HEAD refs/heads/side");
    told.at(told.source(), &anew, None, None).await;
    let observation = seen(&told.probe, ask_for(told.source())).await;
    assert_eq!(observation.metadata["points_to"], "refs/heads/side");
    assert_eq!(observation.display.unwrap(), format!("{} HEAD (side)", &anew[..12]));
    repo.git("symbolic-ref refs/heads/alias refs/heads/main");
    told.at(told.source().branch("alias"), &after, None, None).await;
    repo.git("symbolic-ref HEAD refs/heads/unborn");
    told.nowhere(told.source()).await;
    repo.git(&format!("update-ref --no-deref HEAD {first}"));
    told.at(told.source(), &first, None, None).await;
    told.at(told.source().reference("HEAD"), &first, None, None).await;
    assert!(!seen(&told.probe, ask_for(told.source())).await.metadata.contains_key("points_to"));

    // Names that end alike.
    repo.git(&format!("update-ref refs/heads/refs/heads/ghost {first}"));
    repo.git(&format!("update-ref refs/tags/refs/heads/ghost {first}"));
    told.nowhere(told.source().branch("ghost")).await;
    repo.git(&format!("update-ref refs/heads/folder/HEAD {first}"));
    told.nowhere(told.source().branch("folder")).await;

    // Refs of neither kind.
    repo.git(&format!("update-ref refs/pull/7/head {third}"));
    told.at(told.source().reference("refs/pull/7/head"), &third, None, None).await;
    told.nowhere(told.source().reference("refs/pull/8/head")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_files() {
    let repo = Repo::empty();
    let url = repo.url();
    tell(Told { repo: &repo, probe: GitProbe::new(), url, local: true }).await;
    let url = format!("file://{}/", repo.url().trim_end_matches(".git"));
    let probe = GitProbe::new();
    assert!(matches!(answer(&probe, ask_for(GitSource::new(url))).await, Ok(Probed::Observed(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn through_http() {
    for how in [Answer::Git, Answer::OldGit, Answer::File] {
        let repo = Repo::empty();
        let web = Web::serve(repo.root.path().into(), move |_| how.clone()).await;
        tell(Told { repo: &repo, probe: GitProbe::new(), url: web.url(), local: false }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_git_daemons() {
    for daemon in [inetd::git_daemon, inetd::old_daemon] {
        let repo = Repo::empty();
        let port = daemon(repo.root.path().into());
        let url = format!("git://127.0.0.1:{port}/a.git");
        tell(Told { repo: &repo, probe: GitProbe::new(), url, local: false }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_ssh() {
    let repo = Repo::empty();
    let ssh = ssh::stand_in(repo.root.path());
    let probe = GitProbe::builder().runner(Remembering::new()).ssh(ssh).build();
    for url in [format!("ssh://me@host.invalid{}", repo.url()), format!("me@host.invalid:{}", repo.url())] {
        let repo = &repo;
        if url.starts_with("ssh") {
            tell(Told { repo, probe: probe.clone(), url, local: false }).await;
        } else {
            let told = Told { repo, probe: probe.clone(), url, local: false };
            told.at(told.source(), &repo.git("rev-parse HEAD"), None, None).await;
        }
    }
}
