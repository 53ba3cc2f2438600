//! What stands between a launcher and a server without TLS, and can be cut, or lose the answer to a launch.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Of a request that starts a build.
const LAUNCH: &[u8] = b"/buildWithParameters";

#[derive(Debug)]
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    cut: watch::Sender<bool>,
    loses: Arc<AtomicBool>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Relay {
    /// A relay before the server with this host and port.
    pub(super) fn before(server: String) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        let loses = Arc::new(AtomicBool::new(false));
        let will_lose = Arc::clone(&loses);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, loses, mut is_cut) = (server.clone(), Arc::clone(&will_lose), is_cut.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        _ = is_cut.wait_for(|cut| *cut) => {}
                        () = carry(client, &server, &loses) => {}
                    }
                });
            }
        });
        Self { address, cut, loses, accepting }
    }

    pub(super) fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    /// The answer to the next launch does not arrive.
    pub(super) fn lose_answer(&self) {
        self.loses.store(true, Ordering::SeqCst);
    }
}

/// Carries bytes until either side ends.
async fn carry(mut client: TcpStream, server: &str, loses: &AtomicBool) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let mut is_lost = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                if asked[..read].windows(LAUNCH.len()).any(|part| part == LAUNCH) {
                    is_lost |= loses.swap(false, Ordering::SeqCst);
                }
                if server.write_all(&asked[..read]).await.is_err() { return }
            }
            read = server.read(&mut answered) => {
                let Ok(read @ 1..) = read else { return };
                if is_lost || client.write_all(&answered[..read]).await.is_err() { return }
            }
        }
    }
}
