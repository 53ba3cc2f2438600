//! Certificates of a server, and who vouches for them.

use super::folder::give;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Files in PEM form.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    /// Of the server, for [`NAMES`].
    pub(super) server: PathBuf,
    pub(super) key: PathBuf,
    /// That vouches for the server.
    pub(super) authority: PathBuf,
    /// That does not.
    pub(super) stranger: PathBuf,
}

/// What the server's certificate says it is; `127.0.0.2` is the same server and is not in it.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

impl Certificates {
    pub(super) fn make(folder: &Path) -> Self {
        let at = |name: &str| folder.join(name);
        let made = Self {
            server: at("server.crt"),
            key: at("server.key"),
            authority: at("authority.crt"),
            stranger: at("stranger.crt"),
        };
        let (authority, issuer) = authority("authority of the tests");
        let (stranger, _) = self::authority("somebody else");
        let key = KeyPair::generate().expect("a key is made");
        let mut server = CertificateParams::new(NAMES.map(String::from)).expect("names");
        server.distinguished_name.push(DnType::CommonName, "server of the tests");
        let server = server.signed_by(&key, &issuer).expect("the authority signs");
        for (path, text) in
            [(&made.server, server.pem()), (&made.authority, authority), (&made.stranger, stranger)]
        {
            fs::write(path, text).expect("the folder can be written");
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&made.key).expect("a new file");
        file.write_all(key.serialize_pem().as_bytes()).expect("the folder can be written");
        give(&made.key);
        made
    }
}

fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key is made");
    let certificate = params.self_signed(&key).expect("it signs itself");
    (certificate.pem(), Issuer::new(params, key))
}
