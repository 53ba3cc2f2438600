//! What a build sees and leaves.

use crate::{
    builds::{self, build, end, launch, launcher, launcher_with, log, pids, refusal, request, says, script},
    network::Bridge,
    support::{eventually, folder, there_are_containers},
};
use capomastro_core::{
    launch::{BuildLauncher as _, BuildOutput as _, Outcome},
    secret::{Secret, SecretRef, SecretResolver, Secrets},
};
use capomastro_lxc::{AddressRange, Limits, LxcJob, LxcLauncher, LxcRunner, Network, Root};
use capomastro_process::CommandJob;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    process::Command,
    sync::Arc,
};

#[tokio::test]
async fn log_artifacts_status_and_revision_come_out() {
    let Some((l, _at)) = builds::new() else { return };
    let job = LxcJob::new(
        CommandJob::script(
            "pwd; echo err >&2; mkdir dist; echo one >dist/a; echo two >\"$CAPOMASTRO_ARTIFACTS/b\"; \
             echo \"$CAPOMASTRO_REVISION, really\" >\"$CAPOMASTRO_BUILT_REVISION_FILE\"; exit 3",
        )
        .artifact("dist/*")
        .unstable(3),
    );
    let r = request(&job);
    let reference = launch(&l, &r).await;
    let ended = end(&l, &reference).await;
    assert_eq!(ended.outcome, Outcome::Unstable, "{ended:?}");
    assert_eq!(ended.built.unwrap().as_str(), "r-1 $(touch pwned) '\", really");
    let names: Vec<_> = ended.artifacts.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["b", "dist/a"]);
    assert_eq!(l.artifact(&reference, "dist/a", 0, 100).await.unwrap().bytes, b"one\n");
    let said = log(&l, &reference).await;
    assert!(said.ends_with("/workspace\nerr\n") && said.contains(&r.key.to_string()), "{said}");
}

#[tokio::test]
async fn every_status_is_the_builds_own() {
    let Some((l, _at)) = builds::new() else { return };
    for (text, says) in [
        ("exit 1", "ended with status 1"),
        ("exit 255", "ended with status 255"),
        ("exit 126", "ended with status 126"),
        ("no-such-program-at-all", "ended with status 127"),
        ("kill -9 $$", "signal 9"),
        ("kill -TERM $$", "signal 15"),
    ] {
        let (ended, said) = build(&l, &script(text)).await;
        assert_eq!(ended.outcome, Outcome::Failed, "{text}");
        assert!(ended.message.as_ref().unwrap().contains(says), "{text}: {ended:?}\n{said}");
    }
}

/// Hands out one secret.
#[derive(Debug)]
struct Hunter;

#[capomastro_core::async_trait]
impl SecretResolver for Hunter {
    async fn resolve(&self, _: &SecretRef) -> capomastro_core::Result<Secret> {
        Ok(Secret::new("hunter2\nand 'more'"))
    }
}

#[tokio::test]
async fn a_build_is_told_its_variables_and_nobody_outside_is() {
    let Some((l, at)) = builds::new() else { return };
    let job = LxcJob::new(
        CommandJob::script("tr '\\0' '|' </proc/$$/environ; until [ -e go ]; do sleep 0.01; done")
            .env("PLAIN", "a\nb $HOME")
            .env("TOKEN", SecretRef::new("upload"))
            // Would be the end of a program outside that believed it.
            .env("LD_PRELOAD", "/capomastro-none.so"),
    );
    let mut r = request(&job);
    r.secrets = Secrets::new(Arc::new(Hunter));
    let reference = launch(&l, &r).await;
    let folder = at.path().join("builds").join(r.key.to_string());
    eventually("it says its environment", || {
        fs::read_to_string(folder.join("log")).ok()?.contains("CAPOMASTRO_REVISION").then_some(())
    })
    .await;
    // Its supervisor, and the process that holds its container.
    let outside = pids(folder.to_str().unwrap());
    assert!(outside.len() >= 2, "{outside:?}");
    for pid in outside {
        // Inside, its own shell is among them.
        let is_inside = fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|s| s.lines().any(|l| l.starts_with("NSpid:") && l.split_whitespace().count() > 2));
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let told = environ.split(|b| *b == 0).any(|v| v.starts_with(b"LD_PRELOAD="));
        assert!(is_inside || !told, "{pid}");
    }
    let found = Command::new("grep").args(["-rl", "hunter2"]).arg(at.path()).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.trim(), folder.join("log").to_str().unwrap(), "what it says itself");
    fs::write(folder.join("workspace/go"), "").unwrap();
    assert_eq!(end(&l, &reference).await.outcome, Outcome::Succeeded);
    let said = log(&l, &reference).await;
    for variable in
        ["|PLAIN=a\nb $HOME|", "|TOKEN=hunter2\nand 'more'|", "|CAPOMASTRO_DEPENDENCY=lib foo/🦀|"]
    {
        assert!(format!("|{said}").contains(variable), "{variable} in {said}");
    }
    assert!(!said.contains("CAPOMASTRO_IN_") && !said.contains("CARGO"), "{said}");
}

#[tokio::test]
async fn a_build_sees_its_own_folders_and_no_others() {
    let Some((l, at)) = builds::new() else { return };
    fs::write(at.path().join("secret"), "").unwrap();
    says(&l, &script("exit 0")).await;
    let said = says(
        &l,
        &script(
            "ls -A ..; ls -A ../..; ls -A ../../..; ls /sys/class/net; \
             touch ../status.json ../../x /usr/x 2>/dev/null || echo no",
        ),
    )
    .await;
    let lines: Vec<&str> = said.lines().collect();
    let (key, rest) = (lines[4], [&lines[..4], &lines[5..]].concat());
    assert_eq!(key.len(), 36, "{said}");
    assert_eq!(rest, ["drop", "says", "stop.pipe", "workspace", "builds", "lo", "no"], "{said}");
}

#[tokio::test]
async fn what_a_build_leaves_running_ends_with_it() {
    let Some((l, _at)) = builds::new() else { return };
    let mark = "capomastro-build-left-3301";
    says(&l, &script(&format!("setsid sh -c 'sleep 1000; : {mark}' & sleep 0.1"))).await;
    assert_eq!(pids(mark), Vec::<i32>::new());
}

#[tokio::test]
async fn folders_are_shown_by_the_launchers_leave() {
    if !there_are_containers() {
        return;
    }
    let (at, open) = (folder(), folder());
    let l =
        launcher_with(at.path(), |r| r, |l| l.allow_writes(open.path().join("w")).allow_reads(open.path()));
    let (w, r) = (open.path().join("w"), open.path().join("r"));
    for dir in [&w, &r] {
        fs::create_dir(dir).unwrap();
    }
    fs::write(r.join("file"), "read\n").unwrap();
    let mut job = script("cat \"$0/file\"; echo kept >kept; touch \"$0/x\" || echo no").reads(&r).writes(&w);
    job.command = job.command.dir(&w).artifact("kept");
    job.command.command[0] = job.command.command[0].replace("$0", r.to_str().unwrap());
    let (ended, said) = build(&l, &job).await;
    assert_eq!((ended.outcome, ended.artifacts.len()), (Outcome::Succeeded, 1), "{said}");
    assert!(said.starts_with("read\n") && said.ends_with("no\n"), "{said}");
    assert_eq!(fs::read_to_string(w.join("kept")).unwrap(), "kept\n");

    symlink("/etc", w.join("out")).unwrap();
    for (job, reason) in [
        (script(":").writes(w.join("out")), "symbolic link"),
        (script(":").writes(w.join("none")), "does not exist"),
        (script(":").writes(&r), "does not allow"),
        (script(":").reads("/etc"), "does not allow"),
    ] {
        let why = refusal(&l, &job).await;
        assert!(why.contains(reason), "{reason}: {why}");
    }
}

/// The folder of a root file system with nothing but busybox.
fn small_root() -> tempfile::TempDir {
    let root = folder();
    fs::create_dir_all(root.path().join("bin")).unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| fs::exists(p).unwrap());
    fs::copy(busybox.expect("Debian's package busybox-static"), root.path().join("bin/busybox")).unwrap();
    for tool in ["sh", "cat", "ls", "echo", "sleep", "touch", "id"] {
        symlink("busybox", root.path().join("bin").join(tool)).unwrap();
    }
    root
}

#[tokio::test]
async fn a_job_chooses_among_the_launchers_roots() {
    if !there_are_containers() {
        return;
    }
    let (at, root) = (folder(), small_root());
    let l = launcher_with(
        at.path(),
        |r| r,
        |l| {
            l.root("small", Root::Folder(root.path().into()))
                .root("fresh", Root::Ephemeral(root.path().into()))
        },
    );
    let writes = "echo x >/etc/made && echo made; ls /usr 2>/dev/null || echo small";
    assert_eq!(says(&l, &script(writes).root("fresh")).await, "made\nsmall\n");
    let (_, said) = build(&l, &script(writes).root("small")).await;
    assert!(!said.contains("made\n") && said.ends_with("small\n"), "{said}");
    assert!(says(&l, &script("ls /usr")).await.contains("bin"));
    assert!(!root.path().join("etc/made").exists());
    let left: Vec<_> = fs::read_dir(at.path().join("builds"))
        .unwrap()
        .flatten()
        .filter(|e| e.path().join("enclosure").exists())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let why = refusal(&l, &script(":").root("large")).await;
    assert!(why.contains("no root of this name"), "{why}");
    let git = LxcJob::new(CommandJob::new(["git", "--version"]));
    assert!(says(&l, &git).await.starts_with("git version"));
    let why = refusal(&l, &git.root("small")).await;
    assert!(why.contains("does not exist in its container's root"), "{why}");
}

#[tokio::test]
async fn another_user_builds_too() {
    if !there_are_containers() {
        return;
    }
    let at = folder();
    let l = launcher_with(at.path(), |r| r.user(1234, 5678), |l| l);
    let job = script("id -u; id -g; touch here \"$CAPOMASTRO_ARTIFACTS/there\"; sleep 0.1 & kill -9 -1");
    let (ended, said) = build(&l, &job).await;
    assert_eq!(ended.artifacts.len(), 1, "{ended:?} {said}");
    assert!(said.starts_with("1234\n5678\n"), "{said}");
    let made = fs::metadata(at.path().join("builds")).unwrap();
    assert_eq!(made.uid(), 0);
}

#[tokio::test]
async fn limits_are_kept_and_may_be_lowered() {
    if !there_are_containers() {
        return;
    }
    let at = folder();
    let l = launcher_with(
        at.path(),
        |r| r.limits(Limits::default().memory(Some(256 << 20)).processes(50)),
        |l| l,
    );
    let hungry = "python3 -c 'x = b\"a\" * 150000000; print(len(x))'";
    assert_eq!(says(&l, &script(hungry)).await, "150000000\n");
    let (ended, _) = build(&l, &script(hungry).memory(64 << 20)).await;
    assert_eq!(ended.outcome, Outcome::Failed);
    assert!(ended.message.unwrap().contains("signal 9"));
    let e = l.check_job(&script(":").processes(51).into()).unwrap_err();
    assert!(e.to_string().contains("more processes"), "{e}");
}

#[tokio::test]
async fn builds_on_a_bridge_have_addresses_of_their_own() {
    if !there_are_containers() {
        return;
    }
    let (at, bridge) = (folder(), Bridge::make());
    let range = AddressRange::new(bridge.at(2), bridge.at(3), 24).unwrap();
    let network = || Network::bridge(&bridge.name, range);
    // Each is another scheduler's.
    let launchers: [LxcLauncher; 3] =
        std::array::from_fn(|_| launcher_with(at.path(), |r| r.network(network()), |l| l));
    let job = script("hostname -I; until [ -e go ]; do sleep 0.01; done");
    let mut running = BTreeMap::new();
    for l in &launchers[..2] {
        let r = request(&job);
        running.insert(r.key, launch(l, &r).await);
    }
    let third = launchers[2].launch(&request(&job), &builds::Forgets).await.unwrap_err();
    assert!(third.to_string().contains("addresses for containers are taken"), "{third}");
    let mut addresses = Vec::new();
    for (key, reference) in &running {
        fs::write(at.path().join("builds").join(key.to_string()).join("workspace/go"), "").unwrap();
        assert_eq!(end(&launchers[2], reference).await.outcome, Outcome::Succeeded);
        addresses.push(log(&launchers[2], reference).await.trim().to_owned());
    }
    addresses.sort();
    assert_eq!(addresses, [bridge.at(2).to_string(), bridge.at(3).to_string()]);
    // They are free again, for commands as for builds.
    let lxc = LxcRunner::builder(at.path().join("state"), Root::Host).network(network()).build().unwrap();
    assert!(crate::support::prints(&lxc, "hostname -I").await.starts_with("10.213."));
    assert!(says(&launchers[2], &script("hostname -I")).await.starts_with("10.213."));
}

#[tokio::test]
async fn a_container_that_cannot_be_set_up_is_no_verdict_on_the_revision() {
    if !there_are_containers() {
        return;
    }
    let at = folder();
    let range = AddressRange::new([10, 214, 0, 2].into(), [10, 214, 0, 9].into(), 24).unwrap();
    let l = launcher_with(at.path(), |r| r.network(Network::bridge("capo-none", range)), |l| l);
    let (ended, said) = build(&l, &script("echo it runs")).await;
    assert_eq!(ended.outcome, Outcome::Lost, "{ended:?}");
    assert!(ended.message.unwrap().contains("could not be set up"));
    assert!(said.contains("lxc") && !said.contains("it runs"), "{said}");
    assert!(l.health().await.unwrap().to_string().contains("no bridge capo-none"));
    let well = launcher(at.path()).health().await.unwrap();
    assert!(well.is_well(), "{well}");
}
