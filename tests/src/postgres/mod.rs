//! A real PostgreSQL for tests: a [`Cluster`], a [`Bouncer`] before it, and a [`Proxy`] that is a network as bad as wanted.
//!
//! Written here rather than taken from `pgtemp`: that one needs `sudo` to work as root, cannot stop and start again over the
//! same data, and leaves its servers behind when the test process is killed.
//!
//! The programs are those of the newest version in `/usr/lib/postgresql`, else those in `PATH`; `CAPOMASTRO_POSTGRES_BIN` names
//! another folder of them. As root, servers run as `postgres`, or as `nobody`.
//!
//! Everything runs on the loopback interface, in one folder below the temporary one, and goes when this process goes,
//! however that ends.

mod bouncer;
mod certificates;
mod cluster;
mod endpoint;
mod folder;
mod installed;
#[expect(clippy::future_not_send, reason = "one thread runs a proxy, so that an order is obeyed at once")]
mod link;
mod port;
mod process;
#[expect(clippy::future_not_send, reason = "one thread runs a proxy, so that an order is obeyed at once")]
mod proxy;

pub use bouncer::Bouncer;
pub use cluster::{Cluster, Settings, Tls, shared};
pub use endpoint::{Endpoint, SUPERUSER};
pub use installed::is_installed;
pub use link::Toward;
pub use proxy::{Proxy, Silent};
