//! Without a container.

use crate::agent::{Agent, ended, parameters, runs, signal, text, until};
use capomastro_jenkins::template::Parameter;
use std::fs;

/// What a value must not do.
const EVIL: [&str; 6] = [
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; '",
    "\"; touch pwned; \"",
    "a\ntouch pwned\n",
    "--; touch pwned",
];

#[test]
fn the_script_of_the_branch_runs_in_the_workspace() {
    let agent = Agent::new("pwd; echo \"$CAPOMASTRO_REVISION/$OWN\"; cat; dirname \"$0\" >&2; exit 3");
    let template = agent.template().parameter(Parameter::string("OWN"));
    let ended = agent.run(&template, &parameters([("CAPOMASTRO_REVISION", "r 1"), ("OWN", "é '\" \\ $x")]));
    let workspace = agent.path("workspace").display().to_string();
    assert_eq!(ended.stdout, format!("{workspace}\nr 1/é '\" \\ $x\n"), "{ended:?}");
    assert_eq!(ended.status, Some(3), "{ended:?}");
    agent.assert_clean();
}

#[test]
fn a_revision_of_the_job_type_is_the_one_that_runs() {
    let agent = Agent::new("echo first");
    let first = agent.git(&["rev-parse", "HEAD"]);
    agent.commit("echo second");
    let at = |revision: &str| {
        agent.run(&agent.template(), &parameters([("CAPOMASTRO_JOB_TYPE_REVISION", revision)]))
    };
    assert_eq!(at("").stdout, "second\n");
    let pinned = at(&first);
    assert_eq!(pinned.stdout, "first\n");
    assert!(pinned.stderr.contains(&first), "{pinned:?}");
}

#[test]
fn what_the_branch_does_not_have_is_refused() {
    let agent = Agent::new("echo lib");
    agent.git(&["checkout", "--quiet", "-b", "other"]);
    let other = agent.commit("echo other");
    agent.git(&["tag", "v1"]);
    let refused = |given: [(&str, &str); 1], says: &str| {
        let ended = agent.run(&agent.template(), &parameters(given));
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(70), ""), "{ended:?}");
        assert!(ended.stderr.contains(says), "{ended:?}");
        agent.assert_clean();
    };
    refused([("CAPOMASTRO_JOB_TYPE_REVISION", &other)], "does not have revision");
    refused([("CAPOMASTRO_JOB_TYPE_REVISION", &"0".repeat(40))], "does not have revision");
    refused([("CAPOMASTRO_BRANCH", "v1")], "there is no branch");
    refused([("CAPOMASTRO_BRANCH", "none")], "cannot be had");
    refused([("CAPOMASTRO_JOB_TYPE", "/nowhere")], "cannot be had");
    refused([("CAPOMASTRO_JOB_TYPE", "")], "set its repository");
    refused([("CAPOMASTRO_SCRIPT", "absent")], "has no file");
    fs::write(agent.path("types/data"), "x").unwrap();
    agent.git(&["checkout", "--quiet", "lib"]);
    agent.git(&["add", "--all"]);
    agent.git(&["commit", "--quiet", "--message=x"]);
    refused([("CAPOMASTRO_SCRIPT", "data")], "not executable");
}

#[test]
fn no_value_is_taken_for_a_command_or_an_option() {
    let agent = Agent::new("env; exit 0");
    let template = agent.template().parameter(Parameter::text("OWN"));
    let mut cases: Vec<(&str, String)> = Vec::new();
    for evil in EVIL {
        let by_option = format!("--upload-pack={evil}");
        for name in
            ["CAPOMASTRO_JOB_TYPE", "CAPOMASTRO_BRANCH", "CAPOMASTRO_JOB_TYPE_REVISION", "CAPOMASTRO_SCRIPT"]
        {
            cases.push((name, evil.to_owned()));
            cases.push((name, by_option.clone()));
        }
    }
    for (name, value) in [
        ("CAPOMASTRO_JOB_TYPE", "ext::sh -c touch% pwned"),
        ("CAPOMASTRO_JOB_TYPE", "-oProxyCommand=touch pwned:x"),
        ("CAPOMASTRO_BRANCH", "lib:refs/heads/lib"),
        ("CAPOMASTRO_BRANCH", "+lib"),
        ("CAPOMASTRO_BRANCH", "../lib"),
        ("CAPOMASTRO_BRANCH", "-b"),
        ("CAPOMASTRO_JOB_TYPE_REVISION", "HEAD"),
        ("CAPOMASTRO_JOB_TYPE_REVISION", "abc"),
        ("CAPOMASTRO_SCRIPT", ""),
        ("CAPOMASTRO_SCRIPT", "/bin/true"),
        ("CAPOMASTRO_SCRIPT", "../../workspace/planted"),
        ("CAPOMASTRO_SCRIPT", "./build"),
    ] {
        cases.push((name, value.to_owned()));
    }
    fs::write(agent.path("workspace/planted"), "#!/bin/sh\ntouch pwned\n").unwrap();
    for (name, value) in cases {
        let ended = agent.run(&template, &parameters([(name, &value)]));
        assert_eq!(ended.status, Some(70), "{name}={value:?}: {ended:?}");
        assert!(!agent.path("workspace/pwned").exists(), "{name}={value:?}");
    }
    // Everywhere else any value is as good as another.
    for evil in EVIL {
        let given = parameters([("OWN", evil), ("CAPOMASTRO_BUILD_ID", evil), ("BUILD_NUMBER", evil)]);
        let ended = agent.run(&template, &given);
        assert_eq!(ended.status, Some(0), "{evil:?}: {ended:?}");
        assert!(ended.stdout.contains(&format!("OWN={evil}")), "{ended:?}");
        assert!(!agent.path("workspace/pwned").exists(), "{evil:?}");
    }
}

#[test]
fn parameters_of_any_name_reach_the_script() {
    let names = ["branch", "revision", "name", "run", "status", "child", "temp", "input"];
    let agent = Agent::new(&names.map(|n| format!("echo ${n}")).join("; "));
    let template = names.iter().fold(agent.template(), |t, n| t.parameter(Parameter::string(*n)));
    let given = names.map(|n| (n, n));
    assert_eq!(agent.run(&template, &parameters(given)).stdout, format!("{}\n", names.join("\n")));
}

#[test]
fn a_step_that_is_stopped_stops_its_script_and_cleans_up() {
    let agent = Agent::new("sleep 1000 & echo $! > child; echo $$ > me; wait");
    let step = agent.start(&agent.template(), &parameters([]));
    let me = until("the script runs", || {
        fs::read_to_string(agent.path("workspace/me")).ok().filter(|t| t.ends_with('\n'))
    });
    let child = text(agent.path("workspace/child"));
    assert!(runs(&me) && runs(&child));
    signal(&step, "TERM");
    let ended = ended(step);
    assert_eq!(ended.status, Some(143), "{ended:?}");
    until("the script has ended", || (!runs(&me) && !runs(&child)).then_some(()));
    agent.assert_clean();
}

#[test]
fn a_script_that_will_not_stop_is_killed_after_the_grace() {
    let agent = Agent::new("trap '' TERM; echo $$ > me; while :; do sleep 1; done");
    let mut template = agent.template();
    template.grace = std::time::Duration::from_secs(1);
    let step = agent.start(&template, &parameters([]));
    let me = until("the script runs", || {
        fs::read_to_string(agent.path("workspace/me")).ok().filter(|t| t.ends_with('\n'))
    });
    signal(&step, "TERM");
    assert_eq!(ended(step).status, Some(143));
    until("the script has ended", || (!runs(&me)).then_some(()));
    agent.assert_clean();
}
