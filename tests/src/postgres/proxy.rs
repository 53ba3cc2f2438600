//! A network between a client and a server, as bad as wanted.

use super::{
    endpoint::Endpoint,
    link::{Link, Lost, Rules, Shared, Toward},
    port,
};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener as Listener},
    rc::Rc,
    sync::mpsc as blocking,
    thread::JoinHandle,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{JoinSet, LocalSet},
};

/// How long the proxy's thread may take to obey.
const OBEY_LIMIT: Duration = Duration::from_secs(20);

/// Which direction says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// Requests do not arrive.
    Requests,
    /// Requests arrive, their answers do not.
    Answers,
    /// Nothing arrives.
    Both,
}

enum Order {
    /// Other rules, at once.
    Rule(Box<dyn FnOnce(&mut Rules) + Send>),
    /// Ends all connections.
    Cut { by_reset: bool },
    /// Takes new connections, or refuses them.
    Accept(bool),
    /// How many connections there are.
    Count(blocking::Sender<usize>),
}

/// A proxy before a server. It is a good network until told otherwise, and each order is obeyed when the call returns: no byte
/// passes after it that should not. It runs on a thread of its own, whatever the runtime of the test does.
///
/// To a silent network, bytes are not lost: they wait, as they do for a network that comes back, and pass after
/// [`Proxy::pass`]. To lose them, cut before.
#[derive(Debug)]
pub struct Proxy {
    endpoint: Endpoint,
    orders: Option<mpsc::UnboundedSender<(Order, blocking::Sender<()>)>>,
    cuts: watch::Receiver<u64>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rule(_) => "Rule",
            Self::Cut { .. } => "Cut",
            Self::Accept(_) => "Accept",
            Self::Count(_) => "Count",
        })
    }
}

impl Proxy {
    /// A good network before a cluster or a pooler.
    ///
    /// # Panics
    /// If no port is free.
    #[must_use]
    pub fn before(server: &Endpoint) -> Self {
        let listener = port::listen();
        let endpoint = server.through(listener.local_addr().expect("it listens").port());
        let (orders, taken) = mpsc::unbounded_channel();
        let (cuts, seen) = watch::channel(0);
        let upstream = server.port();
        let serve = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            LocalSet::new().block_on(&runtime, serve(listener, upstream, taken, cuts));
        };
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(serve).expect("a thread starts");
        Self { endpoint, orders: Some(orders), cuts: seen, thread: Some(thread) }
    }

    /// Where the server is through this network.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where this database is through this network.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.endpoint.url(database)
    }

    /// A good network again: what was held passes, new connections are taken.
    pub fn pass(&self) {
        self.rule(|rules| *rules = Rules::default());
        self.obeyed(Order::Accept(true));
    }

    /// Resets all connections, at both ends; new ones are taken.
    pub fn cut(&self) {
        self.obeyed(Order::Cut { by_reset: true });
    }

    /// Closes all connections in good order, at both ends; new ones are taken.
    pub fn close(&self) {
        self.obeyed(Order::Cut { by_reset: false });
    }

    /// Refuses new connections and resets those that are there, until [`Proxy::pass`].
    pub fn refuse(&self) {
        self.obeyed(Order::Accept(false));
        self.cut();
    }

    /// Says nothing, on connections that are there and on new ones, which are taken all the same, until [`Proxy::pass`].
    pub fn silence(&self, silent: Silent) {
        self.rule(move |rules| {
            rules.holds_requests = silent != Silent::Answers;
            rules.holds_answers = silent != Silent::Requests;
        });
    }

    /// From now on everything takes this much longer, in each direction, until [`Proxy::pass`].
    pub fn delay(&self, by: Duration) {
        self.rule(move |rules| rules.delay = by);
    }

    /// Lets so many more bytes pass in this direction, of all connections together; the byte after them resets its
    /// connection, at both ends. Once.
    pub fn cut_after(&self, toward: Toward, bytes: u64) {
        self.rule(move |rules| rules.cut_after = Some((toward, bytes)));
    }

    /// The next request that contains these words does not arrive: its connection is reset, at both ends. Once.
    ///
    /// It sees the bytes of the wire: the words of a prepared statement pass only when it is prepared, and with TLS there are
    /// no words.
    ///
    /// # Panics
    /// Without words.
    pub fn lose_request(&self, words: &str) {
        self.cut_at(words, Lost::Request);
    }

    /// The next request that contains these words arrives and is obeyed, and instead of the answer the connection is reset,
    /// at both ends. Once. See [`Proxy::lose_request`].
    ///
    /// # Panics
    /// Without words.
    pub fn lose_answer(&self, words: &str) {
        self.cut_at(words, Lost::Answer);
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        let (counted, count) = blocking::channel();
        self.obeyed(Order::Count(counted));
        count.recv().expect("it was counted")
    }

    /// How many connections the rules of [`Proxy::cut_after`], [`Proxy::lose_request`] and [`Proxy::lose_answer`] have cut.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        *self.cuts.borrow()
    }

    /// Waits until they have cut this many.
    pub async fn until_cuts(&self, at_least: u64) {
        let mut cuts = self.cuts.clone();
        cuts.wait_for(|n| *n >= at_least).await.expect("the proxy runs");
    }

    fn cut_at(&self, words: &str, lost: Lost) {
        assert!(!words.is_empty(), "words to look for");
        let words = words.as_bytes().to_vec();
        self.rule(move |rules| rules.cut_at = Some((words, lost)));
    }

    fn rule(&self, change: impl FnOnce(&mut Rules) + Send + 'static) {
        self.obeyed(Order::Rule(Box::new(change)));
    }

    fn obeyed(&self, order: Order) {
        let (done, obeyed) = blocking::channel();
        let orders = self.orders.as_ref().expect("only dropping it takes them");
        orders.send((order, done)).expect("the proxy runs");
        obeyed.recv_timeout(OBEY_LIMIT).expect("the proxy obeys");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, that was said.
            thread.join().ok();
        }
    }
}

type Links = Rc<RefCell<BTreeMap<u64, Link>>>;

async fn serve(
    listener: Listener,
    upstream: u16,
    mut orders: mpsc::UnboundedReceiver<(Order, blocking::Sender<()>)>,
    cuts: watch::Sender<u64>,
) {
    let address = listener.local_addr().expect("it listens");
    let listen = |l: Listener| {
        l.set_nonblocking(true).expect("a socket of ours");
        TcpListener::from_std(l).expect("a socket of ours")
    };
    let mut listener = Some(listen(listener));
    let shared = Rc::new(Shared { rules: RefCell::default(), changed: watch::Sender::new(()), cuts });
    let links = Links::default();
    let mut tasks = JoinSet::new();
    let mut next = 0;
    loop {
        let accepted = async {
            match &listener {
                Some(l) => l.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // An order comes before what it is about.
            biased;
            order = orders.recv() => {
                let Some((order, done)) = order else { return };
                match order {
                    Order::Rule(change) => change(&mut shared.rules.borrow_mut()),
                    Order::Cut { by_reset } => {
                        if by_reset {
                            links.borrow().values().for_each(Link::will_be_reset);
                        }
                        // The ends are closed when nothing holds them.
                        links.borrow_mut().clear();
                        tasks.shutdown().await;
                    }
                    Order::Accept(false) => listener = None,
                    Order::Accept(true) => {
                        if listener.is_none() {
                            listener = Some(listen(Listener::bind(address).expect("nobody took the port")));
                        }
                    }
                    Order::Count(counted) => drop(counted.send(links.borrow().len())),
                }
                shared.changed.send_replace(());
                done.send(()).ok();
            }
            Some(_) = tasks.join_next() => {}
            accepted = accepted => {
                let Ok((client, _)) = accepted else { continue };
                next += 1;
                tasks.spawn_local(connect(client, upstream, Rc::clone(&shared), next, Rc::clone(&links)));
            }
        }
    }
}

async fn connect(client: TcpStream, upstream: u16, shared: Rc<Shared>, number: u64, links: Links) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await else {
        // Nobody is there: that is what the client is to see.
        client.set_zero_linger().ok();
        return;
    };
    for end in [&client, &server] {
        // One that is gone already needs no haste.
        end.set_nodelay(true).ok();
    }
    let link = Link { client: Rc::new(client), server: Rc::new(server) };
    links.borrow_mut().insert(number, link.clone());
    link.run(shared, || drop(links.borrow_mut().remove(&number))).await;
}
