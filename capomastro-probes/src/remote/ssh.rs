//! OpenSSH as the transport of a program that looks at a repository.

use capomastro_core::{
    Error, ErrorKind, Result,
    command::Command,
    secret::{Secret, SecretRef, Secrets},
};
use sha2::{Digest as _, Sha256};

/// The variables that lead to the private key and to the known hosts.
const KEY: &str = "CAPOMASTRO_SSH_KEY";
const KNOWN_HOSTS: &str = "CAPOMASTRO_SSH_KNOWN_HOSTS";
/// The longest text of known hosts, in bytes.
const MAX_KNOWN_HOSTS: usize = 16 * 1024;

/// Checks what a source says of known hosts.
pub(crate) fn check_known_hosts(hosts: &str) -> Result<()> {
    if hosts.trim().is_empty() || hosts.len() > MAX_KNOWN_HOSTS || hosts.contains('\0') {
        return Err(Error::config("known_hosts is empty or longer than 16 KiB: give lines of ssh-keyscan"));
    }
    Ok(())
}

/// Known hosts as a part of a probe's key, which is short.
pub(crate) fn digest(hosts: &str) -> String {
    Sha256::digest(hosts.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// What an SSH server is to be met with.
#[derive(Debug, Default)]
pub(crate) struct SshLogin {
    key: Option<Secret>,
    known_hosts: Option<String>,
}

impl SshLogin {
    /// Of what a source says.
    pub(crate) async fn resolve(
        key: Option<&SecretRef>,
        known_hosts: Option<&String>,
        secrets: &Secrets,
    ) -> Result<Self> {
        let key = match key {
            Some(key) => Some(secrets.resolve(key).await?),
            None => None,
        };
        Ok(Self { key, known_hosts: known_hosts.cloned() })
    }

    /// The command with the key and the known hosts, for [`command_line`](Self::command_line).
    pub(crate) fn hand_over(&self, mut command: Command) -> Command {
        if let Some(key) = &self.key {
            command = command.secret_file(KEY, Secret::new(lines(key.expose())));
        }
        if let Some(hosts) = &self.known_hosts {
            command = command.secret_file(KNOWN_HOSTS, Secret::new(lines(hosts)));
        }
        command
    }

    /// The line that a program hands to a shell to start ssh: constant words, a program that the embedder named, and paths
    /// that the runner puts into variables.
    pub(crate) fn command_line(&self, ssh: &str) -> String {
        let mut words = vec![quoted(ssh)];
        let mut option = |text: &str| words.extend(["-o".to_owned(), format!("\"{text}\"")]);
        option("BatchMode=yes");
        option("StrictHostKeyChecking=yes");
        option("ClearAllForwardings=yes");
        option("ForwardAgent=no");
        option("PermitLocalCommand=no");
        option("ControlMaster=no");
        option("ControlPath=none");
        if self.known_hosts.is_some() {
            option(&format!("UserKnownHostsFile=${KNOWN_HOSTS}"));
            option("GlobalKnownHostsFile=none");
        }
        if self.key.is_some() {
            option("IdentitiesOnly=yes");
            option("IdentityAgent=none");
            option("PreferredAuthentications=publickey");
            option(&format!("IdentityFile=${KEY}"));
        }
        words.join(" ")
    }
}

/// What a complaint of OpenSSH, in lower case, means; `None` if something else complained.
pub(crate) fn complaint(text: &str) -> Option<(ErrorKind, &'static str)> {
    let has = |parts: &[&str]| parts.iter().any(|p| text.contains(p));
    Some(if has(&["host key verification failed", "remote host identification has changed"]) {
        (
            ErrorKind::PermissionDenied,
            "the server's host key is not known: check it, and give it as known_hosts in the source",
        )
    } else if has(&["permission denied (", "too many authentication failures", "no supported authentication"])
    {
        (ErrorKind::PermissionDenied, "the server does not accept our key: check user and ssh_key")
    } else if has(&["error in libcrypto", "invalid format", "incorrect passphrase"]) {
        (
            ErrorKind::PermissionDenied,
            "the private key cannot be read: give an OpenSSH key without passphrase",
        )
    } else if has(&["timed out", "timeout"]) {
        (ErrorKind::TimedOut, "the server did not answer in time")
    } else if has(&["could not resolve", "connection refused", "no route to host", "network is unreachable"])
    {
        (ErrorKind::Unavailable, "the server cannot be reached: check host and port")
    } else {
        return None;
    })
}

/// Text that ends with the end of a line, without which ssh reads no key.
fn lines(text: &str) -> String {
    format!("{}\n", text.replace("\r\n", "\n").trim_end())
}

/// One word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words_for_a_shell() {
        assert_eq!(quoted("/opt/my ssh"), "'/opt/my ssh'");
        assert_eq!(quoted("a'b; date"), r"'a'\''b; date'");
        assert_eq!(lines("a\r\nb"), "a\nb\n");
    }
}
