//! Asking the kernel by netlink: a request and its answers, synchronously.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::Error;

/// How often a list is asked for that changes while it is read.
const TRIES: usize = 20;

/// How many answers a request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    One,
    All,
    /// One, and it makes something that was not there.
    New,
}

pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub fn open() -> Result<Self, Error> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            // Without it the kernel ignores of a dump's request all but the family.
            socket.set_netlink_get_strict_chk(true)?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| Error {
            asking: "opening a socket",
            source,
        })?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request and collects its answers. Answers that cannot be decoded are left out, since newer kernels say more.
    pub fn ask(
        &mut self,
        asking: &'static str,
        request: RouteNetlinkMessage,
        ask: Ask,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        for _ in 0..TRIES {
            let answered = self.exchange(request.clone(), ask);
            if let Some(answers) = answered.map_err(|source| Error { asking, source })? {
                return Ok(answers);
            }
        }
        let source = io::Error::new(
            io::ErrorKind::Interrupted,
            "what was listed changed each time meanwhile",
        );
        Err(Error { asking, source })
    }

    /// Nothing if the list changed while it was read, so that something may be missing.
    fn exchange(
        &mut self,
        request: RouteNetlinkMessage,
        ask: Ask,
    ) -> io::Result<Option<Vec<RouteNetlinkMessage>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST
            | match ask {
                Ask::One => NLM_F_ACK,
                Ask::All => NLM_F_DUMP,
                Ask::New => NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
            };
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let (mut answers, mut whole) = (Vec::new(), true);
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for message in messages(&datagram) {
                let (header, payload) = message.into_parts();
                if header.sequence_number != self.sequence {
                    continue;
                }
                whole &= header.flags & NLM_F_DUMP_INTR == 0;
                match payload {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Done(_) => return Ok(whole.then_some(answers)),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(Some(answers)),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }
}

/// The messages of a datagram that can be decoded.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = NetlinkMessage<RouteNetlinkMessage>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = rest
            .first_chunk::<4>()
            .map(|bytes| u32::from_ne_bytes(*bytes) as usize)?;
        let message = rest.get(..length).filter(|_| length >= 16)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(NetlinkMessage::deserialize(message).ok())
    })
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::link::LinkMessage;

    #[test]
    fn what_cannot_be_decoded_is_left_out_and_what_follows_is_not() {
        let mut good = NetlinkMessage::new(
            NetlinkHeader::default(),
            NetlinkPayload::from(RouteNetlinkMessage::NewLink(LinkMessage::default())),
        );
        good.finalize();
        let mut bytes = vec![0; good.buffer_len()];
        good.serialize(&mut bytes);
        let mut bad = bytes.clone();
        bad.truncate(18);
        bad[0..4].copy_from_slice(&18_u32.to_ne_bytes());
        bad.extend([0, 0]);
        let datagram: Vec<u8> = [&bad[..], &bytes[..]].concat();
        assert_eq!(messages(&datagram).count(), 1);
        assert_eq!(messages(&bytes[..7]).count(), 0);
    }
}
