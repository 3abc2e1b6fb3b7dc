//! Which addresses are listened on already.

use std::collections::HashMap;
use std::net::SocketAddr;

/// The addresses of listeners, found by their port: a file may have thousands.
#[derive(Debug, Default)]
pub(super) struct Doors {
    /// By port and by whether the address is one of IPv4; in the order of the file.
    taken: HashMap<(u16, bool), Vec<SocketAddr>>,
}

impl Doors {
    /// Adds `address`. The first one that is there already and would make the second bind fail, if there is one.
    pub(super) fn add(&mut self, address: SocketAddr) -> Option<SocketAddr> {
        // The system chooses another port for each.
        if address.port() == 0 {
            return None;
        }
        let taken = self.taken.entry((address.port(), address.is_ipv4())).or_default();
        let everywhere = address.ip().is_unspecified();
        let in_the_way =
            |other: &&SocketAddr| everywhere || other.ip() == address.ip() || other.ip().is_unspecified();
        let other = taken.iter().find(in_the_way).copied();
        taken.push(address);
        other
    }
}
