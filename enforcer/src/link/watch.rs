//! News of interfaces, taken up on a thread of their own: a new pod's veth must be closed at once, whatever else the agent is doing.

use std::io;
use std::thread;
use std::time::Duration;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::netlink::messages;
use super::{Error, One};

const LINK_GROUP: u32 = 1;
/// Room for the news of some thousand interfaces while the thread is not scheduled.
const RECEIVE_BUFFER: i32 = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A veth appeared or changed.
    Veth(One),
    /// An interface is gone.
    Gone(u32),
    /// There was more than could be told: look for yourself.
    Lost,
}

/// What happens to interfaces from when this was opened on.
pub struct Watch {
    socket: Socket,
}

const ASKING: &str = "watching interfaces";

impl Watch {
    pub fn open() -> Result<Self, Error> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
            socket.bind(&SocketAddr::new(0, LINK_GROUP))?;
            Ok(socket)
        };
        open().map(|socket| Self { socket }).map_err(fail)
    }

    /// Starts to hand it to `take`, which does its work on the thread that hears of it: on a busy node each further thread in the way waits
    /// for a processor of its own.
    pub fn follow(self, take: impl FnMut(News) + Send + 'static) -> Result<(), Error> {
        let thread = thread::Builder::new().name("gate".to_owned());
        let spawned = thread.spawn(move || follow(&self.socket, take));
        spawned.map(drop).map_err(fail)
    }
}

fn fail(source: io::Error) -> Error {
    Error {
        asking: ASKING,
        source,
    }
}

fn follow(socket: &Socket, mut take: impl FnMut(News)) {
    loop {
        match socket.recv_from_full() {
            Ok((datagram, _)) => messages(&datagram)
                .filter_map(|m| news(&m.payload))
                .for_each(&mut take),
            Err(error) => {
                if error.raw_os_error() != Some(libc::ENOBUFS) {
                    tracing::warn!(%error, "news of interfaces could not be received; looking again");
                    thread::sleep(Duration::from_millis(100));
                }
                take(News::Lost);
            }
        }
    }
}

fn news(payload: &NetlinkPayload<RouteNetlinkMessage>) -> Option<News> {
    match payload {
        // A bridge tells of its ports in its own family: leaving a bridge is not an end.
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message))
            if message.header.interface_family == AddressFamily::Unspec =>
        {
            One::read(message).map(News::Veth)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message))
            if message.header.interface_family == AddressFamily::Unspec =>
        {
            Some(News::Gone(message.header.index))
        }
        _ => None,
    }
}
