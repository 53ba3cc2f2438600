//! What a look costs, and when it ends.

use super::{
    asking::{ask_for, failure, until, within},
    inetd,
    repo::Repo,
    runner::Remembering,
    ssh,
    web::{Answer, Web},
};
use capomastro_core::{
    ErrorKind,
    probe::{Ask, Probed, RevisionProbe},
};
use capomastro_probes::git::{GitProbe, GitSource};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Asks for a hundred branches, each at another commit, and checks the answers.
async fn hundred(probe: &GitProbe, repo: &Repo, url: &str) {
    let ids: Vec<String> = (0..100).map(|_| repo.commit(&[])).collect();
    for (n, id) in ids.iter().enumerate() {
        repo.git(&format!("update-ref refs/heads/b{n} {id}"));
    }
    let asks: Vec<Ask> = (0..100).map(|n| ask_for(GitSource::new(url).branch(format!("b{n}")))).collect();
    let keys: Vec<_> = asks.iter().map(|a| probe.key(&a.source).unwrap()).collect();
    assert!(keys.iter().all(|k| *k == keys[0]));
    let answers = within(probe.probe(&asks)).await;
    for (answer, id) in answers.into_iter().zip(ids) {
        let Ok(Probed::Observed(o)) = answer else { panic!("{answer:?}") };
        assert_eq!(o.revision.as_str(), id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_branches_are_one_listing() {
    let repo = Repo::empty();
    let web = Web::serve(repo.root.path().into(), |_| Answer::Git).await;
    hundred(&GitProbe::new(), &repo, &web.url()).await;
    let got: Vec<String> = web.got().iter().map(|g| format!("{} {}", g.method, g.path)).collect();
    assert_eq!(got, ["GET /a.git/info/refs?service=git-upload-pack", "POST /a.git/git-upload-pack"]);

    let repo = Repo::empty();
    let web = Web::serve(repo.root.path().into(), |_| Answer::OldGit).await;
    hundred(&GitProbe::new(), &repo, &web.url()).await;
    assert_eq!(web.got().len(), 1);

    let repo = Repo::empty();
    let connections = Arc::new(AtomicUsize::new(0));
    let (root, count) = (repo.root.path().to_owned(), Arc::clone(&connections));
    let daemon = inetd::git_daemon(root);
    let port = inetd::on_each(move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let mut onward = std::net::TcpStream::connect(("127.0.0.1", daemon)).unwrap();
        let (mut from, mut to) = (stream.try_clone().unwrap(), onward.try_clone().unwrap());
        std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
        drop(std::io::copy(&mut onward, &mut stream));
        drop(stream.shutdown(std::net::Shutdown::Both));
    });
    hundred(&GitProbe::new(), &repo, &format!("git://127.0.0.1:{port}/a.git")).await;
    assert_eq!(connections.load(Ordering::SeqCst), 1);

    let repo = Repo::empty();
    let runner = Remembering::new();
    let ssh = ssh::stand_in(repo.root.path());
    let probe = GitProbe::builder().runner(Arc::<Remembering>::clone(&runner)).ssh(ssh).build();
    hundred(&probe, &repo, &format!("host.invalid:{}", repo.url())).await;
    assert_eq!(runner.commands().len(), 1);

    let repo = Repo::empty();
    hundred(&GitProbe::new(), &repo, &repo.url()).await;
}

/// The server is asked for what is wanted only.
#[tokio::test(flavor = "multi_thread")]
async fn other_branches_are_not_sent() {
    let repo = Repo::empty();
    for n in 0..50 {
        let id = repo.commit(&[]);
        repo.git(&format!("update-ref refs/heads/other-{n:0100} {id}"));
    }
    repo.advance("main");
    let web = Web::serve(repo.root.path().into(), |_| Answer::Git).await;
    let probe = GitProbe::builder().max_listing_bytes(1_000).build();
    let asks = [ask_for(GitSource::new(web.url()).branch("main"))];
    assert!(matches!(within(probe.probe(&asks)).await[0], Ok(Probed::Observed(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_several_remotes_get_their_own_answers() {
    let (a, b) = (Repo::empty(), Repo::empty());
    let (in_a, in_b) = (a.advance("main"), b.advance("main"));
    let sources = [
        GitSource::new(a.url()),
        GitSource::new(b.url()),
        GitSource::new("/nonexistent"),
        GitSource::new(a.url()),
    ];
    let mut asks: Vec<Ask> = sources.map(|s| ask_for(s.branch("main"))).into();
    let mut unreadable = asks[0].clone();
    unreadable.source.config = serde_json::json!({"url": 1});
    asks.push(unreadable);
    let answers = within(GitProbe::new().probe(&asks)).await;
    let seen: Vec<Option<String>> = answers
        .iter()
        .map(|a| match a {
            Ok(Probed::Observed(o)) => Some(o.revision.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(seen, [Some(in_a.clone()), Some(in_b), None, Some(in_a), None]);
    assert_eq!(answers[2].as_ref().unwrap_err().kind(), ErrorKind::InvalidConfig);
    assert_eq!(answers[4].as_ref().unwrap_err().kind(), ErrorKind::InvalidConfig);
    assert!(GitProbe::new().probe(&[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_look_hangs_up() {
    let repo = Repo::empty();
    let web = Web::serve(repo.root.path().into(), |_| Answer::Hang).await;
    let ask = ask_for(GitSource::new(web.url()));
    let looking = tokio::spawn(async move { GitProbe::new().probe(&[ask]).await });
    until(|| !web.got().is_empty()).await;
    assert_eq!(web.hung_up(), 0);
    looking.abort();
    until(|| web.hung_up() == 1).await;

    let (waiting, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (waits, goes) = (Arc::clone(&waiting), Arc::clone(&gone));
    let port = inetd::on_each(move |mut stream| {
        waits.fetch_add(1, Ordering::SeqCst);
        // Reads to the end, which is when the client is gone.
        drop(std::io::copy(&mut stream, &mut std::io::sink()));
        goes.fetch_add(1, Ordering::SeqCst);
    });
    let ask = ask_for(GitSource::new(format!("git://127.0.0.1:{port}/a.git")));
    let looking = tokio::spawn(async move { GitProbe::new().probe(&[ask]).await });
    until(|| waiting.load(Ordering::SeqCst) == 1).await;
    assert_eq!(gone.load(Ordering::SeqCst), 0);
    looking.abort();
    until(|| gone.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_unavailable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for url in [
        format!("http://127.0.0.1:{port}/a.git"),
        format!("https://127.0.0.1:{port}/a.git"),
        format!("git://127.0.0.1:{port}/a.git"),
        "http://host.invalid/a.git".into(),
        "git://host.invalid/a.git".into(),
    ] {
        let e = failure(&GitProbe::new(), ask_for(GitSource::new(&url))).await;
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{url}: {e:?}");
        assert!(e.report().contains(&url), "{e:?}");
    }
}
