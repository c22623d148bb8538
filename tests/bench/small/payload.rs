//! What a device sent becomes a reading's payload.

use std::hint::black_box;

use windlass_reading::Format;

use crate::pair::{Named, Pairs};

/// A GTIN, which also is 13 digits.
const CODE: &[u8] = b"4006381333931";

pub(crate) fn run(pairs: &mut Pairs) {
    for (name, format) in [("payload decoded, digits", Format::Digits), ("payload decoded, gtin", Format::Gtin)] {
        let named = Named { name, reference: "UTF-8 check and copy", conditions: "13 digits" };
        assert!(format.decode(CODE, 1).is_ok());
        pairs.measure(
            named,
            |bencher| bencher.iter(|| format.decode(black_box(CODE), 1)),
            |bencher| bencher.iter(|| std::str::from_utf8(black_box(CODE)).map(str::to_owned)),
        );
    }
}
