//! With real LXC containers. Skipped, loudly, where there is no LXC that works; never in CI.

use crate::agent::{Agent, ended, parameters, runs, signal, text, until};
use capomastro_jenkins::template::{Container, Isolation, JobTemplate, Parameter};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// An id that no other test's container has, at the same time or left from before.
fn id(of: &str) -> String {
    format!("{of}-{}", std::process::id())
}

/// Whether containers can be run here; says so, and fails in CI, if not.
fn have_lxc() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    let works = *WORKS.get_or_init(|| {
        let agent = Agent::new("exit 42");
        agent.run(&in_rootfs(&agent), &parameters([("CAPOMASTRO_BUILD_ID", &id("is-it-there"))])).status
            == Some(42)
    });
    if !works {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must have LXC that works: install lxc and busybox-static, be root"
        );
        let line = "SKIPPED: tests that need LXC; install lxc and busybox-static, and be root, to run them\n";
        // Not with a macro: of a test that passes, what macros print is not shown.
        std::io::stderr().write_all(line.as_bytes()).ok();
    }
    works
}

/// A root file system of nothing but busybox.
fn rootfs(agent: &Agent) -> PathBuf {
    let root = agent.path("rootfs");
    for folder in ["bin", "dev", "etc", "mnt", "proc", "sys", "tmp", "root", "var"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|p| p.exists());
    if let Some(busybox) = busybox {
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        for tool in ["sh", "cat", "echo", "env", "hostname", "id", "ls", "sleep", "touch"] {
            symlink("busybox", root.join("bin").join(tool)).unwrap();
        }
    }
    root
}

fn in_rootfs(agent: &Agent) -> JobTemplate {
    let root = rootfs(agent);
    agent.template().isolated(Isolation::Execute(Container::Rootfs(root.to_str().unwrap().to_owned())))
}

/// The names of containers that exist or run.
fn containers() -> Vec<String> {
    let output = Command::new("lxc-ls").args(["--active", "-1"]).stderr(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(|l| l.trim().to_owned()).collect()
}

#[test]
fn the_script_runs_inside_with_its_parameters_and_nothing_else() {
    if !have_lxc() {
        return;
    }
    let agent = Agent::new(
        "env; hostname >&2; echo built > out; cat \"$0\" >/dev/null; touch \"$0\" && exit 9; ls /root/secret; exit 5",
    );
    let evil = "'; touch /mnt/workspace/pwned; $(touch /mnt/workspace/pwned)\n\"\\ é";
    let template =
        in_rootfs(&agent).parameter(Parameter::text("OWN")).parameter(Parameter::text("NOT_GIVEN"));
    let id = id("inside");
    let given = parameters([("CAPOMASTRO_BUILD_ID", &id), ("OWN", evil), ("UNDECLARED", "hidden")]);
    let ended = agent.run(&template, &given);
    assert_eq!(ended.status, Some(5), "{ended:?}");
    assert!(ended.stdout.contains(&format!("OWN={evil}\n")), "{ended:?}");
    assert!(ended.stdout.contains("WORKSPACE=/mnt/workspace\n") && ended.stdout.contains("BUILD_NUMBER=7\n"));
    assert!(ended.stdout.contains(&format!("CAPOMASTRO_BUILD_ID={id}\n")));
    assert!(!ended.stdout.contains("hidden") && !ended.stdout.contains("NOT_GIVEN"));
    assert!(ended.stderr.contains(&format!("container capo-{id}-7")), "{ended:?}");
    assert_eq!(text(agent.path("workspace/out")), "built\n");
    assert!(!agent.path("workspace/pwned").exists());
    agent.assert_clean();
}

#[test]
fn each_status_is_the_scripts_own_and_a_container_that_does_not_start_has_none() {
    if !have_lxc() {
        return;
    }
    for (script, status) in
        [("exit 0", 0), ("exit 1", 1), ("exit 255", 255), ("kill -9 $$", 137), ("no-such-thing", 127)]
    {
        let agent = Agent::new(script);
        let ended = agent.run(&in_rootfs(&agent), &parameters([("CAPOMASTRO_BUILD_ID", &id("status"))]));
        assert_eq!(ended.status, Some(status), "{script}: {ended:?}");
    }
    let agent = Agent::new("exit 0");
    let broken = agent.template().isolated(Isolation::Execute(Container::Config("/nowhere.conf".into())));
    let ended = agent.run(&broken, &parameters([]));
    assert_eq!(ended.status, Some(75), "{ended:?}");
    assert!(ended.stderr.contains("did not run the script"), "{ended:?}");
    agent.assert_clean();
}

#[test]
fn a_probe_answers_from_inside() {
    if !have_lxc() {
        return;
    }
    let agent = Agent::new("echo r7; echo noise >&2");
    let given = parameters([("CAPOMASTRO_PROBE_MARK", "m1"), ("CAPOMASTRO_PROBE_ID", &id("probe"))]);
    let ended = agent.run(&in_rootfs(&agent).for_probes(), &given);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), "\nm1 begin\nr7\n\nm1 end\n"), "{ended:?}");
}

/// The id of the script as it is seen from outside: the only process with this argument.
fn outside(argument: &str) -> Option<String> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let args: Vec<_> = line.split(|b| *b == 0).collect();
        (args.first() == Some(&&b"sleep"[..]) && args.contains(&argument.as_bytes()))
            .then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

#[test]
fn a_container_is_gone_when_its_step_is_stopped_or_killed() {
    if !have_lxc() {
        return;
    }
    for (how, seconds) in [("TERM", "100123"), ("KILL", "100124")] {
        let agent = Agent::new(&format!("trap '' TERM; sleep {seconds}"));
        let id = id(&format!("gone-by-{how}"));
        let step = agent.start(&in_rootfs(&agent), &parameters([("CAPOMASTRO_BUILD_ID", id.as_str())]));
        let name = format!("capo-{id}-7");
        let sleep = until("the script runs inside", || outside(seconds));
        assert!(containers().contains(&name), "{name} is not in {:?}", containers());
        signal(&step, how);
        until("the container is gone", || (!containers().contains(&name) && !runs(&sleep)).then_some(()));
        drop(ended(step));
        until("its files are gone", || {
            fs::read_dir(agent.path("workspace@tmp")).unwrap().next().is_none().then_some(())
        });
    }
}

#[test]
fn the_script_runs_in_a_copy_of_a_container() {
    if !have_lxc() {
        return;
    }
    let agent = Agent::new("echo \"$OWN\"; hostname; id -u; touch /changed; echo built > out; exit 6");
    let lxc_path = tempfile::Builder::new().prefix("lxc").tempdir().unwrap();
    fs::set_permissions(lxc_path.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = lxc_path.path().to_str().unwrap().to_owned();
    fs::write(lxc_path.path().join("conf"), "lxc.net.0.type = empty\n").unwrap();
    let made = Command::new("lxc-create")
        .args(["-P", &path, "-n", "base", "-t", "busybox", "-f", &format!("{path}/conf")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut template = agent.template().isolated(Isolation::Copy { base: "base".into() });
    template.lxc_path = Some(path.clone());
    let template = template.parameter(Parameter::text("OWN"));
    let evil = "'; touch pwned; $(touch pwned)\n\"";
    let ended = agent.run(&template, &parameters([("OWN", evil), ("CAPOMASTRO_BUILD_ID", &id("copy"))]));
    assert_eq!(ended.status, Some(6), "{ended:?}");
    assert!(ended.stdout.starts_with(&format!("{evil}\n")), "{ended:?}");
    assert_eq!(text(agent.path("workspace/out")), "built\n");
    assert!(!agent.path("workspace/pwned").exists());
    assert!(!lxc_path.path().join("base/rootfs/changed").exists(), "the container itself stays as it is");
    until("the copy is gone", || (fs::read_dir(&path).unwrap().count() == 2).then_some(()));
    agent.assert_clean();
}

#[test]
fn what_stands_before_the_tools_is_run_with_them() {
    if !have_lxc() {
        return;
    }
    let agent = Agent::new("exit 8");
    let mut template = in_rootfs(&agent);
    template.through = vec!["env".into(), "WHO=capomastro".into()];
    let given = parameters([("CAPOMASTRO_BUILD_ID", &id("through"))]);
    assert_eq!(agent.run(&template, &given).status, Some(8));
    template.through = vec!["no-such-program".into()];
    assert_eq!(agent.run(&template, &given).status, Some(75));
    agent.assert_clean();
}
