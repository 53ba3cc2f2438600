//! Servers that cannot be used: each is told with its kind and what to do, in bounded time, and without a password.

use crate::{
    migrations::works,
    samples::{Base, SOON, limit, limit_key, number, put, says_what_to_do, timed, within},
};
use capomastro_core::{Error, ErrorKind, Retry, store::StateStore};
use capomastro_store_postgres::{PostgresStore, PostgresStoreBuilder};
use capomastro_tests::postgres::{Cluster, Proxy, SUPERUSER, Settings, Silent, Tls};
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

/// A password that nothing may show.
const SECRET: &str = "hunter2-and-more";

/// Everything that is logged in this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Of all tests, from the first one on that asks.
    fn of_all() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_writer(move || writer.clone())
                .init();
            log
        })
    }

    /// Without what these tests say of passwords themselves.
    fn text(&self) -> String {
        let all = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        all.lines().filter(|line| !line.contains("ALTER ROLE")).collect::<Vec<_>>().join("\n")
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Nothing of a password is in a text: not as it is, and not as a URL has it.
fn is_clean(text: &str) {
    for secret in [SECRET, "pass/word@1", "pass%2Fword%401"] {
        let bad = text.lines().find(|line| line.contains(secret));
        assert_eq!(bad, None);
    }
}

/// What is said of a server that cannot be used, in all its forms.
fn is_told(e: &Error, kind: ErrorKind, retry: Retry, word: &str) {
    assert_eq!((e.kind(), e.retry()), (kind, retry), "{e:?}");
    assert!(e.message().contains(word), "{e}");
    says_what_to_do(e);
    for text in [format!("{e}"), format!("{e:?}"), format!("{e:#?}"), e.report()] {
        is_clean(&text);
    }
    is_clean(&Log::of_all().text());
}

async fn refusal(builder: PostgresStoreBuilder) -> Error {
    Log::of_all();
    is_clean(&format!("{builder:?}{builder:#?}"));
    within(SOON, builder.open()).await.expect_err("it cannot be used")
}

/// A place in this base's URL.
fn at(base: &Base, from: &str, to: &str) -> PostgresStoreBuilder {
    let url = base.url();
    assert!(url.contains(from), "{url}");
    PostgresStore::builder(url.replace(from, to))
}

#[tokio::test]
async fn a_wrong_password_or_user_is_told() {
    let Some(cluster) = Cluster::with(Settings::default().with_password()) else { return };
    let base = Base::of(Arc::new(cluster));
    let password = "pass%2Fword%401";
    let with = |text: &str| format!(":{text}@");
    let denied = |e: &Error| is_told(e, ErrorKind::PermissionDenied, Retry::Never, "password");
    denied(&refusal(at(&base, &with(password), &with(SECRET))).await);
    denied(&refusal(at(&base, &with(password), "@").password(SECRET)).await);
    denied(&refusal(at(&base, &with(password), "@")).await);
    denied(&refusal(at(&base, SUPERUSER, "nobody_at_all")).await);

    // The password is given in the one way or the other; and what is open shows it as little.
    for builder in
        [at(&base, password, password), at(&base, &with(password), "@").password("pass/word@1".to_owned())]
    {
        let store = within(SOON, builder.open()).await.unwrap();
        works(&store).await.unwrap();
        is_clean(&format!("{store:?}{store:#?}{}", store.check().await.unwrap().description));
        // It is changed under a store that is open.
        base.sql(&format!("ALTER ROLE {SUPERUSER} PASSWORD 'another'"));
        let others = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
                      WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        base.sql(others);
        // A read that is denied has found every connection ended; a commit before it might have been under way.
        denied(&within(SOON, store.get(&[limit_key("a")])).await.unwrap_err());
        denied(&within(SOON, store.commit(&put(limit("a", 1), None))).await.unwrap_err());
        base.sql(&format!("ALTER ROLE {SUPERUSER} PASSWORD 'pass/word@1'"));
        works(&store).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_told() {
    let Some(base) = Base::new() else { return };
    let proxy = Proxy::before(base.cluster.endpoint());
    proxy.refuse();
    let secret = |url: String| url.replace(&format!("{SUPERUSER}@"), &format!("{SUPERUSER}:{SECRET}@"));
    let port = format!(":{}/", base.cluster.port());
    for url in [
        proxy.url(&base.name),
        base.url().replace(&port, ":1/"),
        base.url().replace("127.0.0.1", "no-such-host.invalid") + "?sslmode=disable",
        // An address that is kept for documentation.
        base.url().replace("127.0.0.1", "192.0.2.1") + "?sslmode=disable&connect_timeout=1",
    ] {
        let e = refusal(PostgresStore::builder(secret(url))).await;
        is_told(&e, ErrorKind::Unavailable, Retry::Backoff, "cannot be reached");
    }
    proxy.pass();
    let opened = PostgresStore::builder(secret(proxy.url(&base.name))).hints(false).open();
    works(&within(SOON, opened).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_silent_server_is_waited_for_and_no_longer_than_was_said() {
    let Some(base) = Base::new() else { return };
    let proxy = Proxy::before(base.cluster.endpoint());
    let deadline = Duration::from_millis(400);
    let builder = || PostgresStore::builder(proxy.url(&base.name)).deadline(deadline).hints(false);
    let store = within(SOON, builder().open()).await.unwrap();
    works(&store).await.unwrap();
    for silent in [Silent::Requests, Silent::Answers, Silent::Both] {
        proxy.silence(silent);
        let (read, took) = timed(within(SOON, number(&store, "a"))).await;
        is_told(&read.unwrap_err(), ErrorKind::TimedOut, Retry::Backoff, "in time");
        assert!(took >= deadline && took < deadline * 10, "{took:?}");
        let (written, took) = timed(within(SOON, store.commit(&put(limit("a", 1), None)))).await;
        let e = written.unwrap_err();
        assert!(matches!(e.kind(), ErrorKind::OutcomeUnknown | ErrorKind::TimedOut), "{e:?}");
        says_what_to_do(&e);
        assert!(took >= deadline && took < deadline * 10, "{took:?}");
        proxy.cut();
        proxy.pass();
        within(SOON, works(&store)).await.unwrap();
    }
    proxy.silence(Silent::Both);
    let (e, took) = timed(refusal(builder())).await;
    is_told(&e, ErrorKind::TimedOut, Retry::Backoff, "in time");
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[tokio::test]
async fn tls_is_verified_or_refused() {
    let Some(cluster) = Cluster::with(Settings::default().with_tls(Tls::Offered)) else { return };
    let base = Base::of(Arc::new(cluster));
    let (ours, stranger) = (base.cluster.authority(), base.cluster.strange_authority());
    let tls = |host: &str, roots: &Path| {
        let url = format!("{}?sslmode=verify-full", base.cluster.endpoint().url_at(host, &base.name));
        PostgresStore::builder(url).root_certificates(roots)
    };
    let bad = |e: &Error, word: &str| is_told(e, ErrorKind::InvalidConfig, Retry::Never, word);
    bad(&refusal(tls("127.0.0.1", stranger)).await, "certificate");
    bad(&refusal(tls("127.0.0.2", ours)).await, "host name");
    bad(&refusal(tls("localhost", Path::new("/no/such/file.pem"))).await, "root certificates");
    let empty = tempfile::NamedTempFile::new().unwrap();
    bad(&refusal(tls("localhost", empty.path())).await, "no root certificate");
    for host in ["127.0.0.1", "localhost"] {
        let store = within(SOON, tls(host, ours).open()).await.unwrap();
        works(&store).await.unwrap();
        let encrypted = base.sql(
            "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
             WHERE application_name = 'capomastro'",
        );
        assert_eq!(encrypted, "t", "hints too");
    }

    let Some(plain) = Base::new() else { return };
    let url = format!("{}?sslmode=verify-full", plain.url());
    bad(&refusal(PostgresStore::builder(url).root_certificates(ours)).await, "TLS");

    let required = Cluster::with(Settings::default().with_tls(Tls::Required)).unwrap();
    let base = Base::of(Arc::new(required));
    let e = refusal(PostgresStore::builder(base.url())).await;
    is_told(&e, ErrorKind::PermissionDenied, Retry::Never, "pg_hba.conf");
}

#[tokio::test]
async fn a_missing_database_is_told() {
    let Some(base) = Base::new() else { return };
    let e = refusal(at(&base, &base.name, "no_such_database")).await;
    is_told(&e, ErrorKind::InvalidConfig, Retry::Never, "create it");
}

#[tokio::test]
async fn a_database_that_cannot_keep_every_text_is_told() {
    let Some(base) = Base::new() else { return };
    let name = base.cluster.new_database_as("TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    let e = refusal(PostgresStore::builder(base.cluster.url(&name))).await;
    is_told(&e, ErrorKind::InvalidConfig, Retry::Never, "UTF8");
}

#[tokio::test]
async fn a_server_that_can_only_be_read_is_told() {
    let Some(base) = Base::new() else { return };
    let store = base.store().await;
    store.commit(&put(limit("a", 1), None)).await.unwrap();
    base.sql(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", base.name));
    end_all(&base);
    let read_only = |e: &Error| is_told(e, ErrorKind::ReadOnly, Retry::Never, "primary");
    read_only(&refusal(PostgresStore::builder(base.url())).await);
    // One that was open waits for the server that takes over.
    let waits = |e: &Error| is_told(e, ErrorKind::Unavailable, Retry::Backoff, "primary");
    waits(&store.commit(&put(limit("b", 1), None)).await.unwrap_err());
    waits(&store.check().await.unwrap_err());
    assert!(number(&store, "a").await.unwrap().is_some(), "reading goes on");
    base.sql(&format!("BEGIN READ WRITE; ALTER DATABASE {} RESET ALL; COMMIT", base.name));
    end_all(&base);
    works(&store).await.unwrap();
}

/// Ends all connections to a base but the one that says so.
fn end_all(base: &Base) {
    base.sql(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
}

#[tokio::test]
async fn a_server_that_takes_no_more_connections_is_told() {
    let few = Settings::default().max_connections(12).set("superuser_reserved_connections", "3");
    let Some(cluster) = Cluster::with(few) else { return };
    let base = Base::of(Arc::new(cluster));
    base.sql("CREATE ROLE plain LOGIN");
    base.sql(&format!("GRANT ALL ON DATABASE {} TO plain", base.name));
    let url = base.url().replace(SUPERUSER, "plain");
    let builder = || PostgresStore::builder(url.as_str()).hints(false);
    let store = within(SOON, builder().open()).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(base.connect().await);
    }
    let e = refusal(builder()).await;
    is_told(&e, ErrorKind::Unavailable, Retry::Backoff, "connections");
    // Who has one goes on with it; who would need more is told, too.
    works(&store).await.unwrap();
    let many = futures_util::future::join_all((0..8).map(|_| number(&store, "a"))).await;
    assert!(many.iter().any(Result::is_ok));
    for e in many.into_iter().filter_map(Result::err) {
        is_told(&e, ErrorKind::Unavailable, Retry::Backoff, "connections");
    }
    drop(others);
    within(SOON, async { while builder().open().await.is_err() {} }).await;
}

#[tokio::test]
async fn a_connection_string_that_cannot_be_used_is_told() {
    let runtime = format!("postgres://u:{SECRET}@");
    for text in [runtime.as_str(), "host=", "nonsense", &format!("host=localhost port={SECRET}")] {
        let e = refusal(PostgresStore::builder(text)).await;
        is_told(&e, ErrorKind::InvalidConfig, Retry::Never, "");
    }
    let e = refusal(PostgresStore::builder("postgres://u@localhost/d").schema("public")).await;
    is_told(&e, ErrorKind::InvalidConfig, Retry::Never, "schema");
}
