//! Choosing a server's configuration by the ClientHello.

use std::{io::Read, sync::Arc};

use rustls::server::{Accepted, Acceptor};

use crate::{
    client_hello::{ClientHello, Peek},
    connection::{Connection, Failure},
    diagnosis::{self, Role},
    error::TlsError,
    secrets::SecretCatcher,
    server_config::{Choice, ServerConfig, host_name},
    session::HANDSHAKE_LEN_MAX,
};

/// A server connection that waits for the rest of its ClientHello.
pub(crate) struct AwaitHello {
    config: ServerConfig,
    /// Only for a hello that is split over records, which the peek does not read.
    split: Option<Box<SplitHello>>,
}

struct SplitHello {
    acceptor: Acceptor,
    /// How many bytes it was given already.
    fed: usize,
}

/// A ClientHello was read, and the configuration for it chosen.
pub(crate) struct Chosen {
    pub(crate) connection: Connection,
    pub(crate) secrets: Option<Arc<SecretCatcher>>,
    pub(crate) choice: Choice,
    pub(crate) server_name: Option<Box<str>>,
}

impl AwaitHello {
    pub(crate) fn new(config: ServerConfig) -> Self {
        Self { config, split: None }
    }

    /// Reads the ClientHello out of `bytes`, which is all that was received, and chooses the configuration for it;
    /// `None` while the hello is not whole. An alert is appended to `out` when it is refused.
    pub(crate) fn choose(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<Chosen>, TlsError> {
        if self.split.is_none() {
            match ClientHello::peek(bytes) {
                Peek::NeedMore => return Ok(None),
                Peek::NotTls => return Err(diagnosis::not_tls(bytes, out)),
                Peek::Hello(hello) => {
                    return self.chosen(hello.alpn(), hello.server_name(), out).map(Some);
                }
                // rustls says what is malformed, and puts together what is split.
                Peek::Fragmented | Peek::Malformed => {}
            }
        }
        match self.accept(bytes, out)? {
            None => Ok(None),
            Some(accepted) => {
                let hello = accepted.client_hello();
                let alpn: Vec<&[u8]> = hello.alpn().into_iter().flatten().collect();
                self.chosen(alpn.into_iter(), hello.server_name(), out).map(Some)
            }
        }
    }

    fn chosen<'a>(
        &self,
        alpn: impl Iterator<Item = &'a [u8]> + Clone,
        server_name: Option<&str>,
        out: &mut Vec<u8>,
    ) -> Result<Chosen, TlsError> {
        let Some(config) = self.config.of_server(server_name) else {
            return Err(diagnosis::server_name(server_name, out));
        };
        let choice = config.choose(alpn);
        let choice = choice.map_err(|reason| diagnosis::no_application_protocol(reason, out))?;
        if choice.server_name_required() && server_name.is_none() {
            return Err(diagnosis::server_name(None, out));
        }
        let server_name = server_name.map(host_name);
        let (rustls, secrets) = choice.for_connection(server_name.clone());
        let connection = Connection::server(rustls).map_err(diagnosis::internal)?;
        Ok(Chosen {
            connection,
            secrets,
            choice,
            server_name,
        })
    }

    /// Lets rustls put together a hello out of several records. It is given each byte once, so that a hello that comes
    /// in crumbs costs no more than its length.
    fn accept(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<Accepted>, TlsError> {
        let split = self.split.get_or_insert_with(|| {
            Box::new(SplitHello {
                acceptor: Acceptor::default(),
                fed: 0,
            })
        });
        if bytes.len() > HANDSHAKE_LEN_MAX {
            return Err(diagnosis::diagnose(Role::Server, Failure::TooLong, None));
        }
        loop {
            let mut rest = bytes.get(split.fed..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(None);
            }
            let read = split
                .acceptor
                .read_tls(&mut rest as &mut dyn Read)
                .map_err(diagnosis::internal)?;
            split.fed += read;
            match split.acceptor.accept() {
                Ok(Some(accepted)) => return Ok(Some(accepted)),
                Ok(None) if read == 0 => {
                    return Err(diagnosis::diagnose(Role::Server, Failure::TooLong, None));
                }
                Ok(None) => {}
                Err((error, mut alert)) => {
                    // Writing into a Vec does not fail.
                    let _ = alert.write_all(out);
                    return Err(diagnosis::diagnose(Role::Server, Failure::Rustls(error), None));
                }
            }
        }
    }
}
