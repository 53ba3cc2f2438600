//! Where a server may send us.

use super::source::{Redirects, placed};
use capomastro_core::{Error, ErrorKind, Result};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use url::{Host, Url};

/// The URL to ask instead, after `from` sent us to `to`. `home` is the source's own.
pub(super) fn followed(home: &Url, from: &Url, to: &str, policy: &Redirects) -> Result<Url> {
    let mut url = from
        .join(to)
        .map_err(|_| Error::new(ErrorKind::Corrupt, "the server redirects to nowhere: check the URL"))?;
    url.set_fragment(None);
    let refuse = |message: &str| Err(Error::config(message).with_context("to", placed(&url)));
    if *policy == Redirects::None {
        return refuse("the server sends us elsewhere, and redirects is none: give that URL, or same_origin");
    }
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return refuse("the server sends us to something that is not http: check the URL");
    }
    if url.password().is_some() || !url.username().is_empty() {
        return refuse("the server sends us on with credentials in a URL: check the URL");
    }
    if from.scheme() == "https" && url.scheme() == "http" {
        return refuse("the server sends us from https to http: check the URL");
    }
    if is_home(home, &url) {
        return Ok(url);
    }
    match policy {
        Redirects::Hosts(hosts)
            if url.port().is_none() && hosts.iter().any(|host| Some(host.as_str()) == url.host_str()) =>
        {
            Ok(url)
        }
        _ => refuse(
            "the server sends us to another place: give that URL, or name its host in redirects if it is right",
        ),
    }
}

/// Whether a URL is at the source's own server, to which credentials go: the same origin, or the same host with `https`
/// in the place of `http`.
pub(super) fn is_home(home: &Url, url: &Url) -> bool {
    let upgraded = home.scheme() == "http"
        && url.scheme() == "https"
        && home.host() == url.host()
        && home.port().is_none()
        && url.port().is_none();
    home.origin() == url.origin() || upgraded
}

/// Whether the host is written as an address, so that nobody can let it mean another one.
pub(super) fn is_address(url: &Url) -> bool {
    matches!(url.host(), Some(Host::Ipv4(_) | Host::Ipv6(_)))
}

/// Finds the public addresses of a name and no others, for servers to which another server sent us.
#[derive(Debug)]
pub(super) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|a| is_public(a.ip())).collect();
            if public.is_empty() {
                return Err(Box::from(io::Error::other("the name stands for no public address")));
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether anybody in the world could own this address.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// <https://www.iana.org/assignments/iana-ipv4-special-registry/iana-ipv4-special-registry.xhtml>
fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    !(v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_documentation()
        || v4.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)))
}

/// Only what is given out to the world (`2000::/3`), without documentation, and without addresses that carry one of
/// version 4 through a tunnel or a translator.
fn is_public_v6(v6: Ipv6Addr) -> bool {
    if let Some(v4) = v6.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    let [a, b, ..] = v6.segments();
    let is_documentation = (a == 0x2001 && b == 0xdb8) || (a == 0x3fff && b < 0x1000);
    let is_teredo_or_special = a == 0x2001 && b < 0x200;
    (a & 0xe000) == 0x2000 && !is_documentation && !is_teredo_or_special && a != 0x2002
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_followed_where_the_source_allows_it() {
        let hosts = || Redirects::Hosts(vec!["cdn.example".into(), "10.0.0.1".into()]);
        let same = || Redirects::SameOrigin;
        for (policy, from, to, ends) in [
            (same(), "https://h/a", "/b?x=1#y", Some("https://h/b?x=1")),
            (same(), "https://h/a", "https://H:443/b", Some("https://h/b")),
            (same(), "http://h/a", "https://h/a", Some("https://h/a")),
            (same(), "http://h:8080/a", "https://h/a", None),
            (same(), "https://h/a", "https://h:8443/a", None),
            (same(), "https://h/a", "http://h/a", None),
            (same(), "https://h/a", "https://cdn.example/a", None),
            (same(), "https://h/a", "//evil/a", None),
            (same(), "https://h/a", "https://u:hunter2@h/a", None),
            (same(), "https://h/a", "https://evil/?hunter2", None),
            (same(), "https://h/a", "file:///etc/passwd", None),
            (same(), "https://h/a", "http://[", None),
            (Redirects::None, "https://h/a", "/b", None),
            (hosts(), "https://h/a", "https://cdn.example/a", Some("https://cdn.example/a")),
            (hosts(), "https://h/a", "https://CDN.example./a", None),
            (hosts(), "https://h/a", "https://cdn.example:22/a", None),
            (hosts(), "https://h/a", "http://cdn.example/a", None),
            (hosts(), "https://h/a", "https://x.cdn.example/a", None),
            (hosts(), "http://h/a", "http://10.0.0.1/a", Some("http://10.0.0.1/a")),
            (hosts(), "http://h/a", "http://169.254.169.254/a", None),
            (hosts(), "http://h/a", "http://0x0a000001/a", Some("http://10.0.0.1/a")),
        ] {
            let url = Url::parse(from).unwrap();
            let got = followed(&url, &url, to, &policy);
            if let Err(e) = &got {
                assert!(!e.report().contains("hunter2"), "{to}: {e:?}");
            }
            assert_eq!(got.ok().as_ref().map(Url::as_str), ends, "{policy:?} {from} {to}");
        }
    }

    #[test]
    fn only_the_world_is_public() {
        for (address, public) in [
            ("93.184.215.14", true),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("198.18.0.1", false),
            ("2606:4700::1111", true),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:93.184.215.14", true),
            ("64:ff9b::a00:1", false),
            ("2002:a00:1::", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }
}
