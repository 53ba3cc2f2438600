//! What every implementation of a trait must do, as cases: each a test of its own, none of which can be forgotten.
//!
//! An author of a store, launcher, probe or lock writes a small harness, which makes the thing that is tested, and one line.

mod abandon;
pub mod launcher;
pub mod lock;
pub mod probe;
pub mod state_store;
mod time;

pub use time::Time;

use capomastro_core::time::{Clock, SystemClock};
use futures_util::future::{BoxFuture, Either, select};
use std::{fmt, sync::Arc, time::Duration};

/// How long one case may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// One thing that every implementation must do. `H` is the harness of its suite.
pub struct Case<H: ?Sized> {
    /// What it is, as the name of a test.
    pub name: &'static str,
    run: for<'a> fn(&'a H) -> BoxFuture<'a, ()>,
}

impl<H: ?Sized + Sync> Case<H> {
    /// Tries it.
    ///
    /// # Panics
    /// If the implementation does not do it.
    pub async fn run(&self, harness: &H) {
        (self.run)(harness).await;
    }
}

impl<H: ?Sized> fmt::Debug for Case<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// Tries one case, by its name, on a runtime of its own with several threads. The harness is made on the thread of the
/// caller and within that runtime, so that it can open connections and spawn tasks, and dropped there outside of it, so that
/// it may own a runtime itself.
///
/// # Panics
/// If the implementation does not do it, or not within two minutes, or if there is no such case.
pub fn run<H: ?Sized + Send + Sync + 'static>(
    cases: &'static [Case<H>],
    name: &str,
    harness: impl FnOnce() -> Box<H>,
) {
    let case = cases.iter().find(|case| case.name == name).expect("a case of this name");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime for the case");
    let harness: Arc<H> = {
        let _within = runtime.enter();
        harness().into()
    };
    // A task of its own, so that the deadline is kept even if the case spins and never waits. It never has the harness for
    // itself: dropping that may block.
    let lent = Arc::clone(&harness);
    let tried = runtime.spawn(async move { case.run(&*lent).await });
    match runtime.block_on(async { select(tried, SystemClock.sleep(DEADLINE)).await }) {
        Either::Left((Ok(()), _)) => {}
        Either::Left((Err(failed), _)) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(failed) => panic!("{name} was not tried to its end: {failed}"),
        },
        Either::Right(_) => {
            runtime.shutdown_background();
            panic!("{name} did not end within {DEADLINE:?}");
        }
    }
}

/// Makes a suite's table of cases and its macro, which has a test for each case, from one list. Whatever case function is
/// not in the list is dead code, and the compiler says so.
macro_rules! suite {
    ($suite:ident, $harness:ident, $macro:ident: $($module:ident: $($case:ident)+;)+) => {
        /// All cases.
        pub const CASES: &[$crate::conformance::Case<dyn $harness>] = &[$($(
            $crate::conformance::Case { name: stringify!($case), run: |harness| Box::pin($module::$case(harness)) },
        )+)+];
        suite!(@macro ($) $suite $harness $macro $($($case)+)+);
    };
    (@macro ($d:tt) $suite:ident $harness:ident $macro:ident $($case:ident)+) => {
        /// One test for each case of the suite. The harness is an expression that makes one; it is evaluated for each
        /// test. With a name before it, the tests are in a module of that name. With `, if condition` behind it, a test
        /// does nothing where the condition is false: it is up to the condition to say loudly that a server is missing,
        /// and to fail where none may be.
        #[macro_export]
        macro_rules! $macro {
            ($d module:ident, $d harness:expr $d(, if $d there:expr)?) => {
                mod $d module {
                    #[allow(unused_imports, reason = "the harness may need nothing from outside")]
                    use super::*;
                    $d crate::$macro!($d harness $d(, if $d there)?);
                }
            };
            ($d harness:expr $d(, if $d there:expr)?) => {
                $(
                    #[test]
                    fn $case() {
                        $d(if !$d there { return; })?
                        $d crate::conformance::run(
                            $d crate::conformance::$suite::CASES,
                            stringify!($case),
                            || -> Box<dyn $d crate::conformance::$suite::$harness> { Box::new($d harness) },
                        );
                    }
                )+
            };
        }
    };
}
use suite;
