//! Servers in pods: TCP connections are accepted and held, datagrams sent back.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;

use anyhow::Context;
use ringfence_tests::probe::Wire;
use socket2::{Domain, Socket, Type};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::namespaces::{Namespaces, within};

const WAITING: i32 = 4096;

/// The servers of this node's pods.
pub struct Servers {
    runtime: Runtime,
    /// With the namespace that they are in, by its inode: the address may have gone to another pod.
    running: BTreeMap<IpAddr, (u64, JoinSet<()>)>,
}

impl Servers {
    pub fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        Ok(Self {
            runtime,
            running: BTreeMap::new(),
        })
    }

    /// Serves for these pods and no others.
    pub fn serve(
        &mut self,
        namespaces: &mut Namespaces,
        pods: &[IpAddr],
        ports: &[(Wire, u16)],
    ) -> anyhow::Result<()> {
        self.running.retain(|pod, _| pods.contains(pod));
        for pod in pods {
            let namespace = namespaces.of(*pod)?;
            let inode = namespace.metadata()?.ino();
            if self.running.get(pod).is_some_and(|(within, _)| *within == inode) {
                continue;
            }
            self.running.remove(pod);
            let mut servers = JoinSet::new();
            for (wire, port) in ports {
                let at = SocketAddr::new(*pod, *port);
                let context = || format!("{wire:?} {at} cannot be served");
                match wire {
                    Wire::Tcp => {
                        let listener = within(&namespace, move || Ok(listen(at)?)).with_context(context)?;
                        servers.spawn_on(accept(listener), self.runtime.handle());
                    }
                    Wire::Udp => {
                        let socket =
                            within(&namespace, move || Ok(UdpSocket::bind(at)?)).with_context(context)?;
                        servers.spawn_on(echo(socket), self.runtime.handle());
                    }
                }
            }
            self.running.insert(*pod, (inode, servers));
        }
        Ok(())
    }
}

/// With room for as many that wait as the kernel grants: on a busy machine some hundred may come before one is taken.
fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(WAITING)?;
    Ok(socket.into())
}

async fn accept(listener: TcpListener) {
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(listener));
    let Ok(listener) = listener else { return };
    while let Ok((stream, _)) = listener.accept().await {
        drop(stream); // that it came about is the answer
    }
}

async fn echo(socket: UdpSocket) {
    let socket = socket
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UdpSocket::from_std(socket));
    let Ok(socket) = socket else { return };
    let mut datagram = [0; 64];
    loop {
        // An error here is one that an earlier answer met on its way.
        if let Ok((length, from)) = socket.recv_from(&mut datagram).await {
            let _ = socket.send_to(&datagram[..length], from).await;
        }
    }
}
