//! What a container can reach.

use crate::{cgroups, state::on_disk};
use capomastro_core::{Error, ErrorKind, Result};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

/// What a container can reach. Never the network of this machine itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// Nothing but itself.
    #[default]
    None,
    /// What a bridge of this machine leads to.
    Bridge {
        /// The bridge's name, such as `lxcbr0`. It must be there; what it leads to (this machine, or by address
        /// translation the world) is its administrator's choice.
        bridge: String,
        /// The addresses that containers take, one each. No one else may use them.
        addresses: AddressRange,
        /// Where packets for elsewhere go, usually the bridge's own address; without one only the bridge's network is
        /// reached.
        gateway: Option<Ipv4Addr>,
        /// Servers that know names, at most three; without any, only addresses can be reached.
        nameservers: Vec<IpAddr>,
        /// Names that the container knows by itself, with their addresses.
        hosts: Vec<(String, IpAddr)>,
    },
}

impl Network {
    /// A bridge, and the addresses that containers take there. It leads nowhere else, and no names are known.
    pub fn bridge(name: impl Into<String>, addresses: AddressRange) -> Self {
        Self::Bridge {
            bridge: name.into(),
            addresses,
            gateway: None,
            nameservers: Vec::new(),
            hosts: Vec::new(),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let Self::Bridge { bridge, nameservers, hosts, .. } = self else { return Ok(()) };
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if bridge.is_empty() || bridge.len() > 15 || bridge.starts_with('.') || !bridge.bytes().all(fits) {
            return Err(Error::config("this is no name of a network interface: give the bridge's")
                .with_context("bridge", bridge.escape_debug()));
        }
        if nameservers.len() > 3 {
            return Err(Error::config("more than three name servers are given: give three at most"));
        }
        for (name, _) in hosts {
            if name.is_empty() || name.len() > 253 || !name.bytes().all(fits) {
                return Err(Error::config("this is no name of a host: use letters, digits, dots and dashes")
                    .with_context("host", name.escape_debug()));
            }
        }
        Ok(())
    }

    /// The text of `resolv.conf`.
    pub(crate) fn resolv(&self) -> String {
        let Self::Bridge { nameservers, .. } = self else { return String::new() };
        nameservers.iter().map(|n| format!("nameserver {n}\n")).collect()
    }

    /// The text of `hosts`.
    pub(crate) fn hosts(&self) -> String {
        let mut text = "127.0.0.1 localhost capomastro\n::1 localhost\n".to_owned();
        if let Self::Bridge { hosts, .. } = self {
            text.extend(hosts.iter().map(|(name, address)| format!("{address} {name}\n")));
        }
        text
    }
}

/// Addresses of one network, from a first to a last one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: Ipv4Addr,
    last: Ipv4Addr,
    prefix: u8,
}

impl AddressRange {
    /// The addresses from `first` to `last` of a network whose mask has `prefix` bits (8 to 30).
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if they are not of one network, in the wrong order, or more than 4,096.
    pub fn new(first: Ipv4Addr, last: Ipv4Addr, prefix: u8) -> Result<Self> {
        let (from, to) = (u32::from(first), u32::from(last));
        let host_bits = 32_u32.saturating_sub(prefix.into());
        if !(8..=30).contains(&prefix)
            || from > to
            || to - from >= 4_096
            || from >> host_bits != to >> host_bits
        {
            return Err(Error::config(
                "the addresses for containers are no range of one network: give the first and the last of at most \
                 4,096 addresses, and the length of the mask (8 to 30)",
            )
            .with_context("first", first)
            .with_context("last", last)
            .with_context("prefix", prefix));
        }
        Ok(Self { first, last, prefix })
    }

    fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        (u32::from(self.first)..=u32::from(self.last)).map(Ipv4Addr::from)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} of /{}", self.first, self.last, self.prefix)
    }
}

/// A container's end of a bridge. Its address is its own as long as this lives, among all processes that share a state
/// folder.
#[derive(Debug)]
pub(crate) struct Link {
    bridge: String,
    address: Ipv4Addr,
    prefix: u8,
    gateway: Option<Ipv4Addr>,
    held: File,
}

impl Link {
    /// A free address; `None` without a network.
    pub(crate) fn take(network: &Network, state: &Path) -> Result<Option<Self>> {
        let Network::Bridge { bridge, addresses, gateway, .. } = network else { return Ok(None) };
        let failed = |e: io::Error| {
            Error::new(
                ErrorKind::Unavailable,
                "an address for a container cannot be taken: see the state folder",
            )
            .with_source(e)
        };
        let folder = state.join("addresses");
        fs::create_dir_all(&folder).map_err(failed)?;
        for address in addresses.addresses() {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(folder.join(address.to_string()))
                .map_err(failed)?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                && !is_lent(&file).map_err(failed)?
            {
                file.set_len(0).map_err(failed)?;
                return Ok(Some(Self {
                    bridge: bridge.clone(),
                    address,
                    prefix: addresses.prefix,
                    gateway: *gateway,
                    held: file,
                }));
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "all addresses for containers are taken: let fewer run at a time, or give the runner more addresses",
        )
        .with_context("addresses", addresses))
    }

    /// Leaves the address to a container that outlives this process: it is taken for as long as somebody has locked the
    /// file `lock`, which is so now, and as there is a control group of the container `name`.
    pub(crate) fn lend(self, lock: &Path, name: &str) -> Result<()> {
        let loan = format!("{name}\n{}", lock.display());
        (&self.held).write_all(loan.as_bytes()).map_err(|e| on_disk(lock, e))
    }

    /// The keys and values of the configuration, below `lxc.net.0.`.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("type", "veth".to_owned()),
            ("link", self.bridge.clone()),
            ("flags", "up".to_owned()),
            ("name", "eth0".to_owned()),
            ("ipv4.address", format!("{}/{}", self.address, self.prefix)),
        ];
        settings.extend(self.gateway.map(|g| ("ipv4.gateway", g.to_string())));
        settings
    }
}

/// Whether an address is lent to a container that still runs, or is about to.
fn is_lent(mut address: &File) -> io::Result<bool> {
    let mut loan = String::new();
    address.take(8 * 1024).read_to_string(&mut loan)?;
    let Some((name, lock)) = loan.split_once('\n') else { return Ok(false) };
    let is_locked = match File::open(lock) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK),
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(e),
    };
    address.rewind()?;
    Ok(is_locked || !cgroups::of(name).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_of_one_network() {
        let range = |a: &str, b: &str, p| AddressRange::new(a.parse().unwrap(), b.parse().unwrap(), p);
        assert_eq!(range("10.0.3.2", "10.0.3.9", 24).unwrap().addresses().count(), 8);
        assert_eq!(range("10.0.3.2", "10.0.3.2", 30).unwrap().addresses().count(), 1);
        for (a, b, p) in [
            ("10.0.3.9", "10.0.3.2", 24),
            ("10.0.3.2", "10.0.4.2", 24),
            ("10.0.3.2", "10.0.3.9", 31),
            ("10.0.3.2", "10.0.3.9", 0),
            ("10.0.0.0", "10.0.255.255", 16),
        ] {
            assert!(range(a, b, p).is_err(), "{a} {b} {p}");
        }
    }

    #[test]
    fn an_address_is_one_containers_at_a_time() {
        let state = tempfile::TempDir::new().unwrap();
        let range = AddressRange::new([10, 0, 3, 2].into(), [10, 0, 3, 3].into(), 24).unwrap();
        let network = Network::bridge("br0", range);
        let first = Link::take(&network, state.path()).unwrap().unwrap();
        let second = Link::take(&network, state.path()).unwrap().unwrap();
        assert_ne!(first.address, second.address);
        let e = Link::take(&network, state.path()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unavailable);
        drop(first);
        assert!(Link::take(&network, state.path()).unwrap().is_some());
        assert!(Link::take(&Network::None, state.path()).unwrap().is_none());
    }

    #[test]
    fn a_lent_address_is_taken_while_its_lock_is() {
        let state = tempfile::TempDir::new().unwrap();
        let range = AddressRange::new([10, 0, 3, 2].into(), [10, 0, 3, 2].into(), 24).unwrap();
        let network = Network::bridge("br0", range);
        let lock = state.path().join("lock");
        let held = File::create(&lock).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        Link::take(&network, state.path()).unwrap().unwrap().lend(&lock, "capo-none").unwrap();
        for _ in 0..2 {
            assert_eq!(Link::take(&network, state.path()).unwrap_err().kind(), ErrorKind::Unavailable);
        }
        drop(held);
        // What was lent before is forgotten.
        let taken = Link::take(&network, state.path()).unwrap().unwrap();
        assert_eq!(taken.held.metadata().unwrap().len(), 0);
    }

    #[test]
    fn names_are_checked() {
        let range = AddressRange::new([10, 0, 3, 2].into(), [10, 0, 3, 3].into(), 24).unwrap();
        for name in ["", "a b", "a\nlxc.cap.keep = all", "a-name-that-is-too-long", "../x"] {
            assert!(Network::bridge(name, range).check().is_err(), "{name}");
        }
        assert!(Network::bridge("lxcbr0", range).check().is_ok());
    }
}
