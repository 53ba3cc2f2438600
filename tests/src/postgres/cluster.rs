//! A private cluster of PostgreSQL.

use super::{
    certificates::Certificates,
    endpoint::{Endpoint, PASSWORD, SUPERUSER},
    folder, installed, port, process,
};
use rustix::process::Signal;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Child,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// Until it answers, with a recovery before. A busy machine is slow.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The server itself kills what has not ended after five seconds.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How often another port is tried, when somebody was faster.
const PORTS_TRIED: usize = 5;

/// Whether connections by TCP are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    #[default]
    Off,
    /// For those who ask for it.
    Offered,
    /// Always: others are turned away.
    Required,
}

/// What a cluster is like.
#[derive(Clone, Debug)]
pub struct Settings {
    is_durable: bool,
    has_password: bool,
    tls: Tls,
    parameters: Vec<(String, String)>,
}

impl Default for Settings {
    /// Fast and trusting: no fsync, no password, no TLS, 100 connections.
    fn default() -> Self {
        Self { is_durable: false, has_password: false, tls: Tls::Off, parameters: Vec::new() }
    }
}

impl Settings {
    /// With fsync, as in production: for figures. What a server has written survives its own death without that; only the death
    /// of the machine is different, and a recovery is much slower on a busy disk.
    #[must_use]
    pub fn durable(self) -> Self {
        Self { is_durable: true, ..self }
    }

    /// Connections by TCP give a password (SCRAM).
    #[must_use]
    pub fn with_password(self) -> Self {
        Self { has_password: true, ..self }
    }

    /// With a certificate for `localhost` and `127.0.0.1`; it also listens at `127.0.0.2`, which is a wrong name.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls, ..self }
    }

    /// At most so many connections at once.
    #[must_use]
    pub fn max_connections(self, most: u16) -> Self {
        self.set("max_connections", &most.to_string())
    }

    /// A parameter of `postgresql.conf`. Of two values the later one counts.
    #[must_use]
    pub fn set(mut self, parameter: &str, value: &str) -> Self {
        self.parameters.push((parameter.to_owned(), value.to_owned()));
        self
    }

    fn access(&self) -> String {
        let method = if self.has_password { "scram-sha-256" } else { "trust" };
        let kind = if self.tls == Tls::Required { "hostssl" } else { "host" };
        // The socket lies in our folder: it is how these tests look inside, whatever the rest is set to.
        format!("local all all trust\n{kind} all all 127.0.0.0/8 {method}\n")
    }
}

/// A running server of its own, stopped and removed when dropped, and when this process ends in whatever way.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    settings: Settings,
    endpoint: Endpoint,
    certificates: Option<Certificates>,
    server: Mutex<Option<Child>>,
}

/// The cluster of all tests of this process, each with its own database in it; without fsync. Nothing if PostgreSQL is not
/// installed: that is said on the standard error, and with `CI` set it panics.
///
/// It is stopped when the process ends.
#[must_use]
pub fn shared() -> Option<Arc<Cluster>> {
    static SHARED: OnceLock<Option<Arc<Cluster>>> = OnceLock::new();
    let settings = || Settings::default().max_connections(400);
    SHARED.get_or_init(|| Cluster::with(settings()).map(Arc::new)).clone()
}

impl Cluster {
    /// A fast one with the usual settings; see [`Cluster::with`].
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::with(Settings::default())
    }

    /// Makes a cluster and waits until it answers. Blocks for half a second or so; the first time for longer.
    ///
    /// Nothing if PostgreSQL is not installed: that is said on the standard error.
    ///
    /// # Panics
    /// If it is installed and does not start; if it is not installed and `CI` is set.
    #[must_use]
    pub fn with(settings: Settings) -> Option<Self> {
        let installed = installed::postgres()?;
        let folder = folder::fresh("cluster");
        let data = folder.join("data");
        let mut copy = process::command("cp", &folder);
        copy.args(["-a", "--reflink=auto", "--"]).arg(template(installed)).arg(&data);
        process::run(copy);
        fs::write(data.join("pg_hba.conf"), settings.access()).expect("our folder can be written");
        let certificates = (settings.tls != Tls::Off).then(|| Certificates::make(&folder));
        let password = settings.has_password.then_some(PASSWORD);
        let endpoint = Endpoint::new(0, password);
        let mut cluster = Self { folder, settings, endpoint, certificates, server: Mutex::new(None) };
        for left in (0..PORTS_TRIED).rev() {
            cluster.endpoint = cluster.endpoint.through(port::free());
            match cluster.launch() {
                Ok(()) => break,
                Err(log) if left > 0 && log.contains("Address already in use") => {}
                Err(log) => panic!("PostgreSQL does not start:\n{log}"),
            }
        }
        if let Some(password) = password {
            cluster.sql("postgres", &format!("ALTER ROLE {SUPERUSER} PASSWORD '{password}'"));
        }
        Some(cluster)
    }

    /// Where it is reached by TCP.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where this database is, with the password if one is needed.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.endpoint.url(database)
    }

    /// The TCP port. It stays the same after [`Cluster::start_again`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.endpoint.port()
    }

    /// The folder with the socket.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// The certificate (PEM) of the authority that vouches for the server.
    ///
    /// # Panics
    /// Without TLS.
    #[must_use]
    pub fn authority(&self) -> &Path {
        &self.certificates.as_ref().expect("a cluster with TLS").authority
    }

    /// The certificate (PEM) of an authority that does not.
    ///
    /// # Panics
    /// Without TLS.
    #[must_use]
    pub fn strange_authority(&self) -> &Path {
        &self.certificates.as_ref().expect("a cluster with TLS").stranger
    }

    /// A new, empty database; its name.
    #[must_use]
    pub fn new_database(&self) -> String {
        self.new_database_as("")
    }

    /// A new, empty database with these options of `CREATE DATABASE`; its name. For a collation of people, say
    /// `TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'`: all others sort by bytes.
    #[must_use]
    pub fn new_database_as(&self, options: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} {options}"));
        name
    }

    /// A new, empty database; where it is.
    #[must_use]
    pub fn create_database(&self) -> String {
        self.url(&self.new_database())
    }

    /// A connection by the socket, past any proxy, password and TLS. Its other half runs in the current runtime.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn connect(&self, database: &str) -> Client {
        let (client, connection) = self.config(database).connect(NoTls).await.expect("the server answers");
        drop(tokio::spawn(connection));
        client
    }

    /// Runs statements by the socket and gives the rows: one per line, columns parted by `|`, nothing for a null. Blocks, in
    /// an asynchronous context too.
    ///
    /// # Panics
    /// If one fails.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        self.try_sql(database, statements).unwrap_or_else(|e| panic!("{statements}: {e:?}"))
    }

    /// The same, with the error of the statement that failed.
    pub fn try_sql(&self, database: &str, statements: &str) -> Result<String, tokio_postgres::Error> {
        let config = self.config(database);
        let ask = async {
            let (client, connection) = config.connect(NoTls).await?;
            let connection = tokio::spawn(connection);
            let rows = client.simple_query(statements).await;
            drop(client);
            connection.await.ok();
            rows
        };
        // On a thread of its own: the caller's may belong to a runtime, which does not let it block.
        let rows = std::thread::scope(|s| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            s.spawn(|| runtime.expect("a runtime").block_on(ask)).join().expect("it does not panic")
        })?;
        let line = |row: &SimpleQueryMessage| match row {
            SimpleQueryMessage::Row(row) => {
                let columns = (0..row.len()).map(|i| row.get(i).unwrap_or_default());
                Some(columns.collect::<Vec<_>>().join("|"))
            }
            _ => None,
        };
        Ok(rows.iter().filter_map(line).collect::<Vec<_>>().join("\n"))
    }

    /// Stops it as its death would: no checkpoint, connections are dropped, and the next start recovers. Returns when the
    /// server is gone; does nothing if it does not run.
    pub fn stop_immediate(&self) {
        self.stop_by(Signal::QUIT);
    }

    /// Stops it as an administrator would who does not wait: transactions are rolled back, clients are told.
    pub fn stop(&self) {
        self.stop_by(Signal::INT);
    }

    /// Starts it at the same port over the same data, and waits until it answers.
    ///
    /// # Panics
    /// If it does not, or runs already.
    pub fn start_again(&self) {
        self.launch().unwrap_or_else(|log| panic!("PostgreSQL does not start again:\n{log}"));
    }

    fn stop_by(&self, signal: Signal) {
        if let Some(mut server) = self.server.lock().expect("no panic while it is held").take() {
            process::end(&mut server, signal, STOP_LIMIT);
        }
    }

    /// The end of the server's log, if it does not start.
    fn launch(&self) -> Result<(), String> {
        let mut server = self.server.lock().expect("no panic while it is held");
        assert!(server.is_none(), "the server runs already");
        let installed = installed::postgres().expect("it was there when the cluster was made");
        let log = self.folder.join("log");
        let log_file =
            || File::options().create(true).append(true).open(&log).expect("our folder can be written");
        let mut command = process::mortal(installed.program("postgres"), &self.folder, "QUIT");
        command.arg("-D").arg(self.folder.join("data")).stdout(log_file()).stderr(log_file());
        for (parameter, value) in self.parameters() {
            command.arg("-c").arg(format!("{parameter}={value}"));
        }
        let mut child = process::spawn(command);
        let ready = process::poll(START_LIMIT, || {
            if let Some(status) = child.try_wait().expect("it is our child") {
                return Some(Err(format!("{status}")));
            }
            self.is_ready(&child).then_some(Ok(()))
        });
        if let Err(why) = ready.unwrap_or_else(|| Err("it is not ready in time".into())) {
            process::end(&mut child, Signal::QUIT, STOP_LIMIT);
            let log = fs::read(&log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<_> = log.lines().rev().take(20).collect();
            return Err(format!("{}\n{why}", lines.into_iter().rev().collect::<Vec<_>>().join("\n")));
        }
        *server = Some(child);
        Ok(())
    }

    /// The server writes how it is into a file: its number in the first line, its state in the eighth.
    fn is_ready(&self, server: &Child) -> bool {
        let text = fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap_or_default();
        let line = |n: usize| text.lines().nth(n).map(str::trim);
        line(0) == Some(server.id().to_string().as_str()) && line(7) == Some("ready")
    }

    fn parameters(&self) -> Vec<(String, String)> {
        let path = |p: &Path| p.to_str().expect("temporary folders have plain names").to_owned();
        let is_durable = if self.settings.is_durable { "on" } else { "off" };
        let mut all = vec![
            ("port", self.port().to_string()),
            ("unix_socket_directories", path(&self.folder)),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("fsync", is_durable.to_owned()),
            ("full_page_writes", is_durable.to_owned()),
        ];
        if let Some(certificates) = &self.certificates {
            all.extend([
                ("listen_addresses", "127.0.0.1,127.0.0.2".to_owned()),
                ("ssl", "on".to_owned()),
                ("ssl_cert_file", path(&certificates.server)),
                ("ssl_key_file", path(&certificates.key)),
            ]);
        }
        let all = all.into_iter().map(|(parameter, value)| (parameter.to_owned(), value));
        all.chain(self.settings.parameters.iter().cloned()).collect()
    }

    fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.folder).port(self.port()).user(SUPERUSER).dbname(database);
        config.connect_timeout(Duration::from_secs(10)).options("-c statement_timeout=10min");
        config
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop_immediate();
        // What is left goes with the folder of the process.
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// A cluster that never ran, to be copied: making one takes three times as long.
fn template(installed: &installed::Installed) -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let folder = folder::fresh("template");
        let data = folder.join("data");
        let mut initdb = process::command(installed.program("initdb"), &folder);
        initdb.arg("-D").arg(&data).args(["-U", SUPERUSER, "--no-sync", "--auth=trust"]);
        initdb.args(["--encoding=UTF8", "--no-locale"]);
        process::run(initdb);
        data
    })
}
