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
    Tcp(TcpListener),
    /// In a simulated network there is nothing to bind before the engine starts.
    Simulated(SocketAddr),
}

impl Listener {
    /// Binds and listens. Port 0 takes a free one; [`local_addr`](Self::local_addr) tells which.
    ///
    /// # Errors
    /// Whatever the system says: the address is taken, not ours, or needs privileges.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // One listener serves one family, whatever the system's default is.
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self {
            inner: Inner::Tcp(socket.into()),
        })
    }

    /// The address with its real port.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.inner {
            Inner::Tcp(listener) => listener.local_addr(),
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
            Inner::Tcp(listener) => Ok(listener),
            Inner::Simulated(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulated listener needs a simulated network",
            )),
        }
    }

    pub(crate) fn into_simulated(self) -> io::Result<SocketAddr> {
        match self.inner {
            Inner::Simulated(address) => Ok(address),
            Inner::Tcp(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulated network needs simulated listeners",
            )),
        }
    }
}
