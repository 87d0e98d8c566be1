//! Pictures beyond the memory limit are refused before any allocation.

use super::*;

fn within(bytes: &[u8], mib: u64) -> Result<Reduced, DecodeError> {
    decode_within(
        bytes,
        Budget {
            max_pixels: 40_000_000,
            memory: mib << 20,
        },
        u32::MAX,
    )
}

/// A chunk of a PNG.
fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let checked = [name.as_slice(), body].concat();
    let table = |byte: u32| {
        (0..8).fold(byte, |crc, _| {
            if crc & 1 == 1 {
                0xedb8_8320 ^ (crc >> 1)
            } else {
                crc >> 1
            }
        })
    };
    let crc = checked.iter().fold(u32::MAX, |crc, byte| {
        table((crc ^ u32::from(*byte)) & 0xff) ^ (crc >> 8)
    }) ^ u32::MAX;
    [
        &(body.len() as u32).to_be_bytes(),
        checked.as_slice(),
        &crc.to_be_bytes(),
    ]
    .concat()
}

/// The header of an RGB PNG without data.
fn png_header(width: u32, height: u32, depth: u8) -> Vec<u8> {
    let header = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &[depth, 2, 0, 0, 0],
    ]
    .concat();
    [
        b"\x89PNG\r\n\x1a\n".as_slice(),
        &chunk(b"IHDR", &header),
        &chunk(b"IDAT", &[]),
    ]
    .concat()
}

/// The refusal names format, size, memory, limit and remedy.
#[test]
fn picture_beyond_memory_is_refused() {
    let bmp = |width: u32, height: u32| {
        [
            b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".as_slice(),
            &width.to_le_bytes(),
            &height.to_le_bytes(),
            b"\x01\0\x18\0",
            &[0; 24],
        ]
        .concat()
    };
    let gif = [
        b"GIF89a".as_slice(),
        &6000_u16.to_le_bytes(),
        &6000_u16.to_le_bytes(),
        &[0; 3],
    ]
    .concat();
    let webp = [
        b"RIFF\x20\0\0\0WEBPVP8L\x10\0\0\0\x2f".as_slice(),
        &(5999_u32 | 5999 << 14).to_le_bytes(),
        &[0; 11],
    ]
    .concat();
    let entry = |tag: u16, value: u32| {
        [
            &tag.to_le_bytes()[..],
            &[4, 0, 1, 0, 0, 0],
            &value.to_le_bytes(),
        ]
        .concat()
    };
    let tags = [(256, 6000), (257, 6000), (258, 16), (262, 1), (273, 8)]
        .map(|(tag, value)| entry(tag, value))
        .concat();
    let tiff = [b"II*\0\x08\0\0\0\x05\0".as_slice(), &tags, &[0; 4]].concat();
    for (kind, bytes) in [
        ("PNG", png_header(6000, 6000, 16)),
        ("BMP", bmp(6000, 6000)),
        ("GIF", gif),
        ("WebP", webp),
        ("TIFF", tiff),
    ] {
        let error = within(&bytes, 96).unwrap_err().to_string();
        let (begin, end) = (
            format!("the {kind} of 6000×6000 pixels takes "),
            " MiB to decode, more than the limit memory-mib of 96; send a",
        );
        assert!(error.starts_with(&begin) && error.contains(end), "{error}");
        // With more memory it is decoded, and found to be cut off.
        let error = within(&bytes, 4095).unwrap_err().to_string();
        assert!(!error.contains("memory-mib"), "{error}");
    }
}

/// A quarter turn needs a copy, which counts.
#[test]
fn turned_picture_must_fit_memory() {
    let plain = png(4000, 4000, ExtendedColorType::L8, &vec![7; 4000 * 4000]);
    let exif = |orientation: u8| {
        [
            b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(),
            &[orientation],
            b"\0\0\0\0\0\0",
        ]
        .concat()
    };
    let turned = |orientation: u8| {
        [
            &plain[..33],
            &chunk(b"eXIf", &exif(orientation)),
            &plain[33..],
        ]
        .concat()
    };
    // 46 MiB of pixels and room to work, or twice as many pixels.
    let result = |orientation: u8, mib: u64| {
        within(&turned(orientation), mib)
            .map(|reduced| reduced.divisor)
            .map_err(|error| error.to_string())
    };
    assert_eq!((result(3, 80), result(6, 110)), (Ok(1), Ok(1)));
    for (orientation, mib) in [(3, 60), (6, 90)] {
        assert!(result(orientation, mib).unwrap_err().contains("memory-mib"));
    }
}

/// The repair of a damaged JPEG needs a copy.
#[test]
fn damaged_jpeg_must_fit_memory() {
    let whole = subsampled(1000, 1000);
    let middle = whole.len() / 2;
    let damaged = [&whole[..middle], b"\xff\x41".as_slice(), &whole[middle..]].concat();
    let bytes_of = |memory: u64, bytes: &[u8]| {
        decode_within(
            bytes,
            Budget {
                max_pixels: 40_000_000,
                memory,
            },
            u32::MAX,
        )
    };
    let least = Header::read(&whole).unwrap().memory_at(1) + damaged.len() as u64 + OVERHEAD;
    assert_eq!(bytes_of(least, &whole).unwrap().divisor, 1);
    let error = bytes_of(least, &damaged)
        .map(|reduced| reduced.divisor)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("the JPEG of 1000×1000 pixels is damaged, and takes")
            && error.contains("memory-mib of"),
        "{error}"
    );
    assert_eq!(
        codes(&bytes_of(least + 3 * damaged.len() as u64, &damaged).unwrap()),
        ["jpeg_corrupt_data", "jpeg_missing_data"]
    );
}

/// Profiles and texts that unpack to hundreds of megabytes stay packed.
#[test]
fn png_metadata_takes_no_memory() {
    let unpacked = fdeflate::compress_to_vec(&vec![0; 64 << 20]);
    let plain = png(4, 4, ExtendedColorType::Rgb8, &[7; 48]);
    for (name, body) in [
        (b"iCCP", [b"p\0\0".as_slice(), &unpacked].concat()),
        (b"zTXt", [b"p\0\0".as_slice(), &unpacked].concat()),
        (b"iTXt", [b"p\0\x01\0\0\0".as_slice(), &unpacked].concat()),
    ] {
        let bytes = [&plain[..33], &chunk(name, &body), &plain[33..]].concat();
        assert_eq!(
            within(&bytes, 16).unwrap().picture.pixels,
            [7; 48],
            "{name:?}"
        );
    }
}

/// A frame of a WebP must have the picture's size, because the decoder allocates the frame's size.
#[test]
fn webp_frame_has_its_size() {
    let bitstream = [
        b"VP8L\x10\0\0\0\x2f".as_slice(),
        &(15_999_u32 | 15_999 << 14).to_le_bytes(),
        &[0; 11],
    ]
    .concat();
    let header = b"VP8X\x0a\0\0\0\0\0\0\0\x3f\0\0\x3f\0\0";
    let bytes = [b"RIFF\x40\0\0\0WEBP".as_slice(), header, &bitstream].concat();
    let error = within(&bytes, 512).unwrap_err().to_string();
    assert!(error.contains("not of its size"), "{error}");
}

/// EXIF data after the pixels turns a PNG, too.
#[test]
fn late_exif_turns_png() {
    let plain = png(8, 4, ExtendedColorType::Rgb8, &[7; 96]);
    let end = plain.len() - 12;
    let exif = chunk(
        b"eXIf",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    );
    for at in [33, end] {
        let picture = decode(&[&plain[..at], &exif, &plain[at..]].concat(), PIXELS).unwrap();
        assert_eq!((picture.width, picture.height), (4, 8), "at {at}");
    }
}

/// Every order of rows and every header of BMP that Windows and OS/2 wrote is read.
#[test]
fn bmp_headers_are_read() {
    let head = |header: &[u8]| {
        [
            b"BM\0\0\0\0\0\0\0\0".as_slice(),
            &(14 + header.len() as u32).to_le_bytes(),
            header,
        ]
        .concat()
    };
    let windows = |height: i32, bits: u8| {
        head(
            &[
                b"\x28\0\0\0\x02\0\0\0".as_slice(),
                &height.to_le_bytes(),
                &[1, 0, bits, 0],
                &[0; 24],
            ]
            .concat(),
        )
    };
    let os2 = |length: u8, sides: &[u8]| {
        head(
            &[
                &[length, 0, 0, 0],
                sides,
                &[1, 0, 24, 0],
                &vec![0; usize::from(length) - 8 - sides.len()],
            ]
            .concat(),
        )
    };
    // Two rows of two pixels, blue first, padded to four bytes.
    let (upper, lower) = ([3, 2, 1, 6, 5, 4, 0, 0], [9, 8, 7, 12, 11, 10, 0, 0]);
    let (upper_32, lower_32) = ([3, 2, 1, 0, 6, 5, 4, 0], [9, 8, 7, 0, 12, 11, 10, 0]);
    let long = [2, 0, 0, 0, 2, 0, 0, 0];
    for (what, bytes) in [
        (
            "from below",
            [windows(2, 24), lower.to_vec(), upper.to_vec()].concat(),
        ),
        (
            "from above",
            [windows(-2, 24), upper.to_vec(), lower.to_vec()].concat(),
        ),
        (
            "from above, 32 bits",
            [windows(-2, 32), upper_32.to_vec(), lower_32.to_vec()].concat(),
        ),
        (
            "OS/2",
            [os2(12, &[2, 0, 2, 0]), lower.to_vec(), upper.to_vec()].concat(),
        ),
        (
            "OS/2 from 2.0 on",
            [os2(64, &long), lower.to_vec(), upper.to_vec()].concat(),
        ),
    ] {
        let picture = decode(&bytes, PIXELS).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(
            picture.pixels,
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
            "{what}"
        );
    }
}
