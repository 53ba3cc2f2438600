//! What outlives the process.

use crate::{
    ID,
    client::{get, json, post, post_as, try_post, try_send},
    manual, started,
};
use capomastro_testkit::jenkins::{JobSpec, Script, StartPhase, Startup};
use std::{collections::BTreeSet, time::Duration};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn job(name: &str) -> JobSpec {
    JobSpec::freestyle(name).string(ID).runs(Script::held())
}

#[tokio::test(flavor = "multi_thread")]
async fn row_08_and_33_a_start_has_phases_in_which_nothing_has_an_effect() {
    let (builder, clock) = manual();
    let jenkins = builder.startup(Startup::as_seen()).start().await.unwrap();
    jenkins.define_job(job("a"));
    let session = jenkins.session();
    jenkins.restart();
    let (mut seen, mut silent) = (BTreeSet::new(), 0);
    for _ in 0..150 {
        clock.advance(SECOND / 10);
        if jenkins.start_phase() == Some(StartPhase::Silent) {
            // What is asked now is answered when the phase is over.
            let asking = jenkins.clone();
            let asked = std::thread::spawn(move || get(&asking, "/api/json").status);
            clock.until_sleeping(1).await;
            clock.advance(3 * SECOND);
            assert_eq!(asked.join().unwrap(), 503);
        }
        match try_post(&jenkins, "/job/a/buildWithParameters", "CAPOMASTRO_BUILD_ID=1&delay=900sec") {
            None => silent += 1,
            Some(reply) => {
                if matches!(reply.status, 201 | 303) {
                    break;
                }
                let known = reply.header("X-Jenkins").is_some();
                if known {
                    assert_eq!(reply.header("X-Jenkins-Session"), Some(session.clone()));
                }
                seen.insert((reply.status, known));
            }
        }
    }
    let expected = [(401, false), (403, false), (500, false), (500, true), (503, false)];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    assert_ne!(jenkins.session(), session);
    assert!(silent > 0, "for some time nobody is there");
    assert_eq!(jenkins.accepted().len(), 1, "only what was answered with 201 had an effect");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_21_and_42_sigterm_keeps_the_queue_and_loses_what_runs() {
    let (jenkins, clock) = started().await;
    jenkins.define_job(job("a").concurrent(false));
    assert_eq!(jenkins.trigger("a", &[(ID, "running")], "x"), Some(1));
    assert_eq!(jenkins.trigger("a", &[(ID, "blocked")], "x"), Some(2));
    assert_eq!(
        post(&jenkins, "/job/a/buildWithParameters", "CAPOMASTRO_BUILD_ID=waits&delay=60sec").item(),
        3
    );
    let due =
        |id: u64| json(&jenkins, &format!("/queue/item/{id}/api/json?tree=timestamp"))["timestamp"].clone();
    let before = due(3);
    let session = jenkins.session();
    jenkins.restart();
    assert_ne!(jenkins.session(), session);
    assert_eq!(due(3), before);
    assert_eq!(get(&jenkins, "/queue/item/1/api/json").status, 404);
    assert_eq!(
        (get(&jenkins, "/job/a/1/api/json").status, get(&jenkins, "/job/a/1/consoleText").status),
        (404, 404)
    );
    let builds = json(&jenkins, "/job/a/api/json?tree=nextBuildNumber,builds[number,queueId]");
    assert_eq!((&builds["nextBuildNumber"], &builds["builds"][0]["queueId"]), (&3.into(), &2.into()));
    assert_eq!(
        post(&jenkins, "/job/a/buildWithParameters", "CAPOMASTRO_BUILD_ID=next").item(),
        4,
        "ids go on"
    );
    clock.advance(10 * MINUTE);
    assert_eq!(jenkins.started_with(ID, "running").len(), 1, "it is not run again");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_22_a_crash_drops_repeats_and_reissues() {
    let (jenkins, clock) = started().await;
    for name in ["a", "b", "gone"] {
        jenkins.define_job(job(name));
    }
    assert_eq!(jenkins.trigger("a", &[(ID, "old")], "x"), Some(1));
    assert_eq!(
        post(&jenkins, "/job/a/buildWithParameters", "CAPOMASTRO_BUILD_ID=saved&delay=70sec").item(),
        2
    );
    assert_eq!(
        post(&jenkins, "/job/gone/buildWithParameters", "CAPOMASTRO_BUILD_ID=gone&delay=900sec").item(),
        3
    );
    clock.advance(MINUTE);
    clock.advance(15 * SECOND);
    assert_eq!(jenkins.started_with(ID, "saved").len(), 1, "started after the last save");
    jenkins.delete_job("gone");
    assert_eq!(
        post(&jenkins, "/job/a/buildWithParameters", "CAPOMASTRO_BUILD_ID=young&delay=900sec").item(),
        4
    );
    jenkins.crash();
    for dropped in [1, 3, 4] {
        assert_eq!(get(&jenkins, &format!("/queue/item/{dropped}/api/json")).status, 404, "{dropped}");
    }
    let twins = jenkins.started_with(ID, "saved");
    assert_eq!(twins.iter().map(|t| (t.number, t.queue_id)).collect::<Vec<_>>(), [(2, 2), (3, 2)]);
    let job = json(&jenkins, "/job/a/api/json?tree=nextBuildNumber,builds[number]");
    assert_eq!(
        (&job["nextBuildNumber"], job["builds"].as_array().unwrap().len()),
        (&4.into(), 1),
        "holes stay"
    );
    assert_eq!(
        post(&jenkins, "/job/b/buildWithParameters", "CAPOMASTRO_BUILD_ID=new").item(),
        4,
        "issued again"
    );
    jenkins.crash();
    assert!(jenkins.queue().is_empty(), "nothing was saved since");
    assert_eq!(post(&jenkins, "/job/b/buildWithParameters", "CAPOMASTRO_BUILD_ID=newer").item(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_34_a_safe_restart_waits_for_builds_and_accepts_until_it_goes() {
    let (builder, clock) = manual();
    let jenkins = builder.safe_restart_startup(Startup::as_seen_after_safe_restart()).start().await.unwrap();
    jenkins.define_job(job("a"));
    assert!(jenkins.trigger("a", &[(ID, "1")], "x").is_some());
    assert_eq!(post(&jenkins, "/safeRestart", "").status, 302);
    assert_eq!(json(&jenkins, "/api/json?tree=quietingDown")["quietingDown"], true);
    assert_eq!(post(&jenkins, "/job/a/buildWithParameters", "CAPOMASTRO_BUILD_ID=2&delay=0sec").status, 201);
    assert!(jenkins.finish("a", 1, "SUCCESS"));
    let reply = post(&jenkins, "/job/a/buildWithParameters", "CAPOMASTRO_BUILD_ID=3");
    assert_eq!((reply.status, reply.header("X-Jenkins")), (503, None));
    assert!(reply.text().contains("Restarting Jenkins"));
    clock.advance(10 * SECOND);
    assert_eq!(get(&jenkins, "/api/json").status, 500);
    clock.advance(SECOND);
    assert!(try_send(&jenkins, "GET", "/api/json", &[], b"").is_none());
    clock.advance(MINUTE);
    assert_eq!(json(&jenkins, "/api/json?tree=quietingDown")["quietingDown"], false);
    assert_eq!(
        jenkins.builds("a").iter().map(|b| b.result.clone()).collect::<Vec<_>>(),
        [Some("SUCCESS".into()), None]
    );
    assert!(jenkins.started_with(ID, "3").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_35_a_record_saved_early_is_found_aborted() {
    for crash in [true, false] {
        let (jenkins, _) = started().await;
        jenkins.define_job(job("a"));
        assert_eq!(jenkins.trigger("a", &[(ID, "1")], "x"), Some(1));
        assert_eq!(post_as(&jenkins, "trigger", "/job/a/1/submitDescription", "description=no").status, 403);
        let saved = post(&jenkins, "/job/a/1/submitDescription", "description=tag");
        assert_eq!((saved.status, saved.header("Location").as_deref()), (302, Some("/job/a/1/")));
        if crash {
            jenkins.crash()
        } else {
            jenkins.restart()
        }
        let build = json(&jenkins, "/job/a/1/api/json");
        assert_eq!(
            (&build["result"], &build["duration"], &build["queueId"]),
            (&"ABORTED".into(), &0.into(), &1.into())
        );
        assert_eq!((&build["description"], &build["building"]), (&"tag".into(), &false.into()));
        assert!(!build.to_string().contains("InterruptedBuildAction"));
        assert!(!get(&jenkins, "/job/a/1/consoleText").text().contains("Finished:"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_43_a_reload_changes_nothing_but_a_moment() {
    let (builder, clock) = manual();
    let startup = Startup::instant().then(SECOND, StartPhase::Starting);
    let jenkins = builder.reload_startup(startup).start().await.unwrap();
    jenkins.define_job(job("a"));
    assert_eq!(jenkins.trigger("a", &[(ID, "1")], "x"), Some(1));
    assert_eq!(post(&jenkins, "/job/a/buildWithParameters", "CAPOMASTRO_BUILD_ID=2&delay=900sec").item(), 2);
    let session = jenkins.session();
    assert_eq!(post(&jenkins, "/reload", "").status, 302);
    assert_eq!(get(&jenkins, "/api/json").status, 503);
    clock.advance(SECOND);
    assert_eq!(jenkins.session(), session);
    assert_eq!(json(&jenkins, "/queue/item/1/api/json?tree=executable[number]")["executable"]["number"], 1);
    assert_eq!(json(&jenkins, "/queue/item/2/api/json?tree=id")["id"], 2);
    assert_eq!(json(&jenkins, "/job/a/1/api/json?tree=building")["building"], true);
}
