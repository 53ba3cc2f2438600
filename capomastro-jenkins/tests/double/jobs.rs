//! Jobs from templates on a server that reads them.

use crate::{by_password, by_token, jenkins};
use capomastro_core::{ErrorKind, secret::Secret};
use capomastro_jenkins::{
    jobs::Pushed,
    template::{Endpoint, JobTemplate, Parameter},
};
use capomastro_testkit::jenkins::{Fault, JobSpec};
use std::time::Duration;

fn template() -> JobTemplate {
    JobTemplate::new("https://git.example/types.git", "lib", "build")
        .parameter(Parameter::string("OWN").default_value("žluťoučký \u{85} 日本 <&>"))
        .notifying(Endpoint::Url(Secret::new("http://127.0.0.1:9/hooks/0123456789abcdefABCDEF")))
        .quiet(Duration::from_secs(10))
}

#[tokio::test]
async fn a_pushed_job_declares_what_the_template_says_and_its_defaults_come_through() {
    let jenkins = jenkins().await;
    jenkins.hold_queue(true);
    jenkins.define_job(JobSpec::folder("team a"));
    for (server, name) in [(by_token(&jenkins), "team a/lib é"), (by_password(&jenkins), "lib")] {
        let jobs = server.jobs();
        assert!(!jobs.exists(name).await.unwrap());
        assert_eq!(jobs.push(name, &template()).await.unwrap(), Pushed::Created);
        assert_eq!(
            jobs.push(name, &template()).await.unwrap(),
            Pushed::Unchanged,
            "as the server gives it back"
        );
        let item = jenkins.trigger(name, &[], "somebody").unwrap();
        let queued = jenkins.queue().into_iter().find(|i| i.id == item).unwrap();
        let own = queued.parameters.iter().find(|(n, _)| n == "OWN").unwrap();
        assert_eq!(own.1, "žluťoučký \u{85} 日本 <&>");
        assert!(queued.parameters.iter().any(|(n, v)| n == "CAPOMASTRO_SCRIPT" && v == "build"));
        let Pushed::Updated(_) =
            jobs.push(name, &template().parameter(Parameter::boolean("MORE"))).await.unwrap()
        else {
            panic!("one more parameter is a change")
        };
        jobs.disable(name).await.unwrap();
        jobs.enable(name).await.unwrap();
        assert!(jobs.delete(name).await.unwrap());
        assert!(!jobs.delete(name).await.unwrap() && !jobs.exists(name).await.unwrap());
    }
}

#[tokio::test]
async fn names_that_are_taken_or_none_are_refused() {
    let jenkins = jenkins().await;
    jenkins.define_job(JobSpec::freestyle("lib"));
    let jobs = by_token(&jenkins).jobs();
    assert_eq!(jobs.push("LIB", &template()).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
    assert_eq!(jobs.push("nowhere/lib", &template()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_push_is_repeated_until_it_is_known() {
    let jenkins = jenkins().await;
    let jobs = by_token(&jenkins).jobs();
    jenkins.fault(Fault::reset().after_effect().on("POST", "/ctx/createItem").times(1));
    let error = jobs.push("lib", &template()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    assert_eq!(jobs.push("lib", &template()).await.unwrap(), Pushed::Unchanged);
}
