//! What PostgreSQL says, in the words of the library.

use capomastro_core::{
    Error, ErrorKind, Retry,
    store::refusals::{move_unfinished, moved_away},
};
use std::error::Error as _;

/// What a failure means for the call that met it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing was written, and the same call may well succeed at once: it lost a race.
    Race,
    /// Nothing was written.
    Nothing,
    /// The connection ended: it is not known what was written.
    Unknown,
}

/// What a failure is: kind, advice, effect, and what to do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Meaning {
    kind: ErrorKind,
    retry: Retry,
    effect: Effect,
    what_to_do: &'static str,
}

const fn nothing(kind: ErrorKind, retry: Retry, what_to_do: &'static str) -> Meaning {
    Meaning { kind, retry, effect: Effect::Nothing, what_to_do }
}

const RACE: Meaning = Meaning {
    kind: ErrorKind::Unavailable,
    retry: Retry::Backoff,
    effect: Effect::Race,
    what_to_do: "other transactions were in the way again and again: try again, and if it lasts, look for one that holds locks on the store's tables",
};

const LOST: Meaning = Meaning {
    kind: ErrorKind::Unavailable,
    retry: Retry::Backoff,
    effect: Effect::Unknown,
    what_to_do: "the connection to the database ended: check that the server runs and the network to it holds",
};

/// The meaning of a code (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
///
/// An unknown code means what its class means, so that a newer server is understood too.
fn meaning(code: &str) -> Meaning {
    use ErrorKind as K;
    use Retry::{Backoff, Never};
    match (code.get(..2).unwrap_or_default(), code) {
        // Somebody else took a key first, or two transactions waited for each other.
        ("40", "40001" | "40P01") | ("55", "55P03") | ("23", "23505") => RACE,
        ("08", _) | ("40", "40003") | ("57", "57P01" | "57P02" | "57P04" | "57P05") | ("25", "25P03") => LOST,
        ("57", "57P03") => nothing(
            K::Unavailable,
            Backoff,
            "the database is starting, stopping or recovering: try again when it is up",
        ),
        ("57", _) => nothing(
            K::TimedOut,
            Backoff,
            "the database stopped the statement: look for a statement_timeout that is too short, a busy server, or locks that others hold",
        ),
        ("28", _) => nothing(
            K::PermissionDenied,
            Never,
            "the database does not let this user in: check user name, password and pg_hba.conf",
        ),
        ("42", "42501") => nothing(
            K::PermissionDenied,
            Never,
            "the database user lacks rights: let the owner of the schema run the migrations, and grant USAGE on the schema and its sequence, and SELECT, INSERT, UPDATE and DELETE on its tables",
        ),
        ("3D", _) => {
            nothing(K::InvalidConfig, Never, "there is no such database: create it, or name another one")
        }
        ("3F", _) => nothing(
            K::InvalidConfig,
            Never,
            "the schema of the store is gone: restore it, or open the store again to make it anew",
        ),
        ("25", "25006") => nothing(
            K::ReadOnly,
            Never,
            "the database can only be read: connect to the primary server (target_session_attrs=read-write), and check default_transaction_read_only",
        ),
        ("25", "25P02") => nothing(
            K::InvalidInput,
            Never,
            "the transaction has failed before: roll it back and begin a new one",
        ),
        ("53", "53100") => nothing(
            K::StorageFull,
            Backoff,
            "the database's disk is full: free some room; nothing was written",
        ),
        ("53", "53300") => nothing(
            K::Unavailable,
            Backoff,
            "the database takes no more connections: raise max_connections, use smaller pools, or put a pooler in between",
        ),
        ("53", _) => nothing(
            K::Unavailable,
            Backoff,
            "the database is short of memory or another resource: look in its log",
        ),
        ("58", _) => nothing(
            K::Unavailable,
            Backoff,
            "reading or writing the database's files failed: look in its log",
        ),
        ("XX", "XX001" | "XX002") => nothing(
            K::Corrupt,
            Never,
            "the database says that its files are damaged: stop it, keep a copy, and restore a backup",
        ),
        ("54", _) | ("22", "22021" | "22P05") => nothing(
            K::InvalidInput,
            Never,
            "a record is larger or of another form than PostgreSQL can keep: split what it describes into smaller parts",
        ),
        ("CM", "CM002") => nothing(
            K::InvalidInput,
            Never,
            "a transaction has more than 65,536 events: do less in one transaction",
        ),
        ("CM", "CM003") => nothing(
            K::NewerFormat,
            Never,
            "a newer version of the library has changed the store so that this one cannot go on: upgrade this process",
        ),
        ("42", "42883" | "42P01" | "42703") => nothing(
            K::Corrupt,
            Never,
            "a table or function of the store is missing: restore a backup, and check that no other program changes the schema",
        ),
        _ => nothing(
            K::Internal,
            Never,
            "PostgreSQL refused a statement of the store: report this with the whole message, and check that no other program changes the schema",
        ),
    }
}

fn meaning_of(e: &tokio_postgres::Error) -> Meaning {
    if let Some(code) = e.code() {
        return meaning(code.code());
    }
    let text = e.to_string();
    if text.starts_with("error performing TLS handshake") {
        let unverified = std::iter::successors(e.source(), |e| (*e).source()).any(is_of_rustls);
        let what_to_do = if unverified {
            "the certificate of the database is not trusted for this host: give the root certificate that it was signed with, and the host name that it was made for"
        } else {
            "no TLS could be agreed on with the database: turn TLS on at the server, or say sslmode=disable where the network is trusted"
        };
        return nothing(ErrorKind::InvalidConfig, Retry::Never, what_to_do);
    }
    let asks = e.source().is_some_and(|e| e.to_string() == "password missing");
    if asks || text.starts_with("authentication error") {
        return nothing(
            ErrorKind::PermissionDenied,
            Retry::Never,
            "the database asks for a password or way of logging in that was not given: give it, and check pg_hba.conf",
        );
    }
    if text.starts_with("invalid configuration") || text.starts_with("invalid connection string") {
        return nothing(
            ErrorKind::InvalidConfig,
            Retry::Never,
            "the connection string cannot be used: correct it",
        );
    }
    if text.starts_with("error connecting to server") {
        return nothing(
            ErrorKind::Unavailable,
            Retry::Backoff,
            "the database cannot be reached: check host, port, and that the server runs and listens there",
        );
    }
    if text.starts_with("error serializing parameter") || text.starts_with("error deserializing column") {
        return nothing(
            ErrorKind::Internal,
            Retry::Never,
            "an answer of the database is not of the form of the store: report this, and check that no other program changes the schema",
        );
    }
    LOST
}

fn is_of_rustls(e: &(dyn std::error::Error + 'static)) -> bool {
    e.is::<rustls::Error>()
        || e.downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .is_some_and(|e| e.is::<rustls::Error>())
}

/// What a failure means for the call that met it.
pub(crate) fn effect(e: &tokio_postgres::Error) -> Effect {
    meaning_of(e).effect
}

/// The library's error for a failure after which nothing was written.
pub(crate) fn error(e: tokio_postgres::Error) -> Error {
    if let Some(db) = e.as_db_error() {
        match db.code().code() {
            "CM004" => return move_unfinished(db.message()),
            "CM005" => return moved_away(db.message()),
            _ => {}
        }
    }
    let m = meaning_of(&e);
    let error = Error::new(m.kind, m.what_to_do).with_retry(m.retry);
    // What a server says of a login names the user, never a password.
    error.with_source(e)
}

/// The answer to a commit of which nobody knows whether it was written.
pub(crate) fn unknown(cause: Error) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        "it is not known whether the commit was written, because the database went away in the middle of it: repeat the same commit",
    )
    .with_source(cause)
}

/// The library's error for a call of a store that is open. A server that takes no writes now may do so soon: it was the
/// primary, or is about to be.
pub(crate) fn of_call(e: tokio_postgres::Error) -> Error {
    if e.code().is_none_or(|code| code.code() != "25006") {
        return error(e);
    }
    Error::new(
        ErrorKind::Unavailable,
        "the database takes no writes now: if no other server is about to take over, connect to the primary (target_session_attrs=read-write), and check default_transaction_read_only",
    )
    .with_source(e)
}

/// Another transaction was in the way of one that is the caller's own.
pub(crate) fn in_the_way(e: tokio_postgres::Error) -> Error {
    Error::new(
        ErrorKind::Conflict,
        "another transaction was in the way: roll back, read again, decide again and begin a new transaction",
    )
    .with_source(e)
}

/// No answer came in time.
pub(crate) fn too_late(deadline: std::time::Duration) -> Error {
    Error::new(
        ErrorKind::TimedOut,
        "the database did not answer in time: check the network to it, its load, and locks that others hold",
    )
    .with_context("deadline", format_args!("{deadline:?}"))
}

/// The error of every call after the store was closed.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the store was closed, or its runtime has ended: open it again")
        .with_retry(Retry::Never)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_kind_advice_and_effect() {
        use Effect::{Nothing, Race, Unknown};
        use ErrorKind as K;
        use Retry::{Backoff, Never};
        for (code, kind, retry, effect) in [
            ("40001", K::Unavailable, Backoff, Race),
            ("40P01", K::Unavailable, Backoff, Race),
            ("55P03", K::Unavailable, Backoff, Race),
            ("23505", K::Unavailable, Backoff, Race),
            ("08000", K::Unavailable, Backoff, Unknown),
            ("08006", K::Unavailable, Backoff, Unknown),
            ("08P01", K::Unavailable, Backoff, Unknown),
            ("40003", K::Unavailable, Backoff, Unknown),
            ("57P01", K::Unavailable, Backoff, Unknown),
            ("57P02", K::Unavailable, Backoff, Unknown),
            ("25P03", K::Unavailable, Backoff, Unknown),
            ("57P03", K::Unavailable, Backoff, Nothing),
            ("57014", K::TimedOut, Backoff, Nothing),
            ("28P01", K::PermissionDenied, Never, Nothing),
            ("28000", K::PermissionDenied, Never, Nothing),
            ("42501", K::PermissionDenied, Never, Nothing),
            ("3D000", K::InvalidConfig, Never, Nothing),
            ("3F000", K::InvalidConfig, Never, Nothing),
            ("25006", K::ReadOnly, Never, Nothing),
            ("25P02", K::InvalidInput, Never, Nothing),
            ("53100", K::StorageFull, Backoff, Nothing),
            ("53200", K::Unavailable, Backoff, Nothing),
            ("53300", K::Unavailable, Backoff, Nothing),
            ("58030", K::Unavailable, Backoff, Nothing),
            ("XX001", K::Corrupt, Never, Nothing),
            ("54000", K::InvalidInput, Never, Nothing),
            ("22021", K::InvalidInput, Never, Nothing),
            ("22P05", K::InvalidInput, Never, Nothing),
            ("CM002", K::InvalidInput, Never, Nothing),
            ("CM003", K::NewerFormat, Never, Nothing),
            ("42883", K::Corrupt, Never, Nothing),
            ("42P01", K::Corrupt, Never, Nothing),
            ("23502", K::Internal, Never, Nothing),
            ("XX000", K::Internal, Never, Nothing),
            ("", K::Internal, Never, Nothing),
            ("ä", K::Internal, Never, Nothing),
        ] {
            let m = meaning(code);
            assert_eq!((m.kind, m.retry, m.effect), (kind, retry, effect), "{code}");
            assert!(m.what_to_do.contains(": "), "says what to do: {}", m.what_to_do);
        }
    }
}
