//! Places that are not the whole branch: checkouts, stacked branches, shared repositories, folders of another time.

use super::{
    asking::{Remembering, answer, by_program, failure, seen, with_programs},
    branch::{Branches, Server, brz},
    program::stand_in,
    web::{Answer, Web},
};
use capomastro_core::{ErrorKind, probe::Probed};
use capomastro_probes::bzr::{BzrProbe, BzrSource};
use std::{fs, path::PathBuf, sync::Arc};

/// A server does not get to say what else is read; and a checkout is no branch that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_servers_checkout_is_told() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    let root = branches.root.path().to_owned();
    branches.init("trunk", &[]);
    branches.commit("trunk");
    brz(&root, &["checkout", "--quiet", "--lightweight", "trunk", "light"]);
    let web = Web::serve(root.clone(), |_| Answer::File).await;
    let server = Server::over(&root);
    let runner = Arc::<Remembering>::default();
    let ssh = BzrProbe::builder()
        .runner(Arc::<Remembering>::clone(&runner))
        .ssh(stand_in(&root))
        .remote_bzr("BRZ_LOG=/dev/null brz")
        .build();
    for (probe, url) in [
        (BzrProbe::new(), web.url("light")),
        (BzrProbe::new(), format!("bzr://127.0.0.1:{}/light", server.port)),
        (by_program(&runner), web.url("light")),
        (by_program(&runner), format!("bzr://127.0.0.1:{}/light", server.port)),
        (ssh, format!("bzr+ssh://host.invalid{}", branches.url("light"))),
    ] {
        let e = failure(&probe, BzrSource::new(&url)).await;
        assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{url}: {}", e.report());
        assert!(e.report().contains("checkout"), "{url}: {}", e.report());
    }
}

/// The tip is the branch's own; where older revisions are kept does not matter. Nor does a lock that somebody holds.
#[tokio::test(flavor = "multi_thread")]
async fn neither_a_lost_base_nor_a_lock_hides_the_tip() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    let root = branches.root.path().to_owned();
    branches.init("base", &[]);
    branches.commit("base");
    brz(&root, &["branch", "--quiet", "--stacked", "base", "top"]);
    let tip = branches.commit("top");
    fs::rename(branches.path("base"), branches.path("lost")).unwrap();
    let held = branches.path("top/.bzr/branch/lock/held");
    fs::create_dir_all(&held).unwrap();
    fs::write(held.join("info"), "hostname: h\nnonce: n\npid: 1\nuser: u\nstart_time: 1\n").unwrap();
    let web = Web::serve(root.clone(), |_| Answer::File).await;
    let server = Server::over(&root);
    let runner = Arc::<Remembering>::default();
    for url in [branches.url("top"), web.url("top"), format!("bzr://127.0.0.1:{}/top", server.port)] {
        for probe in [BzrProbe::new(), by_program(&runner)] {
            assert_eq!(seen(&probe, BzrSource::new(&url)).await, (tip.clone(), "revno 2".into()), "{url}");
        }
    }
}

/// The first formats kept all in one folder. That their branch cannot be read does not mean that it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_of_another_time_is_not_gone() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    let control = branches.path("old/.bzr");
    fs::create_dir_all(&control).unwrap();
    fs::write(control.join("branch-format"), "Bazaar-NG branch, format 6\n").unwrap();
    fs::write(control.join("revision-history"), "a@b-1\n").unwrap();
    let web = Web::serve(branches.root.path().into(), |_| Answer::File).await;
    let runner = Arc::<Remembering>::default();
    for url in [branches.url("old"), web.url("old")] {
        for probe in [BzrProbe::new(), with_programs(), by_program(&runner)] {
            let e = failure(&probe, BzrSource::new(&url)).await;
            assert_eq!(e.kind(), ErrorKind::Unsupported, "{url}: {}", e.report());
        }
    }
}

/// A runner elsewhere shows what the command reads, and no more: it has to be enough.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_names_all_that_it_reads() {
    if !crate::branch::brz_is_there() {
        return;
    }
    let branches = Branches::new();
    let root = branches.root.path().to_owned();
    brz(&root, &["init-shared-repository", "--quiet", "shared"]);
    branches.init("shared/trunk", &[]);
    let tip = branches.commit("shared/trunk");
    brz(&root, &["checkout", "--quiet", "--lightweight", "shared/trunk", "light"]);
    let reads = |name: &'static str| {
        let (runner, url) = (Arc::<Remembering>::default(), branches.url(name));
        async move {
            let answered = answer(&by_program(&runner), BzrSource::new(url)).await;
            (answered.unwrap(), runner.commands()[0].reads.clone())
        }
    };
    let (answered, read) = reads("light").await;
    assert!(format!("{answered:?}").contains(&tip), "{answered:?}");
    let paths = |names: &[&str]| names.iter().map(|n| branches.path(n)).collect::<Vec<PathBuf>>();
    assert_eq!(read, paths(&["light", "shared/.bzr", "shared/trunk"]));
    // That a branch is gone is seen by the folder that it was in.
    let (answered, read) = reads("shared/gone").await;
    assert_eq!(answered, Probed::NotFound);
    assert_eq!(read, paths(&["shared"]));
}
