//! Steps that look instead of building.

use crate::agent::{Agent, Ended, parameters};

const MARK: &str = "018f00007000a8d";

fn look(script: &str, language: &str, seconds: &str) -> (Agent, Ended) {
    let agent = Agent::new(script);
    let given = [
        ("CAPOMASTRO_PROBE_MARK", MARK),
        ("CAPOMASTRO_PROBE_LANGUAGE", language),
        ("CAPOMASTRO_PROBE_SECONDS", seconds),
    ];
    let ended = agent.run(&agent.template().for_probes(), &parameters(given));
    agent.assert_clean();
    (agent, ended)
}

fn around(answer: &str) -> String {
    format!("\n{MARK} begin\n{answer}\n{MARK} end\n")
}

#[test]
fn what_a_script_prints_stands_between_the_marks() {
    for (script, language, expected) in [
        ("echo r1; echo noise >&2", "token", "r1\n"),
        ("printf r1", "token", "r1"),
        ("echo a; echo b", "token", "a\nb\n"),
        (":", "token", ""),
        ("echo whatever; exit 0", "changed", "true\n"),
        ("echo whatever; exit 1", "changed", "false\n"),
        ("echo \"$CAPOMASTRO_PROBE_MARK end\"", "token", &format!("{MARK} end\n")),
    ] {
        let (_, ended) = look(script, language, "");
        assert_eq!((ended.status, ended.stdout), (Some(0), around(expected)), "{script}");
    }
}

#[test]
fn a_script_that_fails_answers_nothing() {
    for (script, language) in [
        ("echo r1; exit 1", "token"),
        ("exit 2", "changed"),
        ("exit 70", "changed"),
        ("yes | head -c 5000", "token"),
    ] {
        let (_, ended) = look(script, language, "");
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(70), ""), "{script}");
    }
}

#[test]
fn a_run_ends_itself_when_its_time_has_passed() {
    let (_, ended) = look("sleep 1000; echo r1", "token", "1");
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(143), ""));
    assert!(ended.stderr.contains("time limit of 1 s"), "{ended:?}");
    // And one that does not need its time does not keep Jenkins waiting for it.
    let (_, ended) = look("echo r1", "token", "900");
    assert_eq!((ended.status, ended.stdout), (Some(0), around("r1\n")));
    let (_, ended) = look("echo r1", "token", "1; touch pwned");
    assert_eq!(ended.status, Some(70));
}

#[test]
fn without_a_mark_there_is_no_answer() {
    let agent = Agent::new("echo r1");
    for mark in ["", "a b", "$(id)"] {
        let ended = agent.run(&agent.template().for_probes(), &parameters([("CAPOMASTRO_PROBE_MARK", mark)]));
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(70), ""), "{mark}");
    }
}
