//! The addresses that a target listens on.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use iscsi_proto::name::IscsiName;
use iscsi_proto::url::DEFAULT_PORT;
use iscsi_target::Target;
use tokio::net::{TcpListener, lookup_host};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vmthunder_volume::Volume;

use crate::observe::line;

/// Listening sockets, not served yet.
pub(crate) struct Portals {
    listeners: Vec<TcpListener>,
    hosts: Vec<String>,
}

impl Portals {
    /// Listens on every address; a name may stand for several.
    pub(crate) async fn listen(addresses: &[String]) -> Result<Self> {
        let mut listeners = Vec::new();
        let mut hosts = Vec::new();
        for address in addresses {
            for address in resolve(address).await? {
                let listener = TcpListener::bind(address)
                    .await
                    .with_context(|| format!("cannot listen on {address}"))?;
                hosts.push(host(listener.local_addr()?));
                listeners.push(listener);
            }
        }
        Ok(Self { listeners, hosts })
    }

    /// Where the portals are reached, as HOST:PORT. A wildcard address is named by the machine's name.
    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The addresses that the portals listen on.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let addresses = self.listeners.iter().map(TcpListener::local_addr);
        Ok(addresses.collect::<Result<_, _>>()?)
    }

    /// Serves a target on all portals until `stop`; the tracker tells when the last connection is gone.
    pub(crate) fn serve<V: Volume>(
        self,
        target: &Arc<Target<V>>,
        stop: &CancellationToken,
        tracker: &TaskTracker,
    ) {
        for listener in self.listeners {
            tracker.spawn(Arc::clone(target).serve(listener, stop.clone()));
        }
    }
}

/// The URLs of a logical unit at portals.
pub(crate) fn urls(hosts: &[String], target: &IscsiName, lun: u16) -> Vec<String> {
    hosts
        .iter()
        .map(|host| format!("iscsi://{host}/{target}/{lun}"))
        .collect()
}

/// Says on standard output that logical units are there: what scripts wait for.
pub(crate) fn announce(hosts: &[String], target: &IscsiName, luns: impl IntoIterator<Item = u16>) {
    for lun in luns {
        for url in urls(hosts, target, lun) {
            // A script that has read enough and closed its end must not end what it waited for.
            let _ = line(format_args!("ready {url}"));
        }
    }
}

async fn resolve(address: &str) -> Result<Vec<SocketAddr>> {
    // The operating system would read it as an IPv4 address of one number.
    ensure!(
        !address.bytes().all(|byte| byte.is_ascii_digit()),
        "`{address}` is no address: for a port of every interface say 0.0.0.0:{address}"
    );
    let with_port = match address.parse::<SocketAddr>() {
        Ok(address) => return Ok(vec![address]),
        Err(_) if has_port(address) => address.to_owned(),
        Err(_) => format!("{address}:{DEFAULT_PORT}"),
    };
    let found = lookup_host(&with_port)
        .await
        .with_context(|| format!("cannot resolve {address}"))?;
    Ok(found.collect())
}

/// Whether an address names a port: a colon that is not one of an IPv6 address.
fn has_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    })
}

fn host(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        let name = rustix::system::uname();
        return format!("{}:{}", name.nodename().to_string_lossy(), address.port());
    }
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_told_from_a_part_of_an_ipv6_address() {
        assert!(has_port("host:3260") && has_port("[::1]:3260"));
        assert!(!has_port("host") && !has_port("::1") && !has_port("[::1]"));
    }
}
