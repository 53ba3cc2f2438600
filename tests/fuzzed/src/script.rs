//! What scripts print, in both languages.

use super::{SECRET, is_decent, parts};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    command::{Command, CommandOutput, CommandRunner, Exit},
    model::Revision,
    probe::{Ask, Probed, RevisionProbe as _},
    secret::{FixedSecrets, Secrets},
};
use capomastro_probes::script::{ScriptProbe, ScriptSource};
use capomastro_testkit::ManualClock;
use std::{sync::Arc, time::Duration};

#[derive(Debug)]
struct Prints(std::result::Result<CommandOutput, String>);

#[async_trait]
impl CommandRunner for Prints {
    async fn run(&self, command: &Command) -> Result<CommandOutput> {
        let value = command.secret_env.values().next().expect("the script's secret").expose();
        assert_eq!(value, SECRET);
        // Runners bound what they return.
        match &self.0 {
            Ok(output) if output.stdout.len() <= command.max_output => {
                let mut output = output.clone();
                let tail = output.stderr.len().saturating_sub(command.max_output);
                output.stderr.drain(..tail);
                Ok(output)
            }
            Ok(_) => Err(Error::new(ErrorKind::Corrupt, "too much was printed")),
            Err(text) => {
                Err(Error::new(ErrorKind::Unavailable, "it cannot be run").with_context("why", text))
            }
        }
    }
}

/// One line `<token|changed> <exit|signal N|error> <last seen or -> [debt] [building] [wanted]`, then what the script
/// prints, then what it says on standard error.
pub fn script_output(data: &[u8]) -> bool {
    let mut parts = parts(data).into_iter();
    let head = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    if head.contains(SECRET) {
        return false;
    }
    let (stdout, stderr) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut words = head.split_whitespace();
    let is_token = words.next() != Some("changed");
    let how = words.next().unwrap_or("0");
    let output = |exit| CommandOutput::new(exit, stdout.to_vec(), stderr.to_vec());
    let ran = match how {
        "signal" => Ok(output(Exit::Signal(9))),
        "error" => {
            Err(String::from_utf8_lossy(stderr).chars().take(300).flat_map(char::escape_debug).collect())
        }
        code => Ok(output(Exit::Code(code.parse().unwrap_or(0)))),
    };
    let source = match is_token {
        true => ScriptSource::token(["look"]),
        false => ScriptSource::changed(["look"]),
    };
    let source = source.secret_env("TOKEN", "token").into_source("script").unwrap();
    let secrets = Secrets::new(Arc::new(FixedSecrets::default().with("token", SECRET)));
    let mut ask = Ask::new("lib".parse().unwrap(), source, Duration::from_secs(60), secrets);
    ask.seen = words.next().filter(|w| *w != "-").and_then(|w| w.parse().ok());
    ask.accounted = ask.seen.clone();
    for word in words {
        match word {
            "debt" => ask.accounted = None,
            "building" => ask.building = true,
            "wanted" => ask.wanted = true,
            _ => {}
        }
    }
    let ended_with = match &ran {
        Ok(CommandOutput { exit: Exit::Code(code), .. }) => Some(*code),
        _ => None,
    };
    let clock = Arc::new(ManualClock::default());
    let probe = ScriptProbe::new(Arc::new(Prints(ran))).with_clock(clock);
    let mut answers = futures_util::FutureExt::now_or_never(probe.probe(std::slice::from_ref(&ask)))
        .expect("nothing is waited for");
    assert_eq!(answers.len(), 1);
    let answer = answers.remove(0);
    if let Err(error) = &answer {
        is_decent(error);
    }
    let expected = if is_token { token(ended_with, stdout) } else { changed(ended_with, &ask) };
    match (answer, expected) {
        (Ok(got), Some(expected)) => assert_eq!(got, expected),
        (Err(_), None) => return false,
        (got, expected) => panic!("{got:?} and not {expected:?}"),
    }
    true
}

/// What the manual says of a token.
fn token(code: Option<i32>, stdout: &[u8]) -> Option<Probed> {
    let line = stdout.strip_suffix(b"\n").unwrap_or(stdout);
    let text = str::from_utf8(line).ok().filter(|_| code == Some(0))?;
    let is_one_line = !text.is_empty() && text.len() <= 1_024 && !text.contains(['\n', '\r', '\0']);
    is_one_line.then(|| Probed::revision(text).unwrap())
}

/// What the manual says of true and false.
fn changed(code: Option<i32>, ask: &Ask) -> Option<Probed> {
    let number = |r: &Revision| r.as_str().parse::<u64>().ok()?.checked_add(1);
    match (code?, &ask.seen) {
        (0, None) => Probed::revision("1").ok(),
        (0, Some(_)) if ask.in_debt() || ask.building => Some(Probed::SameAsSeen),
        (0, Some(seen)) => Probed::revision(number(seen)?.to_string()).ok(),
        (1, Some(_)) => Some(Probed::SameAsSeen),
        (1, None) if ask.wanted => Probed::revision("1").ok(),
        (1, None) => Some(Probed::Nothing),
        _ => None,
    }
}
