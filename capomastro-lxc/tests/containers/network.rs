//! What a container reaches: nothing, or what a bridge leads to.

use crate::support::{assert_clean, folder, prints, run, runner, sh, there_are_containers};
use capomastro_core::command::Exit;
use capomastro_lxc::{AddressRange, LxcRunner, Network, Root};
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    process::Command,
};

/// A bridge of its own, gone with the test.
pub(crate) struct Bridge {
    pub(crate) name: String,
    net: u8,
}

impl Bridge {
    pub(crate) fn make() -> Self {
        // A network and a name that no other run of the tests has.
        for net in 0..=255 {
            let name = format!("capotest{net}");
            if ip(&["link", "add", &name, "type", "bridge"]) {
                assert!(ip(&["addr", "add", &format!("10.213.{net}.1/24"), "dev", &name]));
                assert!(ip(&["link", "set", &name, "up"]));
                return Self { name, net };
            }
        }
        panic!("no bridge can be made");
    }

    pub(crate) fn at(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.net, last)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        assert!(ip(&["link", "del", &self.name]));
    }
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).output().expect("the program ip, of Debian's iproute2").status.success()
}

/// A server that greets whoever comes, until the test ends.
fn greeting(at: Ipv4Addr) -> u16 {
    let listener = TcpListener::bind((at, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello\n").unwrap();
            // Until the other side hangs up, whatever it says.
            drop(stream.read_to_end(&mut Vec::new()));
        }
    });
    port
}

const FETCH: &str = "import sys, socket\ns = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)\nprint(s.recv(100).decode().split()[-1])";

#[tokio::test]
async fn without_a_network_nothing_is_reached() {
    let Some((lxc, _state)) = runner() else { return };
    let port = greeting(Ipv4Addr::LOCALHOST);
    let o = run(
        &lxc,
        &capomastro_core::command::Command::new("python3")
            .args(["-c", FETCH, "127.0.0.1"])
            .arg(port.to_string()),
    )
    .await;
    assert_ne!(o.exit, Exit::Code(0));
    assert_eq!(prints(&lxc, "ls /sys/class/net").await, "lo\n");
}

#[tokio::test]
async fn through_a_bridge_its_network_is_reached() {
    if !there_are_containers() {
        return;
    }
    let (bridge, state) = (Bridge::make(), folder());
    let port = greeting(bridge.at(1));
    let host = greeting(Ipv4Addr::LOCALHOST);
    let mut network =
        Network::bridge(&bridge.name, AddressRange::new(bridge.at(2), bridge.at(9), 24).unwrap());
    if let Network::Bridge { gateway, hosts, .. } = &mut network {
        *gateway = Some(bridge.at(1));
        hosts.push(("forge.example".into(), bridge.at(1).into()));
    }
    let lxc = LxcRunner::builder(state.path(), Root::Host).network(network).build().unwrap();
    let health = lxc.health().await.unwrap();
    assert!(health.is_well(), "{health}");
    let fetch = |host: &str, port: u16| {
        capomastro_core::command::Command::new("python3").args(["-c", FETCH, host]).arg(port.to_string())
    };
    assert_eq!(run(&lxc, &fetch(&bridge.at(1).to_string(), port)).await.stdout, b"hello\n");
    assert_eq!(run(&lxc, &fetch("forge.example", port)).await.stdout, b"hello\n");
    // The network of this machine itself is another one.
    assert_ne!(run(&lxc, &fetch("127.0.0.1", host)).await.exit, Exit::Code(0));
    // Many at once have addresses of their own.
    let all: Vec<_> = (0..8)
        .map(|_| {
            let lxc = lxc.clone();
            tokio::spawn(async move { prints(&lxc, "hostname -I; sleep 0.2").await })
        })
        .collect();
    for one in all {
        assert!(one.await.unwrap().starts_with("10.213."));
    }
    assert_clean(state.path());
}

#[tokio::test]
async fn a_bridge_that_is_not_there_is_told() {
    if !there_are_containers() {
        return;
    }
    let state = folder();
    let range = AddressRange::new(Ipv4Addr::new(10, 214, 0, 2), Ipv4Addr::new(10, 214, 0, 9), 24).unwrap();
    let lxc = LxcRunner::builder(state.path(), Root::Host)
        .network(Network::bridge("capo-none", range))
        .build()
        .unwrap();
    let health = lxc.health().await.unwrap().to_string();
    assert!(health.contains("there is no bridge capo-none"), "{health}");
    let e = capomastro_core::command::CommandRunner::run(&lxc, &sh("true")).await.unwrap_err();
    assert_eq!(e.kind(), capomastro_core::ErrorKind::Unavailable, "{e:?}");
    assert_clean(state.path());
}
