//! One history of a repository, seen in every way.

use super::{
    apache::Apache,
    asking::{answer, ask_for, seen},
    repo::Repo,
    runner::Remembering,
    serve, ssh,
};
use capomastro_core::{model::Relation, probe::Probed};
use capomastro_probes::svn::{SvnProbe, SvnRevision, SvnSource};

/// A URL of the repository, and a probe for it.
struct Way {
    url: String,
    probe: SvnProbe,
    tells_history: bool,
}

struct Told {
    repo: Repo,
    apache: Option<Apache>,
    ways: Vec<Way>,
}

impl Told {
    fn new() -> Option<Self> {
        let repo = Repo::empty()?;
        let apache = Apache::serve(&repo);
        let port = serve::svnserve(repo.root.path().to_owned());
        let ssh = ssh::stand_in(repo.root.path());
        let mut urls = vec![
            (repo.url(), true),
            (format!("svn://127.0.0.1:{port}/r"), true),
            (format!("svn+ssh://me@host.invalid{}", repo.url()), true),
        ];
        urls.extend(apache.as_ref().map(|a| (a.url("svn"), false)));
        let mut ways = Vec::new();
        for (url, tells_history) in urls {
            for always in [false, true] {
                let builder = SvnProbe::builder().runner(Remembering::new()).ssh(&ssh);
                let probe = builder.always_program(always).build();
                ways.push(Way { url: url.clone(), probe, tells_history: tells_history && !always });
            }
        }
        Some(Self { repo, apache, ways })
    }

    /// The path was last changed in revision `number`, at `origin` if elsewhere.
    async fn at(&self, path: &str, number: u64, origin: Option<&str>) -> SvnRevision {
        let want = self.repo.at(number, origin);
        for way in &self.ways {
            for source in [
                SvnSource::new(&way.url).path(if path.is_empty() { "/" } else { path }),
                SvnSource::new(if way.url.contains("://") {
                    format!("{}/{}", way.url, encoded(path))
                } else {
                    format!("{}/{path}", way.url)
                }),
            ] {
                let seen = seen(&way.probe, ask_for(source.clone())).await;
                let what = format!("{path} of {} {:?}", way.url, way.probe);
                assert_eq!(seen.revision.as_str(), want.to_string(), "{what}");
                let display = origin
                    .map_or(format!("r{number}"), |_| format!("r{number} ({})", want.path.clone().unwrap()));
                assert_eq!(seen.display.as_deref(), Some(display.as_str()), "{what}");
                assert_eq!(seen.metadata["revision"], number.to_string());
                assert_eq!(seen.metadata["uuid"], want.uuid);

                // Looked at again, it is the same.
                let mut again = ask_for(source);
                (again.seen, again.cursor) = (Some(seen.revision.clone()), seen.cursor);
                match answer(&way.probe, again).await {
                    Ok(Probed::SameAsSeen) => {}
                    Ok(Probed::Observed(o)) => assert_eq!(o.revision, seen.revision, "{what}"),
                    other => panic!("{what}: {other:?}"),
                }
            }
        }
        want
    }

    async fn nowhere(&self, path: &str) {
        for way in &self.ways {
            let source = SvnSource::new(&way.url).path(path);
            let answer = answer(&way.probe, ask_for(source)).await;
            assert_eq!(answer.unwrap(), Probed::NotFound, "{path} of {} {:?}", way.url, way.probe);
        }
    }

    async fn related(&self, path: &str, accounted: &SvnRevision, relation: Relation) {
        for way in &self.ways {
            let mut ask = ask_for(SvnSource::new(&way.url).path(path));
            ask.accounted = Some(accounted.to_string().parse().unwrap());
            let seen = seen(&way.probe, ask).await;
            if way.tells_history {
                assert_eq!(seen.relation, Some(relation), "{path} of {}", way.url);
            }
        }
    }

    /// A server that keeps repositories open has to be told that one was replaced.
    fn replaced(&mut self) {
        if let Some(apache) = &mut self.apache {
            apache.restart(&self.repo);
        }
    }
}

/// A path as it may stand in a URL.
fn encoded(path: &str) -> String {
    path.bytes().map(|b| if b == b'/' { "/".into() } else { format!("%{b:02X}") }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn told_in_every_way() {
    let Some(told) = Told::new() else { return };

    // Nothing was ever committed.
    told.at("", 0, None).await;
    told.nowhere("trunk").await;

    // Commits, here and elsewhere.
    told.repo.commit(&["mkdir", "trunk", "mkdir", "trunk/sub", "put", "@a", "trunk/sub/f"]);
    let first = told.at("trunk", 1, None).await;
    told.at("trunk/sub/f", 1, None).await;
    told.nowhere("trun").await;
    told.nowhere("trunk2").await;
    told.nowhere("trunk/sub/f/g").await;
    told.repo.commit(&["mkdir", "other", "mkdir", "other/sub", "put", "@b", "other/sub/f"]);
    told.at("trunk", 1, None).await;
    told.at("", 2, None).await;
    told.repo.put("trunk/sub/f", "c");
    told.at("trunk", 3, None).await;
    told.related("trunk", &first, Relation::Forward { by: None }).await;

    // A property is content; a log message is none.
    told.repo.commit(&["propset", "p", "v", "trunk"]);
    told.at("trunk", 4, None).await;
    told.at("trunk/sub", 3, None).await;
    let message = told.repo.root.path().join("message");
    std::fs::write(&message, "another").unwrap();
    told.repo.admin(&["setlog", "-r4", "--bypass-hooks"], &[message.to_str().unwrap()]);
    told.at("trunk", 4, None).await;

    // A folder that holds what was last changed elsewhere, replaced by another whose last change has the same number.
    told.repo.commit(&["put", "@d", "trunk/sub/f", "put", "@e", "other/sub/f", "mkdir", "b"]);
    told.repo.commit(&["cp", "HEAD", "trunk", "b/x"]);
    told.at("b/x", 6, None).await;
    let of_trunk = told.at("b/x/sub", 5, Some("/trunk/sub")).await;
    told.repo.commit(&["rm", "b/x", "cp", "HEAD", "other", "b/x"]);
    told.at("b/x", 7, None).await;
    let of_other = told.at("b/x/sub", 5, Some("/other/sub")).await;
    assert_ne!(of_trunk, of_other);
    told.repo.put("b/x/sub/f", "g");
    told.at("b/x/sub", 8, None).await;
    told.related("b/x/sub", &of_other, Relation::Forward { by: None }).await;
    told.related("b/x/sub", &of_trunk, Relation::Diverged).await;

    // Moved away, made anew, and brought back.
    told.repo.commit(&["mv", "trunk", "branch"]);
    told.nowhere("trunk").await;
    told.at("branch", 9, None).await;
    told.at("branch/sub", 5, Some("/trunk/sub")).await;
    told.repo.commit(&["mkdir", "trunk"]);
    told.at("trunk", 10, None).await;
    told.related("trunk", &first, Relation::Recreated).await;
    told.repo.commit(&["rm", "trunk", "cp", "8", "trunk", "trunk"]);
    told.at("trunk", 11, None).await;
    // The very same content is at the same place as before.
    told.at("trunk/sub", 5, None).await;

    // Names.
    for name in ["a@2", "@", "a b", "ü", "a%20b", "a&<b>\"'", "-x", "a#b?c", "a+b;c", "(1:x )"] {
        let number = told.repo.commit(&["mkdir", &encoded(name)]);
        told.at(name, number, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_was_replaced_is_told() {
    let Some(mut told) = Told::new() else { return };
    told.repo.commit(&["mkdir", "trunk"]);
    told.repo.put("trunk/f", "one");
    told.repo.put("trunk/f", "two");
    let lost = told.at("trunk", 3, None).await;

    // An older state is restored, and other work committed under the number of the work that was lost.
    let dump = told.repo.dump(2);
    told.repo.restore(&dump);
    told.replaced();
    assert_eq!(told.repo.uuid(), lost.uuid);
    told.at("trunk", 2, None).await;
    told.related("trunk", &lost, Relation::Rewound).await;
    told.repo.put("trunk/f", "three");
    let other = told.at("trunk", 3, None).await;
    assert_eq!((&other.uuid, other.number), (&lost.uuid, lost.number));
    assert_ne!(other.date, lost.date);

    // Another UUID, and another repository.
    told.repo.admin(&["setuuid"], &[]);
    told.replaced();
    let renamed = told.at("trunk", 3, None).await;
    assert_ne!(renamed.uuid, other.uuid);
    told.related("trunk", &other, Relation::Recreated).await;
    told.repo.create();
    told.replaced();
    told.nowhere("trunk").await;
    told.repo.commit(&["mkdir", "trunk"]);
    told.at("trunk", 1, None).await;
}

/// Who keeps a mirror sets the date of a commit after the commit.
#[tokio::test(flavor = "multi_thread")]
async fn the_date_of_a_mirror_does_not_count() {
    let Some(told) = Told::new() else { return };
    told.repo.commit(&["mkdir", "trunk"]);
    let before = told.at("trunk", 1, None).await;
    let date = told.repo.root.path().join("date");
    std::fs::write(&date, "2001-02-03T04:05:06.000000Z").unwrap();
    told.repo.admin(&["setrevprop", "-r1"], &["svn:date", date.to_str().unwrap()]);
    for way in &told.ways {
        let source = SvnSource::new(&way.url).path("trunk").mirror(true);
        let revision = seen(&way.probe, ask_for(source)).await.revision;
        assert_eq!(revision.as_str(), format!("{}@1", before.uuid));
    }
    assert_eq!(told.at("trunk", 1, None).await.date.as_deref(), Some("2001-02-03T04:05:06.000000Z"));
}
