//! Seeded mutations, for a short run without a fuzzer.

use capomastro_core::time::Random as _;
use capomastro_testkit::SeededRandom;

/// What breaks parsers more often than random bytes do.
const SPICES: &[&[u8]] = &[
    b"0000",
    b"0001",
    b"0002",
    b"0004",
    b"fff0",
    b"ffff",
    b"\0",
    b"\n",
    b"\r\n",
    b"\xff\xfe",
    b"\n--8<--\n",
    b"-1",
    b"18446744073709551616",
    b"9223372036854775807",
    b"1e999",
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    b"../",
    b"%00",
    b"@",
    b":",
    b"hunter2-correct-horse",
    b"ERR ",
    b"version 2",
    b"\xe2\x80\xae",
    b"\x1b[2J",
];

/// `count` mutations of `seeds`, drawn from `seed`: the same numbers give the same mutations.
pub fn mutations(seeds: &[Vec<u8>], seed: u64, count: usize) -> impl Iterator<Item = Vec<u8>> {
    let random = SeededRandom::new(seed);
    let below = move |n: usize| usize::try_from(random.bits() % (n.max(1) as u128)).unwrap();
    (0..count).map(move |_| {
        let mut bytes = seeds.get(below(seeds.len())).cloned().unwrap_or_default();
        for _ in 0..=below(4) {
            let (at, len) = (below(bytes.len() + 1), 1 + below(16));
            let end = (at + len).min(bytes.len());
            match below(8) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << below(8);
                    }
                }
                3 => drop(bytes.splice(at..at, SPICES[below(SPICES.len())].iter().copied())),
                4 => drop(bytes.splice(at..end, SPICES[below(SPICES.len())].iter().copied())),
                5 => {
                    let again = bytes[at..end].repeat(1 + below(64));
                    drop(bytes.splice(at..at, again));
                }
                6 => {
                    // A piece of another example.
                    let other = &seeds[below(seeds.len())];
                    let from = below(other.len() + 1);
                    let to = (from + 1 + below(200)).min(other.len());
                    drop(bytes.splice(at..at, other[from..to].iter().copied()));
                }
                _ => {
                    let digit = bytes.iter().skip(at).position(u8::is_ascii_digit);
                    if let Some(found) = digit {
                        bytes[at + found] = b'0' + u8::try_from(below(10)).unwrap();
                    }
                }
            }
        }
        bytes.truncate(64 * 1024);
        bytes
    })
}
