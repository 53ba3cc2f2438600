//! One error for the whole library: what kind, whether to try again, what was being done.

use std::{error::Error as StdError, fmt, time::Duration};

/// What every fallible function of Capomastro returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a caller can act on it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was asked for does not exist.
    NotFound,
    /// A name or id is taken.
    AlreadyExists,
    /// Something that the operation had read has changed meanwhile; read again and repeat.
    Conflict,
    /// The claim under which the work was done is held by another one now.
    ClaimLost,
    /// A lock's lease is not ours any more.
    LeaseLost,
    /// The dependency is held by a build, or its queue is full, and the policy says to discard loudly.
    Held,
    /// The dependency is paused.
    Paused,
    /// The other side cannot be reached or does not work now.
    Unavailable,
    /// The other side did not answer within the deadline.
    TimedOut,
    /// Too much was asked for at once.
    RateLimited,
    /// It is not known whether the operation took effect.
    OutcomeUnknown,
    /// The other side knows us and says no, or does not know us.
    PermissionDenied,
    /// A value given to the call is not acceptable.
    InvalidInput,
    /// A stored or given configuration is not acceptable.
    InvalidConfig,
    /// Stored or received data is damaged or not of the promised form.
    Corrupt,
    /// Stored data was written by a newer version of the library.
    NewerFormat,
    /// The store cannot be written.
    ReadOnly,
    /// No room is left where data would be kept.
    StorageFull,
    /// This implementation cannot do that.
    Unsupported,
    /// The work was stopped because somebody asked for it.
    Cancelled,
    /// A defect in Capomastro or in an implementation of its traits.
    Internal,
}

impl ErrorKind {
    /// The kind's name as it stands in logs and metrics, in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::ClaimLost => "claim_lost",
            Self::LeaseLost => "lease_lost",
            Self::Held => "held",
            Self::Paused => "paused",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed_out",
            Self::RateLimited => "rate_limited",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::PermissionDenied => "permission_denied",
            Self::InvalidInput => "invalid_input",
            Self::InvalidConfig => "invalid_config",
            Self::Corrupt => "corrupt",
            Self::NewerFormat => "newer_format",
            Self::ReadOnly => "read_only",
            Self::StorageFull => "storage_full",
            Self::Unsupported => "unsupported",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    const fn default_retry(self) -> Retry {
        match self {
            Self::Unavailable | Self::TimedOut | Self::RateLimited | Self::StorageFull | Self::Held => {
                Retry::Backoff
            }
            Self::Conflict => Retry::Again,
            Self::OutcomeUnknown => Retry::SameAgain,
            _ => Retry::Never,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether trying again can help.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// The same call will fail again until somebody changes something.
    Never,
    /// Read again, decide again, and try at once.
    Again,
    /// Repeat the very same call with the same id or key; it is harmless if it took effect.
    SameAgain,
    /// Try again later, each time after a longer wait.
    Backoff,
    /// Try again after this long.
    After(Duration),
}

/// An error: a kind, retry advice, a message, what was being done, and the cause.
///
/// `Display` is a lower-case fragment and never repeats the cause; [`Error::report`] prints the whole chain.
/// No secret may be put into any part of it.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    message: String,
    operation: Option<&'static str>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The longest context value or message that an error keeps, in bytes.
const MAX_TEXT: usize = 2_000;

impl Error {
    /// An error of `kind` with a message that fits behind "failed to …".
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            retry: kind.default_retry(),
            message: bounded(message.into()),
            operation: None,
            context: Vec::new(),
            source: None,
        }))
    }

    /// A passing fault of the other side, with its cause.
    pub fn transient(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Unavailable, "unavailable").with_source(source)
    }

    /// What the caller gave is not acceptable; `message` says what to do.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// A configuration is not acceptable; `message` says what to do.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidConfig, message)
    }

    /// A defect of the program.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error with other retry advice than its kind implies.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// The same error naming the operation in which it arose, unless one is named already.
    #[must_use]
    pub fn with_operation(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// The same error with one more fact for the reader. Never a secret.
    #[must_use]
    pub fn with_context(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, bounded(value.to_string())));
        self
    }

    /// The same error once more: its causes become part of its message, for a cause cannot be copied.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::new(self.kind(), self.report()).with_retry(self.retry())
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// The message alone, without operation and context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The operation in which it arose.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The facts given for the reader.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(k, v)| (*k, v.as_str()))
    }

    /// The error and all its causes on one line.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(e) = cause {
            text.push_str(": ");
            text.push_str(&e.to_string());
            cause = e.source();
        }
        bounded(text)
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let mut end = MAX_TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = self.0.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.0.message)?;
        for (i, (key, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{key}={value}", if i == 0 { " (" } else { ", " })?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error[{}] {}", self.0.kind, self.report())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_does_not_repeat_its_source_and_report_does() {
        let e = Error::transient(std::io::Error::other("refused"))
            .with_operation("probe")
            .with_context("host", "example.org");
        assert_eq!(e.to_string(), "probe: unavailable (host=example.org)");
        assert_eq!(e.report(), "probe: unavailable (host=example.org): refused");
        assert_eq!(e.retry(), Retry::Backoff);
    }

    #[test]
    fn texts_are_bounded_at_a_character() {
        let e = Error::invalid("ä".repeat(5_000));
        assert!(e.message().len() < MAX_TEXT + 8);
        assert!(e.message().ends_with('…'));
    }
}
