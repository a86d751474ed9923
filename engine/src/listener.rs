//! A bound listening socket, made before the engine starts so that its port is known.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel may hold for us until they are accepted; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A listening socket for [`EngineBuilder::listen`](crate::EngineBuilder::listen).
#[derive(Debug)]
pub struct Listener {
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Tcp {
        listener: TcpListener,
        /// Further sockets may be bound to the same port.
        shared: bool,
    },
    /// In a simulated network there is nothing to bind before the engine starts.
    Simulated(SocketAddr),
}

impl Listener {
    /// Binds and listens. Port 0 takes a free one; [`local_addr`](Self::local_addr) tells which.
    ///
    /// # Errors
    /// Whatever the system says: the address is taken, not ours, or needs privileges.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::bind_socket(address, false)
    }

    /// As [`bind`](Self::bind), for an engine of several shards: each of them gets a socket of its own at this address
    /// (SO_REUSEPORT), the system spreads connections evenly over them, and a connection stays where it was accepted.
    /// Other programs of the same user may listen there too, and would get their part.
    ///
    /// # Errors
    /// Whatever the system says: the address is taken, not ours, or needs privileges.
    pub fn bind_shared(address: SocketAddr) -> io::Result<Self> {
        Self::bind_socket(address, true)
    }

    fn bind_socket(address: SocketAddr, shared: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
        if address.is_ipv6() {
            // One listener serves one family, whatever the system's default is.
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self {
            inner: Inner::Tcp {
                listener: socket.into(),
                shared,
            },
        })
    }

    /// Another socket at the same address; `None` if this one does not share it.
    pub(crate) fn for_another_shard(&self) -> Option<io::Result<Self>> {
        match &self.inner {
            Inner::Tcp {
                listener,
                shared: true,
            } => Some(listener.local_addr().and_then(Self::bind_shared)),
            Inner::Tcp { shared: false, .. } => None,
            Inner::Simulated(address) => Some(Ok(Self::simulated(*address))),
        }
    }

    /// The address with its real port.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.inner {
            Inner::Tcp { listener, .. } => listener.local_addr(),
            Inner::Simulated(address) => Ok(*address),
        }
    }

    pub(crate) fn simulated(address: SocketAddr) -> Self {
        Self {
            inner: Inner::Simulated(address),
        }
    }

    pub(crate) fn into_std(self) -> io::Result<TcpListener> {
        match self.inner {
            Inner::Tcp { listener, .. } => Ok(listener),
            Inner::Simulated(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulated listener needs a simulated network",
            )),
        }
    }

    pub(crate) fn into_simulated(self) -> io::Result<SocketAddr> {
        match self.inner {
            Inner::Simulated(address) => Ok(address),
            Inner::Tcp { .. } => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulated network needs simulated listeners",
            )),
        }
    }
}
