//! What rustls's states ask for: to take its output and its plaintext while it is in them.

use rustls::{
    Error,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus},
};

use super::Failure;
use crate::records::Scratch;

pub(super) enum Step {
    Again,
    Settled(Settled),
}

pub(super) enum Settled {
    /// More input is needed, or nothing is left of it.
    Waiting,
    /// The plaintext of a record is in the scratch.
    Data,
    PeerClosed,
}

/// Handles one state of rustls: copies plaintext out of it, or what it wants to send.
pub(super) fn absorb<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> (usize, Result<Step, Error>) {
    let mut discard = status.discard;
    let step = match status.state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            // One record was fed, so there is one.
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    scratch.copy_in(record.payload);
                    Ok(Step::Settled(Settled::Data))
                }
                Some(Err(error)) => Err(error),
                None => Ok(Step::Again),
            }
        }
        Ok(ConnectionState::EncodeTlsData(encode)) => append(encode, out).map(|()| Step::Again),
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            // `out` owns the bytes now.
            transmit.done();
            Ok(Step::Again)
        }
        Ok(
            ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed,
        ) => Ok(Step::Settled(Settled::Waiting)),
        Ok(ConnectionState::PeerClosed) => Ok(Step::Settled(Settled::PeerClosed)),
        // Early data is off.
        Ok(_) => Err(Error::General(
            "rustls is in a state that was switched off".into(),
        )),
        Err(error) => Err(error),
    };
    (discard, step)
}

fn append<Data>(mut encode: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    let required = match encode.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(error)) => error.required_size,
        Err(error) => return Err(Error::General(error.to_string())),
    };
    out.resize(start + required, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    encode
        .encode(room)
        .map(|_| ())
        .map_err(|error| Error::General(error.to_string()))
}

pub(super) fn encrypt<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &[u8],
    room: &mut [u8],
) -> Result<usize, Failure> {
    match status.state.map_err(Failure::Rustls)? {
        ConnectionState::WriteTraffic(mut traffic) => {
            traffic.encrypt(plain, room).map_err(|error| match error {
                EncryptError::EncryptExhausted => Failure::KeysExhausted,
                EncryptError::InsufficientSize(_) => Failure::NoRoom,
            })
        }
        state => Err(unexpected(&state)),
    }
}

pub(super) fn queue_close<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    match status.state.map_err(Failure::Rustls)? {
        ConnectionState::WriteTraffic(mut traffic) => {
            // An alert is 2 bytes; more than its record can only be a KeyUpdate that rides in front of it.
            let mut room = [0; 128];
            match traffic.queue_close_notify(&mut room) {
                Ok(written) => {
                    out.extend_from_slice(room.get(..written).unwrap_or_default());
                    Ok(())
                }
                Err(_) => Err(Failure::KeysExhausted),
            }
        }
        state => Err(unexpected(&state)),
    }
}

fn unexpected<Data>(state: &ConnectionState<'_, '_, Data>) -> Failure {
    Failure::Rustls(Error::General(format!(
        "rustls cannot send in the state {state:?}"
    )))
}
