//! A pooler before a cluster.

use super::{
    cluster::Cluster,
    endpoint::{Endpoint, SUPERUSER},
    folder, installed, port, process,
};
use rustix::process::Signal;
use std::{fs, net::TcpStream, path::PathBuf, process::Child, time::Duration};

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How often another port is tried, when somebody was faster.
const PORTS_TRIED: usize = 5;

/// A real pgbouncer in transaction mode: statements of one client go through any connection to the server, with whatever the
/// client before has left in it. Stopped when dropped, and when this process ends.
#[derive(Debug)]
pub struct Bouncer {
    folder: PathBuf,
    endpoint: Endpoint,
    process: Option<Child>,
}

impl Bouncer {
    /// Before this cluster, with so many connections per database. It asks no password, and is not told of prepared
    /// statements, `options` and parameters: it is what one gets who sets only the mode.
    ///
    /// Nothing if pgbouncer is not installed: that is said on the standard error.
    ///
    /// # Panics
    /// If it is installed and does not start; if it is not installed and `CI` is set.
    #[must_use]
    pub fn before(cluster: &Cluster, pool: u16) -> Option<Self> {
        let program = installed::pgbouncer()?;
        let folder = folder::fresh("bouncer");
        let users = folder.join("users");
        fs::write(&users, format!("\"{SUPERUSER}\" \"\"\n")).expect("our folder can be written");
        let mut bouncer = Self { folder, endpoint: Endpoint::new(0, None), process: None };
        for left in (0..PORTS_TRIED).rev() {
            let port = port::free();
            bouncer.endpoint = Endpoint::new(port, None);
            let settings = format!(
                "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\n\
                 default_pool_size = {pool}\nmax_client_conn = 500\n",
                cluster.socket_folder().display(),
                cluster.port(),
                users.display(),
            );
            let file = bouncer.folder.join("pgbouncer.ini");
            fs::write(&file, settings).expect("our folder can be written");
            let log = bouncer.folder.join("log");
            let log_file = || fs::File::create(&log).expect("our folder can be written");
            let mut command = process::mortal(program, &bouncer.folder, "KILL");
            command.arg(&file).stdout(log_file()).stderr(log_file());
            let mut child = process::spawn(command);
            let is_up = process::poll(START_LIMIT, || {
                let is_dead = child.try_wait().expect("it is our child").is_some();
                if is_dead {
                    return Some(false);
                }
                TcpStream::connect(("127.0.0.1", port)).ok().map(|_| true)
            });
            if is_up == Some(true) {
                bouncer.process = Some(child);
                return Some(bouncer);
            }
            process::end(&mut child, Signal::KILL, STOP_LIMIT);
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(left > 0 && said.contains("Address already in use"), "pgbouncer does not start:\n{said}");
        }
        None
    }

    /// Where it is reached.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where this database of the cluster is, through the pooler.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.endpoint.url(database)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.process {
            process::end(child, Signal::INT, STOP_LIMIT);
        }
        // What is left goes with the folder of the process.
        fs::remove_dir_all(&self.folder).ok();
    }
}
