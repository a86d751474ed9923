//! Where partial frames and records wait for the rest of them.

use fleetwire_codec::buffer::RecvBuf;

/// A connection's buffer that waits. In a box, so that connections without one pay for a pointer alone.
#[derive(Debug)]
pub(crate) struct Parked(Box<Option<RecvBuf>>);

impl Parked {
    pub(crate) fn buffer_mut(&mut self) -> Option<&mut RecvBuf> {
        self.0.as_mut().as_mut()
    }

    pub(crate) fn into_buffer(self) -> Option<RecvBuf> {
        *self.0
    }
}

/// Boxes that are free. A connection whose reads end within frames parks one each time, and none of that allocates.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    free: Vec<Parked>,
}

impl Parking {
    pub(crate) fn park(&mut self, buffer: RecvBuf) -> Parked {
        match self.free.pop() {
            Some(mut parked) => {
                *parked.0 = Some(buffer);
                parked
            }
            None => Parked(Box::new(Some(buffer))),
        }
    }

    pub(crate) fn unpark(&mut self, mut parked: Parked) -> Option<RecvBuf> {
        let buffer = parked.0.take();
        if self.free.len() < FREE_MAX {
            self.free.push(parked);
        }
        buffer
    }
}

/// Boxes that are kept: 64 KiB and a pointer each.
const FREE_MAX: usize = 1024;
