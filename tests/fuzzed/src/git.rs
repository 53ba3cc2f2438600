//! Servers that speak git, or do not.

use super::{CUT, SECRET, is_decent, parts, says_no_secret};
use capomastro_core::{
    Result,
    probe::{Ask, Probed, RevisionProbe as _},
    secret::{FixedSecrets, Secrets},
    time::{Clock as _, SystemClock},
};
use capomastro_probes::git::{GitProbe, GitSource};
use std::{io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

/// Far longer than any answer takes: a probe that needs it hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// How often a client is let go on before it counts as waiting.
const TURNS: usize = 500;

struct Server {
    runtime: Runtime,
    listener: TcpListener,
    probe: GitProbe,
    port: u16,
}

thread_local! {
    static SERVER: Server = {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(1).build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let probe = runtime.block_on(async { GitProbe::new() });
        Server { runtime, listener, probe, port }
    };
}

/// Answers of a git daemon: what it says first, and what it says to a command.
pub fn git_daemon(data: &[u8]) -> bool {
    if data.windows(SECRET.len()).any(|w| w == SECRET.as_bytes()) {
        // Nobody logs in to a daemon, so what it says is no secret of ours.
        return false;
    }
    let answers = parts(data);
    SERVER.with(|server| {
        let url = format!("git://127.0.0.1:{}/a", server.port);
        let asks = ["main", "other"].map(|b| ask(GitSource::new(&url).branch(b)));
        server.probe(&asks, async {
            let (mut stream, _) = server.listener.accept().await.unwrap();
            for answer in answers {
                if !heard(&mut stream, b"").await {
                    break;
                }
                if stream.write_all(answer).await.is_err() {
                    break;
                }
            }
            // What happens after a client has hung up is no concern of this end.
            drop(stream.shutdown().await);
            vec![stream]
        })
    })
}

/// Answers of a web server, one for each request, with their heads.
pub fn git_http(data: &[u8]) -> bool {
    let answers = parts(data);
    SERVER.with(|server| {
        let url = format!("http://127.0.0.1:{}/a", server.port);
        let asks = ["main", "other"].map(|b| ask(GitSource::new(&url).branch(b).login("robot", "token")));
        server.probe(&asks, async {
            let mut streams = Vec::new();
            for answer in answers {
                let (mut stream, _) = server.listener.accept().await.unwrap();
                if heard(&mut stream, b"\r\n\r\n").await {
                    drop(stream.write_all(answer).await);
                    drop(stream.shutdown().await);
                }
                streams.push(stream);
            }
            // Whoever asks more is told nothing.
            loop {
                drop(server.listener.accept().await.unwrap());
                if streams.len() > 100 {
                    return streams;
                }
            }
        })
    })
}

/// Whether the client says something that ends its turn. Both ends run on this thread, so that a client which has had its
/// turn so often and says nothing waits for us: it is told no more, or both would wait for ever.
async fn heard(stream: &mut TcpStream, end: &[u8]) -> bool {
    let mut said = Vec::new();
    let mut buffer = [0; 4_096];
    for _ in 0..TURNS {
        match stream.try_read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => said.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => tokio::task::yield_now().await,
            Err(_) => return false,
        }
        if !said.is_empty() && said.windows(end.len().max(1)).any(|w| w.starts_with(end)) {
            return true;
        }
    }
    false
}

fn ask(source: GitSource) -> Ask {
    let secrets = Secrets::new(Arc::new(FixedSecrets::default().with("token", SECRET)));
    Ask::new("lib".parse().unwrap(), source.source("git").unwrap(), DEADLINE, secrets)
}

impl Server {
    fn probe(&self, asks: &[Ask], serve: impl Future<Output = Vec<TcpStream>>) -> bool {
        let answers = self.runtime.block_on(async {
            let mut serve = pin!(serve);
            let mut asked = pin!(self.probe.probe(asks));
            let mut late = SystemClock.sleep(DEADLINE);
            let mut streams = None;
            loop {
                tokio::select! {
                    answers = &mut asked => break answers,
                    () = &mut late => panic!("a probe hangs"),
                    served = &mut serve, if streams.is_none() => streams = Some(served),
                }
            }
        });
        assert_eq!(answers.len(), asks.len());
        // Each is checked, whatever the ones before it said.
        answers.iter().filter(|answer| check(answer)).count() > 0
    }
}

fn check(answer: &Result<Probed>) -> bool {
    match answer {
        Ok(Probed::Observed(observation)) => {
            let id = observation.revision.as_str();
            assert!(matches!(id.len(), 40 | 64), "{id}");
            assert!(id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
            says_no_secret(&format!("{observation:?}"));
            true
        }
        Ok(Probed::NotFound) => true,
        Ok(other) => panic!("git knows what it sees: {other:?}"),
        Err(error) => {
            is_decent(error);
            assert!(!error.report().contains(CUT));
            false
        }
    }
}
