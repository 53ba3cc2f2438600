//! A real server, if the environment names one: the launcher's conformance suite and a whole scheduler on jobs that are made
//! for it and deleted at the end. What can be tried of this without one is tried on the double. See `docs/jenkins.md`.

mod harness;
mod jobs;
mod played;
mod relay;
mod scenario;
mod server;

use harness::Harness;
use server::Server;

capomastro_testkit::build_launcher_conformance!(
    suite,
    Harness::real(Server::named().unwrap()),
    if Server::is_named("the launcher's conformance suite on a real Jenkins server")
);
