//! TLS to the database: always with the certificate verified for the host, or not at all.

use capomastro_core::{Error, Result};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{path::Path, sync::Arc};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Whose signature under the certificate of a server is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Whom the system trusts.
    System,
    /// The certificates of this PEM file.
    File(std::path::PathBuf),
}

/// What makes connections speak TLS; without roots it is never asked to.
pub(crate) fn connector(roots: Option<&Roots>) -> Result<MakeRustlsConnect> {
    let mut store = RootCertStore::empty();
    match roots {
        None => {}
        Some(Roots::System) => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                return Err(Error::config(
                    "the system has no root certificates to verify the database with: install them (ca-certificates), or give a file of them",
                ));
            }
        }
        Some(Roots::File(path)) => add(&mut store, path)?,
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::internal("TLS cannot be set up: report this").with_source(e))?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn add(store: &mut RootCertStore, path: &Path) -> Result<()> {
    let bad = |e: rustls::pki_types::pem::Error| {
        Error::config(
            "the file of root certificates cannot be read: give a readable file of PEM certificates",
        )
        .with_context("file", path.display())
        .with_source(e)
    };
    for certificate in CertificateDer::pem_file_iter(path).map_err(bad)? {
        store.add(certificate.map_err(bad)?).map_err(|e| {
            Error::config("a root certificate is of no known form: give a file of PEM certificates")
                .with_context("file", path.display())
                .with_source(e)
        })?;
    }
    if store.is_empty() {
        return Err(Error::config("the file has no root certificate in it: give a file of PEM certificates")
            .with_context("file", path.display()));
    }
    Ok(())
}
