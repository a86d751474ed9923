//! Reads choices from the bytes that the fuzzer gives.

/// The bytes that are not used yet. After their end all choices are zero or empty.
#[derive(Clone, Copy)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub(super) fn bool(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    /// So many bytes, or what is left.
    pub(super) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Some bytes behind their length.
    pub(super) fn binary(&mut self) -> &'a [u8] {
        let len = self.byte();
        self.bytes(usize::from(len))
    }

    /// Some bytes as far as they are text.
    pub(super) fn text(&mut self) -> &'a str {
        let bytes = self.binary();
        let valid = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        // One longer than a length prefix can say, and the longest that it can: fuzzers seldom find them.
        match valid {
            "\u{1}" => LONG,
            "\u{2}" => &LONG[1..],
            valid => valid,
        }
    }

    /// One of these, whatever the byte.
    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }
}

/// 65,536 bytes of text.
const LONG: &str = match str::from_utf8(&[b'x'; 65_536]) {
    Ok(text) => text,
    Err(_) => "",
};
