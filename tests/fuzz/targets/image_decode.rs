//! A picture, decoded natively by the code of the sandbox: at full size as for enrolment, and
//! reduced as for recognition.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rostro_fuzz::pictures::{self, PIXELS};
use rostro_sdk::decode::{Budget, DecodeError, Reduced, decode_at_least, decode_within};

/// Longest side of any picture.
const LONGEST_SIDE: u32 = 65_535;

/// Limit of pixels of a JPEG that is decoded at an eighth of its size. Each of its sides may be
/// rounded up.
const JPEG_PIXELS: u64 = 64 * PIXELS;

fn check(decoded: &Reduced, least: u32) {
    let (width, height) = decoded.full;
    let is_jpeg = decoded.divisor > 1 || decoded.least_divisor > 1;
    let most = if is_jpeg { JPEG_PIXELS } else { PIXELS };
    assert!(
        width > 0
            && height > 0
            && width.max(height) <= LONGEST_SIDE
            && u64::from(width) * u64::from(height) <= most
    );
    assert!([1, 2, 4, 8].contains(&decoded.divisor) && decoded.divisor >= decoded.least_divisor);
    let picture = &decoded.picture;
    assert_eq!(
        (picture.width, picture.height),
        (
            width.div_ceil(decoded.divisor),
            height.div_ceil(decoded.divisor)
        )
    );
    assert_eq!(
        picture.pixels.len() as u64,
        3 * u64::from(picture.width) * u64::from(picture.height)
    );
    assert!(picture.pixels.len() as u64 <= 3 * PIXELS);
    assert!(decoded.divisor == decoded.least_divisor || picture.width.max(picture.height) >= least);
    for (index, flaw) in decoded.flaws.iter().enumerate() {
        assert!(
            flaw.message().len() <= 300
                && decoded
                    .flaws
                    .iter()
                    .skip(index + 1)
                    .all(|other| other.code() != flaw.code())
        );
    }
}

fuzz_target!(init: pictures::seeds(), |bytes: &[u8]| {
    let whole = match decode_at_least(bytes, PIXELS, u32::MAX) {
        Ok(whole) => whole,
        Err(DecodeError::TooLarge { width, height, max_pixels }) => {
            assert!([PIXELS, JPEG_PIXELS].contains(&max_pixels) && u64::from(width) * u64::from(height) > PIXELS);
            return;
        }
        // An undecodable scan need not be decoded at a reduced size.
        Err(DecodeError::Undecodable(why)) => {
            assert!(!why.is_empty());
            return;
        }
    };
    assert_eq!(whole.divisor, whole.least_divisor);
    check(&whole, u32::MAX);
    let (width, height) = whole.full;
    let divisor = [2, 4, 8, 16][bytes.len() % 4];
    let least = width.max(height).div_ceil(divisor);
    if let Ok(smaller) = decode_at_least(bytes, PIXELS, least) {
        assert_eq!((smaller.full, smaller.least_divisor), (whole.full, whole.least_divisor));
        check(&smaller, least);
    }
    // The limit is the exact size of the picture.
    let pixels = u64::from(whole.picture.width) * u64::from(whole.picture.height);
    match decode_at_least(bytes, pixels - 1, u32::MAX) {
        Ok(smaller) => assert!(smaller.divisor > whole.divisor),
        Err(error) => assert!(matches!(error, DecodeError::TooLarge { .. } | DecodeError::Undecodable(_))),
    }
    // Too little memory is reported for every format.
    let budget = Budget { max_pixels: PIXELS, memory: bytes.len() as u64 + 3 * pixels };
    assert!(matches!(decode_within(bytes, budget, u32::MAX), Err(DecodeError::Undecodable(why)) if why.contains("memory-mib")));
    // Enrolment gets all rows of a picture or an error.
    let lacks_rows = whole.flaws.iter().any(|flaw| flaw.lacks_rows());
    assert_eq!(whole.whole().is_err(), lacks_rows);
});
