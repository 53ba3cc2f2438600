//! Processes as `/proc` tells them apart: a process id alone is reused.

use capomastro_core::model::LaunchKey;
use rustix::process::Pid;
use std::{fs, io::Read as _};

/// The name under which a build's processes carry the launch key in their environment.
pub(crate) const BUILD_ID: &str = "CAPOMASTRO_BUILD_ID";

/// What is used of a line of `/proc/<pid>/stat`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: i32,
    pub(crate) state: char,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// Clock ticks between the machine's start and the process's.
    pub(crate) start: u64,
}

impl Stat {
    /// Reads a line. The name of the program stands in parentheses and may contain blanks and parentheses itself.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(" (")?;
        let (_, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let _parent = fields.next()?;
        let group = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        // Field 22 of the line; the session was field 6.
        let start = fields.nth(15)?.parse().ok()?;
        Some(Self { pid: pid.parse().ok()?, state, group, session, start })
    }

    fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    const fn lives(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The record that a build has started: on which boot of the machine, and which process leads its session and group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    boot: String,
    leader: Stat,
}

impl Started {
    /// Reads the record as the build's own process wrote it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != "1" {
            return None;
        }
        Some(Self { boot: lines.next()?.to_owned(), leader: Stat::parse(lines.next()?)? })
    }

    /// Whether the machine has been restarted since.
    pub(crate) fn is_of_an_earlier_boot(&self) -> bool {
        boot_id().is_some_and(|boot| boot != self.boot)
    }

    /// The build's group, if any process of it still lives. The leader is known by its start time; where it has gone,
    /// others count that are in its session and carry the key in their environment.
    pub(crate) fn living_group(&self, key: LaunchKey) -> Option<Pid> {
        if self.is_of_an_earlier_boot() {
            return None;
        }
        let leader = self.leader;
        let lives = match Stat::of(leader.pid) {
            Some(now) if now.start != leader.start => false,
            Some(now) if now.lives() => true,
            _ => others().any(|p| {
                p.group == leader.pid
                    && p.session == leader.pid
                    && p.start >= leader.start
                    && p.lives()
                    && carries(p.pid, key)
            }),
        };
        if lives { Pid::from_raw(leader.pid) } else { None }
    }
}

fn others() -> impl Iterator<Item = Stat> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Stat::of)
}

fn carries(pid: i32, key: LaunchKey) -> bool {
    /// More than Linux gives arguments and environment by default.
    const MOST: u64 = 8 * 1024 * 1024;
    let mut environment = Vec::new();
    fs::File::open(format!("/proc/{pid}/environ"))
        .and_then(|f| f.take(MOST).read_to_end(&mut environment))
        .is_ok_and(|_| {
            let mark = format!("{BUILD_ID}={key}");
            environment.split(|b| *b == 0).any(|v| v == mark.as_bytes())
        })
}

fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|s| s.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::model::BuildId;

    const KEY: fn() -> LaunchKey =
        || LaunchKey::of("0190163d-8694-739b-aea5-966c26f8ad91".parse::<BuildId>().unwrap());

    fn line(name: &str) -> String {
        format!(
            "12 ({name}) S 1 12 12 0 -1 4194304 262 327 2 1 0 0 0 0 20 0 1 0 452212 2658304 407 18446744073709551615"
        )
    }

    #[test]
    fn a_stat_line_is_read_whatever_the_program_is_called() {
        for name in ["sh", "a b", "x) R 9 9 9", ")", ""] {
            let stat = Stat::parse(&line(name)).unwrap();
            assert_eq!(stat, Stat { pid: 12, state: 'S', group: 12, session: 12, start: 452_212 }, "{name}");
        }
        for bad in ["", "12", "12 (sh)", "12 (sh) S 1 2", "x (sh) S 1 12 12 0"] {
            assert_eq!(Stat::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn our_own_process_lives_and_one_that_reused_its_number_is_another() {
        let me = Stat::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let started = Started { boot: boot_id().unwrap(), leader: me };
        assert_eq!(started.living_group(KEY()), Pid::from_raw(me.pid));
        let reused = Started { leader: Stat { start: me.start + 1, ..me }, ..started.clone() };
        assert_eq!(reused.living_group(KEY()), None);
        let restarted = Started { boot: "another".into(), ..started };
        assert!(restarted.is_of_an_earlier_boot());
        assert_eq!(restarted.living_group(KEY()), None);
    }

    #[test]
    fn a_damaged_record_is_no_record() {
        let good = format!("1\nboot\n{}\n", line("sh"));
        assert!(Started::parse(&good).is_some());
        for bad in ["", "1\n", "1\nboot\n", "2\nboot\n12 (sh) S"] {
            assert_eq!(Started::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Started::parse(&good.replacen('1', "2", 1)), None, "a newer format");
    }
}
