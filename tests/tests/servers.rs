//! The servers and the bad network that other tests stand on.

#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_tests::postgres::{
    Bouncer, Cluster, Proxy, Settings, Silent, Tls, Toward, is_installed, shared,
};
use std::{
    future::Future,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use tokio::time::Instant;
use tokio_postgres::{Client, Error, NoTls};

/// In the process that is killed: what it is to do.
const ROLE: &str = "CAPOMASTRO_TEST_IS_KILLED";

/// What does not happen within this is taken not to happen.
const NEVER: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_secs(20);

type Rule = fn(&Proxy);

async fn within<T>(limit: Duration, what: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = what => Some(done),
        () = tokio::time::sleep_until(Instant::now() + limit) => None,
    }
}

async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    drop(tokio::spawn(connection));
    Ok(client)
}

/// Through the proxy, before a database with one empty table.
async fn by_proxy(cluster: &Cluster) -> (Proxy, String, Client) {
    let database = cluster.new_database();
    cluster.sql(&database, "CREATE TABLE t (n int)");
    let proxy = Proxy::before(cluster.endpoint());
    let client = connect(&proxy.url(&database)).await.unwrap();
    (proxy, database, client)
}

#[tokio::test]
async fn a_cluster_stopped_at_once_comes_back_with_its_data() {
    let Some(cluster) = Cluster::with(Settings::default().with_password().max_connections(17)) else {
        return;
    };
    assert_eq!(cluster.sql("postgres", "SHOW fsync; SHOW max_connections; SHOW lc_collate"), "off\n17\nC");
    let url = cluster.create_database();
    let client = connect(&url).await.unwrap();
    client.batch_execute("CREATE TABLE t AS SELECT 7 AS n").await.unwrap();
    cluster.stop_immediate();
    assert!(client.simple_query("SELECT").await.is_err());
    assert!(connect(&url).await.is_err());
    cluster.start_again();
    let row = connect(&url).await.unwrap().query_one("SELECT n FROM t", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
    let wrong = url.replacen("%401@", "%402@", 1);
    assert_ne!(wrong, url);
    let refused = connect(&wrong).await.unwrap_err();
    assert_eq!(refused.code().map(|c| c.code()), Some("28P01"), "{refused:?}");
    let port = cluster.port();
    drop(cluster);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[tokio::test]
async fn a_cluster_with_tls_turns_others_away() {
    let Some(cluster) = Cluster::with(Settings::default().durable().with_tls(Tls::Required)) else { return };
    let refused = connect(&cluster.url("postgres")).await.unwrap_err();
    assert_eq!(refused.code().map(|c| c.code()), Some("28000"), "{refused:?}");
    assert_eq!(cluster.sql("postgres", "SHOW ssl; SHOW fsync"), "on\non");
    // libpq looks at the certificate as our own client is to.
    let psql = |host: &str, authority: &Path| {
        let url = format!("{}?sslmode=verify-full", cluster.endpoint().url_at(host, "postgres"));
        let said = Command::new("psql")
            .args(["-XAtc", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &url])
            .envs([("PGSSLROOTCERT", authority), ("LC_ALL", Path::new("C"))])
            .output()
            .unwrap();
        (String::from_utf8(said.stdout).unwrap(), String::from_utf8(said.stderr).unwrap())
    };
    assert_eq!(psql("127.0.0.1", cluster.authority()), ("t\n".into(), String::new()));
    assert_eq!(psql("localhost", cluster.authority()).0, "t\n");
    assert!(psql("127.0.0.2", cluster.authority()).1.contains("does not match host name"));
    assert!(psql("127.0.0.1", cluster.strange_authority()).1.contains("certificate verify failed"));
}

#[tokio::test]
async fn a_pooler_gives_each_transaction_any_connection() {
    let Some(cluster) = shared() else { return };
    let Some(bouncer) = Bouncer::before(&cluster, 1) else { return };
    let url = bouncer.url(&cluster.new_database());
    let (one, other) = (connect(&url).await.unwrap(), connect(&url).await.unwrap());
    one.batch_execute("SET application_name = 'left by one'").await.unwrap();
    let rows = other.simple_query("SHOW application_name").await.unwrap();
    let named = rows.iter().find_map(|m| match m {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    assert_eq!(named.as_deref(), Some("left by one"));
    one.batch_execute("BEGIN").await.unwrap();
    assert!(within(NEVER, other.batch_execute("SELECT")).await.is_none(), "the only connection is taken");
    one.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn a_network_is_cut_and_comes_back() {
    let Some(cluster) = shared() else { return };
    let (proxy, database, client) = by_proxy(&cluster).await;
    let url = proxy.url(&database);
    client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(proxy.connections(), 1);
    proxy.cut();
    assert_eq!(proxy.connections(), 0);
    assert!(within(SOON, client.batch_execute("SELECT")).await.unwrap().is_err());
    let client = connect(&url).await.unwrap();
    proxy.refuse();
    assert!(within(SOON, client.batch_execute("SELECT")).await.unwrap().is_err());
    assert!(within(SOON, connect(&url)).await.unwrap().is_err());
    proxy.pass();
    let client = connect(&url).await.unwrap();
    proxy.close();
    assert!(within(SOON, client.batch_execute("SELECT")).await.unwrap().is_err());
    assert_eq!(cluster.sql(&database, "SELECT * FROM t"), "1");
}

#[tokio::test]
async fn a_silent_network_says_what_it_held_when_it_comes_back() {
    let Some(cluster) = shared() else { return };
    let (proxy, database, client) = by_proxy(&cluster).await;
    let count = || cluster.sql(&database, "SELECT count(*) FROM t");
    for (silent, arrived) in [(Silent::Answers, "1"), (Silent::Requests, "1"), (Silent::Both, "2")] {
        proxy.silence(silent);
        let mut insert = Box::pin(client.batch_execute("INSERT INTO t VALUES (1)"));
        assert!(within(NEVER, &mut insert).await.is_none(), "{silent:?}");
        assert!(within(NEVER, connect(&proxy.url(&database))).await.is_none(), "{silent:?}");
        let is_there = async {
            while count() != arrived {
                tokio::task::yield_now().await;
            }
        };
        within(SOON, is_there)
            .await
            .unwrap_or_else(|| panic!("{silent:?}: {} instead of {arrived}", count()));
        proxy.pass();
        within(SOON, insert).await.unwrap().unwrap();
    }
    assert_eq!(count(), "3");
    let before = Instant::now();
    proxy.delay(NEVER);
    client.batch_execute("SELECT").await.unwrap();
    assert!(before.elapsed() >= 2 * NEVER);
}

#[tokio::test]
async fn requests_and_answers_are_lost_where_it_is_wanted() {
    let Some(cluster) = shared() else { return };
    let (proxy, database, first) = by_proxy(&cluster).await;
    drop(first);
    let lose: [(&str, Rule, &str); 5] = [
        ("the request", |p| p.lose_request("INTO t"), "0"),
        ("the answer", |p| p.lose_answer("INTO t"), "1"),
        ("all bytes of the answer", |p| p.cut_after(Toward::Client, 0), "2"),
        ("half an answer", |p| p.cut_after(Toward::Client, 5), "3"),
        ("half a request", |p| p.cut_after(Toward::Server, 20), "3"),
    ];
    for (at, (what, rule, arrived)) in lose.into_iter().enumerate() {
        let client = connect(&proxy.url(&database)).await.unwrap();
        rule(&proxy);
        let lost = within(SOON, client.batch_execute("INSERT INTO t VALUES (1)")).await.unwrap();
        assert!(lost.is_err(), "{what}");
        within(SOON, proxy.until_cuts(at as u64 + 1)).await.unwrap();
        assert_eq!(proxy.cuts(), at as u64 + 1, "{what}");
        assert_eq!(cluster.sql(&database, "SELECT count(*) FROM t"), arrived, "{what}");
    }
}

/// Kills a process that has a cluster and a pooler, and looks what is left.
#[tokio::test]
async fn nothing_is_left_of_a_process_that_is_killed() {
    if std::env::var_os(ROLE).is_some() {
        return be_killed();
    }
    if !is_installed() {
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_is_left_of_a_process_that_is_killed", "--nocapture"])
        .env(ROLE, "yes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said = lines.find_map(|l| l.split_once("ports: ").map(|(_, said)| said.to_owned())).unwrap();
    let mut words = said.split(' ');
    let folder = Path::new(words.next().unwrap()).parent().unwrap().to_owned();
    let ports: Vec<u16> = words.map(|p| p.parse().unwrap()).collect();
    let is_up = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_ok();
    assert!(folder.exists() && ports.iter().all(is_up) && !ports.is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    let is_gone = async {
        while folder.exists() || ports.iter().any(is_up) {
            tokio::time::sleep_until(Instant::now() + Duration::from_millis(5)).await;
        }
    };
    within(SOON, is_gone).await.unwrap_or_else(|| panic!("{folder:?} or one of {ports:?} is left"));
}

fn be_killed() {
    // On a thread that ends: the servers belong to the process.
    let start = || {
        let cluster = Cluster::start().unwrap();
        let bouncer = Bouncer::before(&cluster, 1);
        (cluster, bouncer)
    };
    let (cluster, bouncer) = std::thread::spawn(start).join().unwrap();
    assert_eq!(cluster.sql("postgres", "SELECT 1"), "1");
    let pooler = bouncer.as_ref().map(|b| format!(" {}", b.endpoint().port())).unwrap_or_default();
    println!("ports: {} {}{pooler}", cluster.socket_folder().display(), cluster.port());
    // Until it is killed.
    std::io::stdin().lines().for_each(drop);
}
