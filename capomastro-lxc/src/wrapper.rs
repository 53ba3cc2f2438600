//! The shell around a command inside its container: it brings what must not stand in an argument or on a disk, and says
//! how the command ended, so that a failure of the container is told apart from a status of the command. No I/O.

use capomastro_core::{
    Error, Result,
    command::{Command, Exit},
};
use std::{
    ffi::OsStr,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
};

/// What `/bin/sh` runs in the container, with the program and its arguments behind it.
///
/// Its standard input starts with a token, goes on with a script that sets up the environment and ends with the token
/// again; the rest is the command's. The shell reads it byte by byte, so that nothing of the rest is lost. Whatever the
/// command leaves running is killed before the end is told.
pub(crate) const WRAPPER: &str = r#"IFS= read -r CAPOMASTRO_TOKEN
CAPOMASTRO_SCRIPT=
while IFS= read -r CAPOMASTRO_LINE && [ "$CAPOMASTRO_LINE" != "$CAPOMASTRO_TOKEN" ]; do
    CAPOMASTRO_SCRIPT="$CAPOMASTRO_SCRIPT$CAPOMASTRO_LINE
"
done
capomastro_end() {
    kill -9 -1 2>/dev/null
    printf '\n%s %s\n' "$CAPOMASTRO_TOKEN" "$1" >&2
    exit 0
}
capomastro_find() {
    case $1 in
    */*)
        if [ ! -f "$1" ]; then capomastro_end missing; elif [ ! -x "$1" ]; then capomastro_end denied; fi
        ;;
    *)
        CAPOMASTRO_FOUND=missing
        set -f
        IFS=:
        for CAPOMASTRO_DIR in $PATH; do
            CAPOMASTRO_FILE=${CAPOMASTRO_DIR:-.}/$1
            if [ -f "$CAPOMASTRO_FILE" ]; then
                if [ -x "$CAPOMASTRO_FILE" ]; then CAPOMASTRO_FOUND=; break; fi
                CAPOMASTRO_FOUND=denied
            fi
        done
        unset IFS
        set +f
        if [ -n "$CAPOMASTRO_FOUND" ]; then capomastro_end "$CAPOMASTRO_FOUND"; fi
        ;;
    esac
}
unset container OLDPWD SHLVL
eval "$CAPOMASTRO_SCRIPT" || capomastro_end setup
unset CAPOMASTRO_SCRIPT CAPOMASTRO_LINE
capomastro_find "$1"
(exec "$@")
capomastro_end "$?"
"#;

/// Where the texts of secret files are, inside.
const FILES: &str = "/run/capomastro";
/// Where a command runs that names no folder, inside.
const EMPTY: &str = "/tmp";

/// How a command ended, as the wrapper tells it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It ran.
    Exit(Exit),
    /// There is no such program.
    Missing,
    /// The program may not be run.
    Denied,
    /// There is no such working directory.
    NoFolder,
    /// The environment could not be set up.
    NotSetUp,
}

/// The standard input of the wrapper.
///
/// # Errors
/// What a shell cannot hold: NUL bytes, and names of variables that are no identifiers.
pub(crate) fn input(command: &Command, token: &str) -> Result<Vec<u8>> {
    let mut script = Vec::new();
    script.extend_from_slice(b"umask 022\n");
    let dir = match &command.dir {
        Some(dir) => dir.as_os_str(),
        None => OsStr::new(EMPTY),
    };
    script.extend_from_slice(b"CDPATH= cd -- ");
    quote(&mut script, dir.as_bytes())?;
    script.extend_from_slice(b" 2>/dev/null || capomastro_end nodir\nunset PWD OLDPWD\n");
    if !command.secret_files.is_empty() {
        script.extend_from_slice(format!("umask 077\nmkdir {FILES} || capomastro_end setup\n").as_bytes());
        for (n, (name, text)) in command.secret_files.iter().enumerate() {
            let path = format!("{FILES}/{n}");
            script.extend_from_slice(b"printf '%s' ");
            quote(&mut script, text.expose().as_bytes())?;
            script.extend_from_slice(format!(" >{path} || capomastro_end setup\n").as_bytes());
            export(&mut script, name, path.as_bytes())?;
        }
        script.extend_from_slice(b"umask 022\n");
    }
    // Kept out of the wrapper's own way: it looks programs up with it.
    script.extend_from_slice(b"unset PATH\n");
    for (name, value) in &command.env {
        export(&mut script, name, value.as_bytes())?;
    }
    for (name, value) in &command.secret_env {
        export(&mut script, name, value.expose().as_bytes())?;
    }
    script.extend_from_slice(b":\n");
    let mut input = Vec::with_capacity(script.len() + command.stdin.len() + 2 * token.len() + 2);
    for part in [token.as_bytes(), b"\n", &script, token.as_bytes(), b"\n", &command.stdin] {
        input.extend_from_slice(part);
    }
    Ok(input)
}

fn export(script: &mut Vec<u8>, name: &OsStr, value: &[u8]) -> Result<()> {
    let text = name.to_str().unwrap_or_default();
    let is_identifier = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit());
    if !is_identifier || text.starts_with("CAPOMASTRO_TOKEN") || text == "IFS" {
        return Err(Error::invalid(
            "a variable's name cannot be set inside a container: use letters, digits and underscores",
        )
        .with_context("name", name.to_string_lossy().escape_debug()));
    }
    script.extend_from_slice(format!("export {text}=").as_bytes());
    quote(script, value)?;
    script.push(b'\n');
    Ok(())
}

fn quote(script: &mut Vec<u8>, text: &[u8]) -> Result<()> {
    if text.contains(&0) {
        return Err(Error::invalid("a value contains a NUL, which no program can be given: remove it"));
    }
    script.push(b'\'');
    for byte in text {
        match byte {
            b'\'' => script.extend_from_slice(br"'\''"),
            byte => script.push(*byte),
        }
    }
    script.push(b'\'');
    Ok(())
}

/// Takes the wrapper's last word out of standard error: how the command ended, if it was said, and what the command
/// itself wrote there.
pub(crate) fn read(stderr: Vec<u8>, token: &str) -> (Option<End>, Vec<u8>) {
    let mark = format!("\n{token} ").into_bytes();
    let Some(at) = stderr.windows(mark.len()).rposition(|w| w == mark) else { return (None, stderr) };
    let word = stderr[at + mark.len()..].split(|b| *b == b'\n').next().unwrap_or_default();
    let end = match word {
        b"missing" => End::Missing,
        b"denied" => End::Denied,
        b"nodir" => End::NoFolder,
        b"setup" => End::NotSetUp,
        number => match str::from_utf8(number).ok().and_then(|n| n.parse::<u8>().ok()) {
            Some(code) => End::Exit(exit(code)),
            None => return (None, stderr),
        },
    };
    let mut said = stderr;
    said.truncate(at);
    (Some(end), said)
}

/// A shell tells a signal as a status of 128 and more; a command that returns such a status itself is not told apart.
fn exit(code: u8) -> Exit {
    match code {
        129..=192 => Exit::Signal(i32::from(code) - 128),
        code => Exit::Code(i32::from(code)),
    }
}

/// The arguments of `lxc-execute` behind its own options: the wrapper, the program, the program's arguments.
pub(crate) fn arguments(command: &Command) -> Result<Vec<std::ffi::OsString>> {
    let words = [&command.program].into_iter().chain(&command.args);
    let mut arguments: Vec<std::ffi::OsString> =
        ["/bin/sh", "-c", WRAPPER, "capomastro"].map(Into::into).into();
    for word in words {
        if word.as_bytes().contains(&0) {
            return Err(Error::invalid("an argument contains a NUL: remove it"));
        }
        arguments.push(std::ffi::OsString::from_vec(word.as_bytes().to_vec()));
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::secret::Secret;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn the_last_word_is_taken_out() {
        for (stderr, end, said) in [
            ("\n0123456789abcdef 0\n", Some(End::Exit(Exit::Code(0))), ""),
            ("a\nb\n\n0123456789abcdef 3\n", Some(End::Exit(Exit::Code(3))), "a\nb\n"),
            ("\n0123456789abcdef 137\n", Some(End::Exit(Exit::Signal(9))), ""),
            ("\n0123456789abcdef 255\n", Some(End::Exit(Exit::Code(255))), ""),
            ("\n0123456789abcdef missing\nlxc-execute: noise", Some(End::Missing), ""),
            ("\n0123456789abcdef denied\n", Some(End::Denied), ""),
            ("\n0123456789abcdef nodir\n", Some(End::NoFolder), ""),
            ("\n0123456789abcdef setup\n", Some(End::NotSetUp), ""),
            (
                "x\n0123456789abcdef 0\ny\n0123456789abcdef 4\n",
                Some(End::Exit(Exit::Code(4))),
                "x\n0123456789abcdef 0\ny",
            ),
            ("\n0123456789abcdef 256\n", None, "\n0123456789abcdef 256\n"),
            ("lxc-execute: failed", None, "lxc-execute: failed"),
            ("", None, ""),
        ] {
            let (got, rest) = read(stderr.into(), TOKEN);
            assert_eq!((got, str::from_utf8(&rest).unwrap()), (end, said), "{stderr:?}");
        }
    }

    #[test]
    fn what_a_shell_cannot_hold_is_refused() {
        for command in [
            Command::new("a").env("a.b", "c"),
            Command::new("a").env("", "c"),
            Command::new("a").env("1a", "c"),
            Command::new("a").env("A B", "c"),
            Command::new("a").env("IFS", "c"),
            Command::new("a").env("A", "c\0"),
            Command::new("a").secret_env("A", Secret::new("hunter2\0")),
            Command::new("a").secret_file("A", Secret::new("hunter2\0")),
            Command::new("a").dir("/a\0b"),
        ] {
            let e = input(&command, TOKEN).unwrap_err();
            assert!(!e.report().contains("hunter2"));
            assert_eq!(e.kind(), capomastro_core::ErrorKind::InvalidInput);
        }
        assert!(arguments(&Command::new("a").arg("b\0")).is_err());
    }
}
