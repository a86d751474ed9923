//! Where partial frames and records wait for the rest of them.

use fleetwire_codec::buffer::RecvBuf;

use crate::driver::Key;

/// The buffers that wait, by their connections' keys.
///
/// They lie apart from the links, close together: before each read it is asked whether there is one, mostly in vain, and
/// the link need not be in the cache for that. Boxes that are free are kept, so that a connection whose reads end within
/// frames parks one each time, and none of that allocates.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Parking {
    /// How many places are filled.
    parked: usize,
    places: Vec<Option<Place>>,
    free: Vec<Place>,
}

/// Filled exactly if it is in `places`.
type Place = Box<Option<RecvBuf>>;

/// Boxes that are kept: 72 KiB in all.
const FREE_MAX: usize = 1024;

impl Parking {
    /// Keeps the buffer for the connection, which has taken what it parked before.
    pub(crate) fn park(&mut self, key: Key, buffer: RecvBuf) {
        let mut parked = self.free.pop().unwrap_or_default();
        *parked = Some(buffer);
        let index = key as usize;
        if self.places.len() <= index {
            self.places.resize_with(index + 1, || None);
        }
        if let Some(place) = self.places.get_mut(index) {
            debug_assert!(place.is_none(), "it was not taken");
            *place = Some(parked);
            self.parked += 1;
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.parked == 0
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut RecvBuf> {
        self.places.get_mut(key as usize)?.as_mut()?.as_mut().as_mut()
    }

    #[inline]
    pub(crate) fn take(&mut self, key: Key) -> Option<RecvBuf> {
        let parked = self.places.get_mut(key as usize)?.take()?;
        self.parked -= 1;
        self.empty(parked)
    }

    fn empty(&mut self, mut parked: Place) -> Option<RecvBuf> {
        let buffer = parked.take();
        if self.free.len() < FREE_MAX {
            self.free.push(parked);
        }
        buffer
    }
}
