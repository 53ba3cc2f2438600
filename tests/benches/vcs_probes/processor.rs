//! What was spent of the processor, as the kernel counts it in ticks of 10 ms.

use std::{collections::BTreeMap, fs};

/// What a process has spent, and whose child it is.
struct Process {
    parent: u32,
    ticks: u64,
}

/// Milliseconds of the processor that this process and everything it started have spent, in user and in system mode: what has
/// ended and what still runs, but for `server` and what that started.
pub(crate) fn spent(server: Option<u32>) -> f64 {
    let all: BTreeMap<u32, Process> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|id| Some((id, process(id)?)))
        .collect();
    let own = std::process::id();
    let is_ours = |id: u32| {
        let mut at = id;
        while at != own {
            match all.get(&at) {
                Some(process) if Some(at) != server => at = process.parent,
                _ => return false,
            }
        }
        true
    };
    let ticks: u64 = all.iter().filter(|(id, _)| is_ours(**id)).map(|(_, process)| process.ticks).sum();
    f64::from(u32::try_from(ticks).unwrap()) * 10.0
}

/// `None` if it has ended.
fn process(id: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may hold anything; behind it come the state, the parent and, as 11th to 14th, its own times and
    // those of its children that have ended.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|t| t.parse::<u64>().unwrap()).sum();
    Some(Process { parent: fields.get(1)?.parse().ok()?, ticks })
}
