//! One thread, no runtime: which ready task goes on next is a throw of dice.

use super::dice::Dice;
use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
};

pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

struct Task {
    process: usize,
    ready: Arc<Flag>,
    waker: Waker,
    work: Work,
}

/// The tasks of all processes.
#[derive(Default)]
pub(super) struct Executor {
    tasks: Vec<Task>,
    ready: Vec<usize>,
}

impl Executor {
    pub(super) fn spawn(&mut self, process: usize, work: Work) {
        let ready = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&ready));
        self.tasks.push(Task { process, ready, waker, work });
    }

    /// Drops all tasks of a process where they stand: a crash.
    pub(super) fn kill(&mut self, process: usize) {
        self.tasks.retain(|task| task.process != process);
    }

    /// Lets one ready task of a process that may run go on to its next await. Returns its process.
    pub(super) fn step(&mut self, dice: &mut Dice, may_run: impl Fn(usize) -> bool) -> Option<usize> {
        self.ready.clear();
        for (place, task) in self.tasks.iter().enumerate() {
            if task.ready.0.load(Ordering::Acquire) && may_run(task.process) {
                self.ready.push(place);
            }
        }
        let place = match self.ready.len() {
            0 => return None,
            1 => self.ready[0],
            n => self.ready[dice.index(n)],
        };
        let task = &mut self.tasks[place];
        let process = task.process;
        task.ready.0.store(false, Ordering::Release);
        let mut context = Context::from_waker(&task.waker);
        if task.work.as_mut().poll(&mut context).is_ready() {
            drop(self.tasks.remove(place));
        }
        Some(process)
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// The answer of a part that has threads of its own: nothing else of the history goes on before it is there, so that the
/// speed of those threads changes nothing.
pub(super) fn at_once<T>(call: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    // Inside a task of a Tokio runtime, what is polled too often without a pause is never ready.
    let mut call = pin!(tokio::task::unconstrained(call));
    loop {
        if let Poll::Ready(answer) = call.as_mut().poll(&mut context) {
            return answer;
        }
        std::thread::park();
    }
}

/// One await at which others may go on, or a crash or a freeze may strike.
pub(super) async fn yield_once() {
    let mut first = true;
    std::future::poll_fn(move |context| {
        if std::mem::take(&mut first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}
