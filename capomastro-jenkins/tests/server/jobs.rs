//! Jobs made, brought up to date, switched and deleted.

use crate::mini::{Answer, Got, Mini, answer, json, page};
use capomastro_core::ErrorKind;
use capomastro_jenkins::{
    jobs::Pushed,
    template::{JobTemplate, Parameter},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// Makes a bad answer.
type Bad = Box<dyn Fn() -> Answer + Send + Sync>;

type Store = Arc<Mutex<BTreeMap<String, (String, bool)>>>;

fn template() -> JobTemplate {
    JobTemplate::new("https://git.example/types.git", "lib", "build")
        .parameter(Parameter::string("OWN").default_value("žluťoučký \u{85} 日本"))
}

fn path_of(got: &Got) -> (String, String) {
    let path = got.target.split('?').next().unwrap();
    let (job, what) = path.rsplit_once('/').unwrap();
    (job.trim_end_matches("/api").to_owned(), what.to_owned())
}

/// As the server that was recorded does it, with jobs by their path.
fn as_recorded(store: &Store, got: &Got) -> Answer {
    let mut jobs = store.lock().unwrap();
    let (job, what) = path_of(got);
    let is_there = jobs.contains_key(&job);
    match (got.method.as_str(), what.as_str()) {
        ("POST", "createItem") => {
            let name = got.target.split_once("?name=").unwrap().1;
            let path = format!("{job}/job/{name}");
            if jobs.contains_key(&path) {
                // As a French server says it, in bytes of Latin-1.
                return answer(
                    400,
                    &[("X-Error", b"Un job existe d\xe9j\xe0  p1 "), ("X-Jenkins", b"2")],
                    "<html>",
                );
            }
            if !got.content_type.contains("xml") {
                return page(400);
            }
            jobs.insert(path, (got.text(), true));
            answer(200, &[], "")
        }
        ("POST", "config.xml") if is_there => {
            if got.content_type != "application/xml; charset=utf-8" {
                return page(500);
            }
            jobs.insert(job, (got.text(), true));
            answer(200, &[], "")
        }
        ("GET", "config.xml") if is_there => {
            answer(200, &[("Content-Type", b"application/xml")], jobs[&job].0.clone())
        }
        ("GET", "json") if is_there => json(&json!({"name": "x", "buildable": jobs[&job].1})),
        ("POST", "enable" | "disable") if is_there => {
            jobs.get_mut(&job).unwrap().1 = what == "enable";
            answer(302, &[("Location", job.as_bytes())], "")
        }
        ("POST", "doDelete") if is_there => {
            jobs.remove(&job);
            answer(302, &[("Location", b"/")], "")
        }
        _ => page(404),
    }
}

async fn recorded() -> (Mini, Store) {
    let store = Store::default();
    let of_server = Arc::clone(&store);
    let mini = Mini::serve(move |got| {
        let answer = as_recorded(&of_server, &got);
        async move { answer }
    })
    .await;
    (mini, store)
}

#[tokio::test]
async fn a_job_is_made_brought_up_to_date_and_left_alone() {
    let (mini, store) = recorded().await;
    let jobs = mini.server().jobs();
    for (name, path) in [("lib", "/job/lib"), ("team a/lib é", "/job/team%20a/job/lib%20%C3%A9")] {
        assert!(!jobs.exists(name).await.unwrap());
        assert_eq!(jobs.push(name, &template()).await.unwrap(), Pushed::Created);
        assert!(jobs.exists(name).await.unwrap());
        let made = store.lock().unwrap()[path].0.clone();
        assert_eq!(made, template().config_xml().unwrap());
        assert_eq!(jobs.push(name, &template()).await.unwrap(), Pushed::Unchanged);
        let edited = made.replace("<actions/>", "<actions/>\n  <!-- žluť &#x85; -->");
        store.lock().unwrap().insert(path.into(), (edited.clone(), true));
        assert_eq!(jobs.push(name, &template()).await.unwrap(), Pushed::Unchanged);
        let Pushed::Updated(changes) = jobs.push(name, &template().described("new")).await.unwrap() else {
            panic!("a description is a change")
        };
        assert_eq!(changes.len(), 1);
        let now = store.lock().unwrap()[path].0.clone();
        assert!(now.contains("<!-- žluť &#x85; -->") && now.contains("<description>new</description>"));
        assert_eq!(
            now.replace("\n  <description>new</description>", ""),
            edited,
            "everything else is as it was"
        );
    }
}

#[tokio::test]
async fn a_job_is_switched_and_deleted() {
    let (mini, store) = recorded().await;
    let jobs = mini.server().jobs();
    jobs.push("lib", &template()).await.unwrap();
    for _ in 0..2 {
        jobs.disable("lib").await.unwrap();
        assert!(!store.lock().unwrap()["/job/lib"].1);
    }
    for _ in 0..2 {
        jobs.enable("lib").await.unwrap();
        assert!(store.lock().unwrap()["/job/lib"].1);
    }
    assert!(jobs.delete("lib").await.unwrap());
    assert!(!jobs.delete("lib").await.unwrap());
    for error in [jobs.enable("lib").await.unwrap_err(), jobs.disable("lib").await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_job_that_somebody_makes_meanwhile_is_brought_up_to_date() {
    let store = Store::default();
    let of_server = Arc::clone(&store);
    let mini = Mini::serve(move |got| {
        if got.what() == "POST /createItem" {
            let theirs = "<project>\n  <theirs/>\n</project>\n".to_owned();
            of_server.lock().unwrap().entry("/job/lib".into()).or_insert((theirs, true));
        }
        let answer = as_recorded(&of_server, &got);
        async move { answer }
    })
    .await;
    let Pushed::Updated(changes) = mini.server().jobs().push("lib", &template()).await.unwrap() else {
        panic!("it was there by then")
    };
    assert!(!changes.is_empty());
    assert!(store.lock().unwrap()["/job/lib"].0.contains("<theirs/>"));
    let expected = ["GET", "POST", "GET", "POST"];
    let methods: Vec<_> = mini.got().into_iter().map(|g| g.method).collect();
    assert_eq!(methods, expected, "{:?}", mini.whats());
}

#[tokio::test]
async fn a_job_that_somebody_deletes_meanwhile_is_made_anew() {
    let store = Store::default();
    store.lock().unwrap().insert("/job/lib".into(), ("<project/>".into(), true));
    let of_server = Arc::clone(&store);
    let mini = Mini::serve(move |got| {
        if got.what() == "POST /job/lib/config.xml" {
            of_server.lock().unwrap().clear();
        }
        let answer = as_recorded(&of_server, &got);
        async move { answer }
    })
    .await;
    assert_eq!(mini.server().jobs().push("lib", &template()).await.unwrap(), Pushed::Created);
}

#[tokio::test]
async fn a_name_that_the_server_refuses_is_told_with_its_words() {
    let (mini, store) = recorded().await;
    // Taken, and not to be seen by this user under this spelling.
    store.lock().unwrap().insert("/job/LIB".into(), (String::new(), true));
    let hidden = Mini::serve(|got| {
        let is_create = got.what() == "POST /createItem";
        async move {
            if is_create {
                answer(400, &[("X-Error", b"existe d\xe9j\xe0\x9b"), ("X-Jenkins", b"2")], "<html>")
            } else {
                page(404)
            }
        }
    })
    .await;
    let error = hidden.server().jobs().push("lib", &template()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let text = error.report();
    assert!(text.contains("existe déjà,") && text.contains("job=lib"), "{text}");
    assert_eq!(hidden.whats().len(), 3, "it is not tried for ever");
    for bad in ["", "a?b", "a//b", "..", "a.", "a%b", "a\u{1}b"] {
        assert_eq!(
            mini.server().jobs().push(bad, &template()).await.unwrap_err().kind(),
            ErrorKind::InvalidConfig,
            "{bad}"
        );
    }
    assert!(mini.got().is_empty(), "nothing was asked for names that are none");
}

#[tokio::test]
async fn each_bad_answer_is_an_error_of_its_kind_without_secrets() {
    let permission: [(&str, &[u8]); 2] =
        [("X-Jenkins", b"2"), ("X-Required-Permission", b"hudson.model.Item.Configure")];
    let login: [(&str, &[u8]); 1] = [("Content-Type", b"text/html")];
    let unauthorized: [(&str, &[u8]); 1] = [("WWW-Authenticate", b"Basic realm=\"Jenkins\"")];
    let cases: Vec<(&str, Bad, ErrorKind)> = vec![
        ("no permission", Box::new(move || answer(403, &permission, "")), ErrorKind::PermissionDenied),
        ("no credentials", Box::new(move || answer(401, &unauthorized, "{}")), ErrorKind::PermissionDenied),
        (
            "a page to log in",
            Box::new(move || answer(200, &login, "<html>log in</html>")),
            ErrorKind::InvalidConfig,
        ),
        (
            "a redirect",
            Box::new(|| answer(301, &[("Location", b"https://h/x?token=hunter2hunter2")], "")),
            ErrorKind::InvalidConfig,
        ),
        (
            "no XML",
            Box::new(|| answer(200, &[("Content-Type", b"application/xml")], "<project>")),
            ErrorKind::Corrupt,
        ),
        ("another kind", Box::new(|| answer(200, &[], "<matrix-project/>")), ErrorKind::InvalidConfig),
        ("500", Box::new(|| page(500)), ErrorKind::Unavailable),
        ("502", Box::new(|| answer(502, &[], "")), ErrorKind::Unavailable),
        ("huge", Box::new(|| answer(200, &[], vec![b'x'; 9 * 1024 * 1024])), ErrorKind::Corrupt),
    ];
    for (case, bad, kind) in cases {
        let bad = Arc::new(bad);
        let mini = Mini::serve(move |_| {
            let answer = bad();
            async move { answer }
        })
        .await;
        let error = mini.server().jobs().push("team/lib", &template()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{case}: {error:?}");
        let text = error.report();
        assert!(text.contains("job=team/lib") && text.contains("127.0.0.1"), "{case}: {text}");
        assert!(!text.contains("hunter2"), "{case}: {text}");
    }
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_may_be_repeated() {
    let (mini, store) = {
        let store = Store::default();
        let of_server = Arc::clone(&store);
        let mini = Mini::serve(move |got| {
            let answer = as_recorded(&of_server, &got);
            let is_create = got.what() == "POST /createItem";
            async move {
                if is_create {
                    // It took effect, and says more than it sends.
                    let body = futures_util::stream::iter([Err::<Vec<u8>, _>(std::io::Error::other("cut"))]);
                    return super::mini::answer(200, &[], axum::body::Body::from_stream(body));
                }
                answer
            }
        })
        .await;
        (mini, store)
    };
    let jobs = mini.server().jobs();
    let error = jobs.push("lib", &template()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    assert!(store.lock().unwrap().contains_key("/job/lib"));
    assert_eq!(jobs.push("lib", &template()).await.unwrap(), Pushed::Unchanged);
}

#[tokio::test]
async fn a_switch_that_changes_nothing_is_told() {
    let mini = Mini::serve(|got| async move {
        match got.method.as_str() {
            "POST" => answer(302, &[("Location", b"https://sso.example/login")], ""),
            _ => json(&json!({"buildable": false})),
        }
    })
    .await;
    let jobs = mini.server().jobs();
    assert_eq!(jobs.enable("lib").await.unwrap_err().kind(), ErrorKind::InvalidConfig);
    assert_eq!(jobs.delete("lib").await.unwrap_err().kind(), ErrorKind::Unavailable);
    jobs.disable("lib").await.unwrap();
}
