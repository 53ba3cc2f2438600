//! Messages in the forms that forges send, signed and not.

use super::{Forge, Headers, Received, Webhooks, payload::Said, place::Changed};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use capomastro_core::{
    secret::Secret,
    time::{Clock as _, SystemClock},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::BTreeMap;

const SECRET: &str = "correct horse battery staple";
const OLD_SECRET: &str = "the secret before this one";
/// `whsec_` and 32 bytes.
const SIGNING_TOKEN: &str = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";

type Sent = BTreeMap<String, String>;

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn sent(of: &[(&str, &str)]) -> Sent {
    let mut sent: Sent = of.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    sent.entry("content-type".into()).or_insert_with(|| "application/json".into());
    sent
}

/// The headers with the signature of a forge.
fn signed(forge: Forge, key: &str, mut headers: Sent, body: &[u8]) -> Sent {
    let plain = hex(&mac(key.as_bytes(), &[body]));
    let mut add = |name: &str, value: String| drop(headers.insert(name.into(), value));
    match forge {
        Forge::GitHub => add("x-hub-signature-256", format!("sha256={plain}")),
        Forge::Gitea => add("x-gitea-signature", plain),
        Forge::Bitbucket => add("x-hub-signature", format!("sha256={plain}")),
        Forge::GitLab => add("x-gitlab-token", key.into()),
        Forge::Generic => {
            let time = SystemClock.now().timestamp().to_string();
            let signature = hex(&mac(key.as_bytes(), &[time.as_bytes(), b".", body]));
            add("x-capomastro-timestamp", time);
            add("x-capomastro-signature", format!("sha256={signature}"));
        }
    }
    headers
}

fn standard(key: &str, id: &str, time: i64, body: &[u8]) -> Sent {
    let time = time.to_string();
    let key = BASE64_STANDARD.decode(key.trim_start_matches("whsec_")).unwrap();
    let signature = mac(&key, &[id.as_bytes(), b".", time.as_bytes(), b".", body]);
    let signature = format!("v1,AAAA v1,{}", BASE64_STANDARD.encode(signature));
    sent(&[("webhook-id", id), ("webhook-timestamp", &time), ("webhook-signature", &signature)])
}

fn hooks() -> Webhooks {
    let mut builder = Webhooks::builder();
    for forge in [Forge::GitHub, Forge::GitLab, Forge::Gitea, Forge::Bitbucket, Forge::Generic] {
        let mut secrets = vec![Secret::new(OLD_SECRET), Secret::new(SECRET)];
        if forge == Forge::GitLab {
            secrets.push(Secret::new(SIGNING_TOKEN));
        }
        builder = builder.endpoint(forge, secrets);
    }
    builder.build().unwrap()
}

fn receive(hooks: &Webhooks, forge: Forge, headers: &Sent, body: &[u8]) -> Received {
    hooks.receive(forge.segment(), Headers::new(headers), body)
}

fn read(forge: Forge, headers: &Sent, message: &Value) -> capomastro_core::Result<Said> {
    super::payload::read(forge, Headers::new(headers), message.to_string().as_bytes())
}

fn github_push() -> Value {
    json!({
        "ref": "refs/heads/main", "before": "95790bf891e76fee5e1747ab589903a6a1f80f22",
        "after": "da1560886d4f094c3e6c9ef40349f7d38b5d27d7", "created": false, "deleted": false, "forced": true,
        "compare": "https://github.com/octo/Hello/compare/95790bf891e7...da1560886d4f", "commits": [],
        "repository": {
            "id": 186_853_002, "name": "Hello", "full_name": "octo/Hello", "private": false,
            "html_url": "https://github.com/octo/Hello", "url": "https://github.com/octo/Hello",
            "git_url": "git://github.com/octo/Hello.git", "ssh_url": "git@github.com:octo/Hello.git",
            "clone_url": "https://github.com/octo/Hello.git", "svn_url": "https://github.com/octo/Hello",
            "default_branch": "main",
        },
        "pusher": {"name": "octo"}, "sender": {"login": "octo"},
    })
}

fn gitlab_push() -> Value {
    json!({
        "object_kind": "push", "event_name": "push", "before": "95790bf8", "after": "da156088", "ref": "refs/heads/main",
        "project": {
            "id": 15, "name": "Diaspora", "web_url": "https://gitlab.example.org/mike/diaspora",
            "git_ssh_url": "git@gitlab.example.org:mike/diaspora.git",
            "git_http_url": "https://gitlab.example.org/mike/diaspora.git", "default_branch": "main",
            "path_with_namespace": "mike/diaspora",
        },
        "repository": {"name": "Diaspora", "url": "git@gitlab.example.org:mike/diaspora.git"},
        "commits": [], "total_commits_count": 0,
    })
}

fn gitea_push() -> Value {
    json!({
        "ref": "refs/heads/develop", "before": "28e1879d", "after": "bffeb742", "commits": [],
        "repository": {
            "id": 140, "full_name": "team/webhooks", "html_url": "http://gitea.example.org:3000/team/webhooks",
            "ssh_url": "ssh://git@gitea.example.org:2222/team/webhooks.git",
            "clone_url": "http://gitea.example.org:3000/team/webhooks.git", "default_branch": "main",
        },
    })
}

fn cloud_push() -> Value {
    let branch = |name: &str| json!({"type": "branch", "name": name, "target": {"hash": "709d658d"}});
    json!({
        "repository": {
            "type": "repository", "full_name": "team/repo", "mainbranch": {"name": "main"},
            "links": {"html": {"href": "https://bitbucket.org/team/repo"}},
        },
        "push": {"changes": [
            {"new": branch("main"), "old": branch("main"), "created": false, "closed": false, "forced": false},
            {"new": null, "old": branch("gone"), "closed": true},
            {"new": {"type": "tag", "name": "v1"}, "old": null, "created": true},
        ]},
    })
}

fn server_push() -> Value {
    json!({
        "eventKey": "repo:refs_changed", "date": "2026-01-13T22:26:25+1100",
        "repository": {
            "slug": "repository", "id": 84, "project": {"key": "PROJ"},
            "links": {
                "clone": [
                    {"href": "ssh://git@bb.example.org:7999/proj/repository.git", "name": "ssh"},
                    {"href": "https://bb.example.org/scm/proj/repository.git", "name": "http"},
                ],
                "self": [{"href": "https://bb.example.org/projects/PROJ/repos/repository/browse"}],
            },
        },
        "changes": [{
            "ref": {"id": "refs/heads/master", "displayId": "master", "type": "BRANCH"},
            "refId": "refs/heads/master", "fromHash": "ecddabb6", "toHash": "178864a7", "type": "UPDATE",
        }],
    })
}

fn with(mut message: Value, path: &str, value: Value) -> Value {
    *message.pointer_mut(path).unwrap() = value;
    message
}

#[test]
fn each_forge_says_what_changed_in_its_own_way() {
    let event = |name: &'static str, value: &'static str| sent(&[(name, value)]);
    let hub = |value| event("x-github-event", value);
    let short = |kind: &str, name: &str| {
        let mut message = with(github_push(), "/ref", json!(name));
        message["ref_type"] = json!(kind);
        message
    };
    let mut bare = server_push();
    bare["repository"]["links"].as_object_mut().unwrap().remove("clone");
    for (forge, headers, message, place, refs) in [
        (
            Forge::GitHub,
            hub("push"),
            github_push(),
            "github.com/octo/hello",
            &["HEAD", "refs/heads/main"][..],
        ),
        (
            Forge::GitHub,
            hub("push"),
            with(github_push(), "/ref", json!("refs/tags/v1")),
            "github.com/octo/hello",
            &["refs/tags/v1"],
        ),
        (
            Forge::GitHub,
            hub("delete"),
            short("branch", "side"),
            "github.com/octo/hello",
            &["refs/heads/side"],
        ),
        (Forge::GitHub, hub("create"), short("tag", "v2"), "github.com/octo/hello", &["refs/tags/v2"]),
        (Forge::GitHub, hub("pull_request"), github_push(), "github.com/octo/hello", &["refs/other"]),
        (
            Forge::Gitea,
            event("x-gitea-event", "push"),
            gitea_push(),
            "gitea.example.org/team/webhooks",
            &["refs/heads/develop"],
        ),
        (
            Forge::Gitea,
            event("x-forgejo-event", "push"),
            gitea_push(),
            "gitea.example.org/team/webhooks",
            &["refs/heads/develop"],
        ),
        (
            Forge::GitLab,
            sent(&[]),
            gitlab_push(),
            "gitlab.example.org/mike/diaspora",
            &["HEAD", "refs/heads/main"],
        ),
        (
            Forge::GitLab,
            sent(&[]),
            with(with(gitlab_push(), "/object_kind", json!("tag_push")), "/ref", json!("refs/tags/v1")),
            "gitlab.example.org/mike/diaspora",
            &["refs/tags/v1"],
        ),
        (
            Forge::Bitbucket,
            event("x-event-key", "repo:push"),
            cloud_push(),
            "bitbucket.org/team/repo",
            &["HEAD", "refs/heads/gone", "refs/heads/main", "refs/tags/v1"],
        ),
        (
            Forge::Bitbucket,
            event("x-event-key", "repo:refs_changed"),
            server_push(),
            "bb.example.org/proj/repository",
            &["HEAD", "refs/heads/master"],
        ),
        (
            Forge::Bitbucket,
            event("x-event-key", "repo:refs_changed"),
            bare,
            "bb.example.org/proj/repository",
            &["HEAD", "refs/heads/master"],
        ),
        (
            Forge::Generic,
            sent(&[]),
            json!({"source": "svn+ssh://svn.example.org/lib", "ref": "refs/heads/x"}),
            "svn.example.org/lib",
            &["HEAD", "refs/heads/x"],
        ),
    ] {
        let Said::Changed { places, changed } = read(forge, &headers, &message).unwrap() else {
            panic!("{forge:?} {message}")
        };
        let places: Vec<&str> = places.iter().map(super::Place::as_str).collect();
        assert_eq!(places, [place], "{forge:?}");
        let refs = refs.iter().map(|r| (*r).to_owned()).collect();
        assert_eq!(changed, Changed::Refs(refs), "{forge:?} {message}");
    }
}

#[test]
fn what_changes_nothing_is_no_reason_to_look() {
    for (forge, headers, message, said) in [
        (Forge::GitHub, sent(&[("x-github-event", "ping")]), json!({"zen": "z", "hook_id": 1}), Said::Ping),
        (Forge::GitHub, sent(&[("x-github-event", "star")]), github_push(), Said::Other),
        (Forge::GitLab, sent(&[]), json!({"object_kind": "note"}), Said::Other),
        (Forge::Bitbucket, sent(&[("x-event-key", "diagnostics:ping")]), json!({"test": true}), Said::Ping),
        (Forge::Bitbucket, sent(&[("x-event-key", "pr:opened")]), json!({}), Said::Other),
        (Forge::Generic, sent(&[]), json!({"ping": true}), Said::Ping),
    ] {
        assert_eq!(read(forge, &headers, &message).unwrap(), said, "{forge:?} {message}");
    }
}

#[test]
fn what_is_no_message_of_the_forge_is_corrupt() {
    let push = sent(&[("x-github-event", "push")]);
    for message in [json!(null), json!([]), json!({}), json!({"ref": "refs/heads/main"}), json!({"ref": 5})] {
        assert!(read(Forge::GitHub, &push, &message).is_err(), "{message}");
    }
    for message in [json!({}), json!({"source": "x"}), json!({"source": "https://h/a", "ref": "main"})] {
        assert!(read(Forge::Generic, &sent(&[]), &message).is_err(), "{message}");
    }
}

#[test]
fn only_what_is_signed_is_taken_in() {
    for (forge, event, message) in [
        (Forge::GitHub, ("x-github-event", "push"), github_push()),
        (Forge::GitLab, ("x-gitlab-event", "Push Hook"), gitlab_push()),
        (Forge::Gitea, ("x-gitea-event", "push"), gitea_push()),
        (Forge::Bitbucket, ("x-event-key", "repo:push"), cloud_push()),
        (Forge::Generic, ("x", "x"), json!({"source": "https://h/a"})),
    ] {
        let body = message.to_string().into_bytes();
        let of = |key: &str| signed(forge, key, sent(&[event]), &body);
        // Both secrets are good while one replaces the other.
        assert_eq!(receive(&hooks(), forge, &of(SECRET), &body), Received::Noted, "{forge:?}");
        assert_eq!(receive(&hooks(), forge, &of(OLD_SECRET), &body), Received::Noted, "{forge:?}");
        let hooks = hooks();
        let other = "some other secret, also long";
        assert_eq!(receive(&hooks, forge, &of(other), &body), Received::NotSigned, "{forge:?}");
        assert_eq!(receive(&hooks, forge, &sent(&[event]), &body), Received::NotSigned, "{forge:?}");
        if forge != Forge::GitLab {
            let mut changed = body.clone();
            *changed.last_mut().unwrap() = b' ';
            assert_eq!(receive(&hooks, forge, &of(SECRET), &changed), Received::NotSigned, "{forge:?}");
            let cut = &body[..body.len() - 1];
            assert_eq!(receive(&hooks, forge, &of(SECRET), cut), Received::NotSigned, "{forge:?}");
        }
        // Signed, and nonsense.
        let nonsense = b"{\"ref\":";
        let headers = signed(forge, SECRET, sent(&[event]), nonsense);
        assert_eq!(receive(&hooks, forge, &headers, nonsense), Received::Unreadable, "{forge:?}");
        let headers = signed(forge, SECRET, sent(&[event, ("content-type", "text/plain")]), &body);
        assert_eq!(receive(&hooks, forge, &headers, &body), Received::NotJson, "{forge:?}");
        // Said twice.
        let headers = of(SECRET);
        assert_eq!(receive(&hooks, forge, &headers, &body), Received::Noted, "{forge:?}");
        assert_eq!(receive(&hooks, forge, &headers, &body), Received::Repeated, "{forge:?}");
    }
}

#[test]
fn malformed_signatures_are_no_signatures() {
    let body = github_push().to_string().into_bytes();
    let good = hex(&mac(SECRET.as_bytes(), &[&body]));
    for bad in [
        "",
        "sha256=",
        "sha1=da39a3ee",
        &good,
        &format!("sha256={}", &good[..62]),
        &format!("sha256={good}00"),
        &format!("sha256={}", "zz".repeat(32)),
        &format!("sha256={}", "ä".repeat(32)),
    ] {
        let headers = sent(&[("x-hub-signature-256", bad), ("x-github-event", "push")]);
        assert_eq!(receive(&hooks(), Forge::GitHub, &headers, &body), Received::NotSigned, "{bad}");
    }
}

#[test]
fn signing_tokens_are_those_of_the_standard_and_of_now() {
    let body = gitlab_push().to_string().into_bytes();
    let now = SystemClock.now().timestamp();
    let other = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyb3Q=";
    for (key, time, received) in [
        (SIGNING_TOKEN, now, Received::Noted),
        (SIGNING_TOKEN, now - 200, Received::Noted),
        (SIGNING_TOKEN, now - 400, Received::NotSigned),
        (SIGNING_TOKEN, now + 400, Received::NotSigned),
        (SIGNING_TOKEN, i64::MIN, Received::NotSigned),
        (other, now, Received::NotSigned),
    ] {
        let headers = standard(key, "msg_1", time, &body);
        assert_eq!(receive(&hooks(), Forge::GitLab, &headers, &body), received, "{time}");
    }
    // What signs is not good as a token in clear text.
    let headers = sent(&[("x-gitlab-token", SIGNING_TOKEN)]);
    assert_eq!(receive(&hooks(), Forge::GitLab, &headers, &body), Received::NotSigned);
}

#[test]
fn the_time_of_our_own_form_is_now_and_signed() {
    let body = br#"{"source": "https://h/a"}"#;
    let now = SystemClock.now().timestamp();
    for (time, received) in
        [(now, Received::Noted), (now - 400, Received::NotSigned), (now + 400, Received::NotSigned)]
    {
        let time = time.to_string();
        let signature = hex(&mac(SECRET.as_bytes(), &[time.as_bytes(), b".", body]));
        let signature = format!("sha256={signature}");
        let headers = sent(&[("x-capomastro-timestamp", &time), ("x-capomastro-signature", &signature)]);
        assert_eq!(receive(&hooks(), Forge::Generic, &headers, body), received);
    }
}

#[test]
fn a_form_is_read_where_forges_send_one() {
    let form = |message: &Value| {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("payload", &message.to_string());
        form.finish().into_bytes()
    };
    let kind = ("content-type", "application/x-www-form-urlencoded");
    for (forge, event, message) in [
        (Forge::GitHub, ("x-github-event", "push"), github_push()),
        (Forge::Gitea, ("x-gitea-event", "push"), gitea_push()),
    ] {
        let body = form(&message);
        let headers = signed(forge, SECRET, sent(&[event, kind]), &body);
        assert_eq!(receive(&hooks(), forge, &headers, &body), Received::Noted);
        let body = b"other=1";
        let headers = signed(forge, SECRET, sent(&[event, kind]), body);
        assert_eq!(receive(&hooks(), forge, &headers, body), Received::Unreadable);
    }
}

#[test]
fn of_a_key_that_occurs_twice_the_last_counts() {
    let body = br#"{"source":"https://h/a","source":"https://h/b","ref":null}"#;
    let headers = sent(&[]);
    let Said::Changed { places, .. } =
        super::payload::read(Forge::Generic, Headers::new(&headers), body).unwrap()
    else {
        panic!("it is a change")
    };
    assert_eq!(places.first().unwrap().as_str(), "h/b");
}

#[test]
fn nothing_grows_without_bound() {
    let hooks = hooks();
    let send = |n: usize| {
        let body = json!({"source": format!("https://h/{n}")}).to_string().into_bytes();
        let headers = signed(Forge::Generic, SECRET, sent(&[]), &body);
        receive(&hooks, Forge::Generic, &headers, &body)
    };
    for n in 0..super::WAITING {
        assert_eq!(send(n), Received::Noted);
    }
    assert_eq!(send(super::WAITING), Received::Full);
    assert_eq!(hooks.state().waiting.len(), super::WAITING);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes();
    let headers = signed(Forge::Generic, SECRET, sent(&[]), &deep);
    assert_eq!(receive(&hooks, Forge::Generic, &headers, &deep), Received::Unreadable);
}

#[test]
fn what_cannot_be_safe_is_refused_when_it_is_set_up() {
    let build = |segment: &str, secrets: &[&str]| {
        let secrets = secrets.iter().map(|s| Secret::new(*s));
        Webhooks::builder().endpoint_at(Forge::GitHub, Secret::new(segment), secrets).build()
    };
    assert!(build("a", &[SECRET]).is_ok());
    for (segment, secrets) in [
        ("a", &[][..]),
        ("a", &["short"]),
        ("a", &[""]),
        ("a", &["  padded with blanks to be long  "]),
        ("a", &["whsec_not base 64, but long"]),
        ("a", &[SECRET; 9]),
        ("", &[SECRET]),
        ("a/b", &[SECRET]),
    ] {
        let error = build(segment, secrets).unwrap_err();
        assert!(error.message().contains(": give") || error.message().contains("copy it"), "{error}");
    }
    let twice = Webhooks::builder()
        .endpoint(Forge::GitHub, [Secret::new(SECRET)])
        .endpoint(Forge::GitHub, [Secret::new(SECRET)]);
    assert!(twice.build().is_err());
    assert!(Webhooks::builder().build().is_err());
    assert!(!format!("{:?}", hooks()).contains("horse"));
}
