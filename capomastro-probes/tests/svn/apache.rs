//! Apache with mod_dav_svn: a process of the test's own, with a configuration of its own.

use super::{
    asking::until,
    repo::{Repo, clean, is_there},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Stdio},
};
use tempfile::TempDir;

/// The password of `robot`.
pub(crate) const PASSWORD: &str = "planted-hunter2";
/// It, as Apache keeps it.
const HASH: &str = "robot:{SHA}C/LHhwzXo4H+ZBJ9pnn331N40ug=\n";
const DIGEST: &str = "robot:x:90c8c29026952141305bf8c9f7064054\n";

/// A server that shows the repository at `/svn`, at `/guarded` to who has logged in, and at `/authz` by rules; all
/// repositories beside it below `/all`.
#[derive(Debug)]
pub(crate) struct Apache {
    dir: TempDir,
    child: Child,
    pub(crate) port: u16,
}

impl Apache {
    /// None if Apache or its module for Subversion is not installed.
    pub(crate) fn serve(repo: &Repo) -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("users"), HASH).unwrap();
        fs::write(dir.path().join("digests"), DIGEST).unwrap();
        fs::write(dir.path().join("rules"), "[/]\n* = r\n[/secret]\n* =\nrobot = r\n").unwrap();
        let (child, port) = start(&dir, &repo.path(), None);
        Some(Self { dir, child, port })
    }

    /// Starts it anew, so that it knows nothing of the repository any more.
    pub(crate) fn restart(&mut self, repo: &Repo) {
        self.stop();
        (self.child, _) = start(&self.dir, &repo.path(), Some(self.port));
    }

    pub(crate) fn stop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).ok();
        }
        drop(self.child.wait());
    }

    pub(crate) fn url(&self, location: &str) -> String {
        format!("http://127.0.0.1:{}/{location}", self.port)
    }

    /// Method, path, status and user of each request so far, once there are `count`: it answers before it writes its log.
    pub(crate) async fn requests(&self, count: usize) -> Vec<String> {
        let read = || {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            log.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        until(|| read().len() >= count).await;
        read()
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether Apache and its module for Subversion are installed; a test that needs them is skipped, loudly, if not.
pub(crate) fn is_installed() -> bool {
    is_there("/usr/lib/apache2/modules/mod_dav_svn.so", "libapache2-mod-svn")
        && is_there("/usr/sbin/apache2", "apache2-bin")
}

fn start(dir: &TempDir, repo: &std::path::Path, port: Option<u16>) -> (Child, u16) {
    loop {
        let port = port.unwrap_or_else(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        });
        let path: PathBuf = dir.path().join("config");
        fs::write(&path, config(&dir.path().display().to_string(), &repo.display().to_string(), port))
            .unwrap();
        let mut command = clean("/usr/sbin/apache2");
        command.arg("-f").arg(&path).arg("-DFOREGROUND");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        loop {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return (child, port);
            }
            if child.try_wait().unwrap().is_some() {
                // Somebody else has taken the port meanwhile.
                let errors = fs::read_to_string(dir.path().join("errors")).unwrap_or_default();
                assert!(errors.contains("could not bind"), "{errors}");
                break;
            }
            std::thread::yield_now();
        }
    }
}

fn config(dir: &str, repo: &str, port: u16) -> String {
    let modules = [
        "mpm_event",
        "access_compat",
        "authn_core",
        "authn_file",
        "authz_core",
        "authz_user",
        "auth_basic",
        "auth_digest",
        "dav",
        "dav_svn",
        "authz_svn",
    ]
    .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
    .concat();
    let parent = repo.strip_suffix("/r").unwrap();
    format!(
        "{modules}ServerRoot {dir}\nPidFile {dir}/pid\nErrorLog {dir}/errors\nMutex file:{dir}\nServerName localhost\n\
         Listen 127.0.0.1:{port}\nKeepAlive Off\nUser www-data\nGroup www-data\nStartServers 1\nThreadsPerChild 8\nMaxRequestWorkers 8\n\
         CustomLog {dir}/log \"%m %U %>s %u\"\n
         <Location /svn>\nDAV svn\nSVNPath {repo}\n</Location>\n\
         <Location /all>\nDAV svn\nSVNParentPath {parent}\n</Location>\n\
         <Location /guarded>\nDAV svn\nSVNPath {repo}\nAuthType Basic\nAuthName x\nAuthUserFile {dir}/users\n\
         Require valid-user\n</Location>\n\
         <Location /digest>\nDAV svn\nSVNPath {repo}\nAuthType Digest\nAuthName x\nAuthUserFile {dir}/digests\n\
         Require valid-user\n</Location>\n\
         <Location /authz>\nDAV svn\nSVNPath {repo}\nAuthType Basic\nAuthName x\nAuthUserFile {dir}/users\n\
         AuthzSVNAccessFile {dir}/rules\nSatisfy Any\nRequire valid-user\n</Location>\n"
    )
}
