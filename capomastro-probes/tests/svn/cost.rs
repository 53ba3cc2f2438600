//! What a look costs, and when it ends.

use super::{
    apache::Apache,
    asking::{ask_for, failure, seen, until, within},
    repo::Repo,
    runner::Remembering,
    serve, ssh,
};
use capomastro_core::{
    ErrorKind,
    probe::{Ask, Probed, RevisionProbe},
};
use capomastro_probes::svn::{SvnProbe, SvnSource};
use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Asks for fifty paths, each at another revision, each twice, and checks the answers.
async fn fifty(probe: &SvnProbe, repo: &Repo, url: &str) {
    let asks = || (0..100).map(|n| ask_for(SvnSource::new(url).path(format!("b{}", n / 2))));
    let asks: Vec<Ask> = asks().collect();
    let keys: Vec<_> = asks.iter().map(|a| probe.key(&a.source).unwrap()).collect();
    assert!(keys.iter().all(|k| *k == keys[0]));
    let answers = within(probe.probe(&asks)).await;
    assert_eq!(answers.len(), 100);
    for (n, answer) in answers.into_iter().enumerate() {
        let Ok(Probed::Observed(o)) = answer else { panic!("{answer:?}") };
        assert_eq!(o.revision.as_str(), repo.at(n as u64 / 2 + 1, None).to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_paths_are_one_look() {
    let Some(repo) = Repo::empty() else { return };
    for n in 0..50 {
        repo.commit(&["mkdir", &format!("b{n}")]);
    }
    let runner = Remembering::new();
    let ssh = ssh::stand_in(repo.root.path());
    let probe = SvnProbe::builder().runner(Arc::<Remembering>::clone(&runner)).ssh(ssh).build();
    fifty(&probe, &repo, &repo.url()).await;
    assert_eq!(runner.commands().len(), 1);
    fifty(&probe, &repo, &format!("svn+ssh://host.invalid{}", repo.url())).await;
    assert_eq!(runner.commands().len(), 2);

    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let root = repo.root.path().to_owned();
    let port = serve::on_each(move |stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let mut command = super::repo::clean("svnserve");
        command.args(["--inetd", "--root"]).arg(&root);
        serve::run(command, &stream);
    });
    fifty(&probe, &repo, &format!("svn://127.0.0.1:{port}/r")).await;
    assert_eq!(connections.load(Ordering::SeqCst), 1);

    if let Some(apache) = Apache::serve(&repo) {
        fifty(&probe, &repo, &apache.url("svn")).await;
        assert_eq!(apache.requests(50).await.len(), 50);
    }
    assert_eq!(runner.commands().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_behind_http_is_one_request() {
    let Some(repo) = Repo::new() else { return };
    let Some(apache) = Apache::serve(&repo) else { return };
    repo.commit(&["mkdir", "trunk/sub", "mkdir", "b"]);
    repo.commit(&["cp", "HEAD", "trunk", "b/x"]);
    let source = |path: &str| ask_for(SvnSource::new(apache.url("svn")).path(path));
    seen(&SvnProbe::new(), source("trunk")).await;
    assert_eq!(apache.requests(1).await, ["PROPFIND /svn/trunk 207 -"]);
    // What was last changed elsewhere costs a second one.
    let seen = seen(&SvnProbe::new(), source("b/x/sub")).await;
    assert_eq!(seen.display.as_deref(), Some("r2 (/trunk/sub)"));
    assert_eq!(
        apache.requests(3).await[1..],
        ["PROPFIND /svn/b/x/sub 207 -", "REPORT /svn/!svn/ver/3/b/x/sub 200 -"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_several_repositories_get_their_own_answers() {
    let (Some(a), Some(b)) = (Repo::new(), Repo::new()) else { return };
    b.put("trunk/f", "two");
    let sources = [a.url(), b.url(), "/nonexistent/r".into(), a.url()];
    let mut asks: Vec<Ask> = sources.map(|url| ask_for(SvnSource::new(url).path("trunk"))).into();
    let mut unreadable = asks[0].clone();
    unreadable.source.config = serde_json::json!({"url": 1});
    asks.push(unreadable);
    let probe = SvnProbe::builder().runner(Remembering::new()).build();
    let answers = within(probe.probe(&asks)).await;
    let displays: Vec<Option<String>> = answers
        .iter()
        .map(|answer| match answer {
            Ok(Probed::Observed(o)) => o.display.clone(),
            _ => None,
        })
        .collect();
    assert_eq!(displays, [Some("r1"), Some("r2"), None, Some("r1"), None].map(|d| d.map(str::to_owned)));
    for index in [2, 4] {
        assert_eq!(answers[index].as_ref().unwrap_err().kind(), ErrorKind::InvalidConfig);
    }
    assert!(probe.probe(&[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_look_hangs_up() {
    for (scheme, always) in [("svn", false), ("http", false), ("svn", true), ("http", true)] {
        let (waiting, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (in_, out) = (Arc::clone(&waiting), Arc::clone(&gone));
        let port = serve::on_each(move |mut stream| {
            in_.fetch_add(1, Ordering::SeqCst);
            // A connection that is cut off is gone too.
            drop(std::io::copy(&mut stream.by_ref(), &mut std::io::sink()));
            out.fetch_add(1, Ordering::SeqCst);
        });
        let probe = SvnProbe::builder().runner(Remembering::new()).always_program(always).build();
        let ask = ask_for(SvnSource::new(format!("{scheme}://127.0.0.1:{port}/r")));
        let looking = tokio::spawn(async move { probe.probe(&[ask]).await });
        until(|| waiting.load(Ordering::SeqCst) == 1).await;
        assert_eq!(gone.load(Ordering::SeqCst), 0);
        looking.abort();
        until(|| gone.load(Ordering::SeqCst) == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_unavailable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for url in [
        format!("http://127.0.0.1:{port}/r"),
        format!("https://127.0.0.1:{port}/r"),
        format!("svn://127.0.0.1:{port}/r"),
        "http://host.invalid/r".into(),
        "svn://host.invalid/r".into(),
    ] {
        for always in [false, true] {
            let probe = SvnProbe::builder().runner(Remembering::new()).always_program(always).build();
            let e = failure(&probe, ask_for(SvnSource::new(&url))).await;
            assert_eq!(e.kind(), ErrorKind::Unavailable, "{url}: {e:?}");
            assert!(e.report().contains(&url), "{e:?}");
        }
    }
}
