//! Damaged JPEGs.

use super::*;

/// Enrolment refuses an incomplete JPEG; recognition decodes it as far as possible.
#[test]
fn cut_off_jpeg_lacks_rows() {
    let whole = oriented(&jpeg(64, 64), 1);
    decode(&whole, PIXELS).unwrap();
    let header = whole
        .windows(2)
        .position(|pair| pair == [0xff, 0xda])
        .unwrap()
        + 14;
    for end in (1..whole.len() - 1).step_by(7) {
        let cut = &whole[..end];
        assert!(
            matches!(decode(cut, PIXELS), Err(DecodeError::Undecodable(_))),
            "cut at {end} of {}",
            whole.len()
        );
        let frame = decode_at_least(cut, PIXELS, u32::MAX);
        assert_eq!(
            frame.is_ok(),
            end >= header,
            "cut at {end} of {}: {frame:?}",
            whole.len()
        );
        if let Ok(frame) = frame {
            assert_eq!(
                (frame.full, codes(&frame)),
                ((64, 64), vec!["jpeg_missing_data", "jpeg_no_end_marker"]),
                "cut at {end}"
            );
        }
    }
}

#[test]
fn damaged_jpeg_never_panics() {
    let whole = subsampled(50, 50);
    for seed in 0..4000_usize {
        let mut bytes = whole.clone();
        for change in 0..1 + seed % 4 {
            let place = 2 + (seed * 7919 + change * 104_729) % (bytes.len() - 2);
            bytes[place] = (seed * 31 + change * 17) as u8;
        }
        let _ = decode_at_least(&bytes, PIXELS, [u32::MAX, 10][seed % 2]);
    }
}

/// A coloured JPEG with a restart marker after each row of blocks, and its restart markers.
fn with_restarts(width: usize, height: usize) -> (Vec<u8>, Vec<usize>) {
    use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};
    let samples: Vec<u8> = (0..3 * width * height)
        .map(|index| (index / 3 % width + index / 3 / width * 2) as u8)
        .collect();
    let bytes = Encoder::new(&samples, width, height, PixelFormat::Rgb)
        .subsampling(Subsampling::S420)
        .restart_rows(1)
        .encode()
        .unwrap();
    let (_, data) = places(&bytes);
    let markers = (data..bytes.len() - 1)
        .filter(|at| bytes[*at] == 0xff && matches!(bytes[at + 1], 0xd0..=0xd7))
        .collect();
    (bytes, markers)
}

/// Returns the rows of a picture that differ from those of another one.
fn different_rows(a: &Rgb, b: &Rgb) -> Vec<usize> {
    let row = 3 * a.width as usize;
    (0..a.height as usize)
        .filter(|row_index| {
            a.pixels[row_index * row..][..row] != b.pixels[row_index * row..][..row]
        })
        .collect()
}

/// Bytes between segments, after the end or in place of it cost no pixel.
#[test]
fn stray_bytes_cost_no_pixel() {
    let whole = subsampled(80, 60);
    let wanted = decode(&whole, PIXELS).unwrap();
    let check = |what: &str, bytes: &[u8], flaws: &[&str]| {
        let reduced = decode_at_least(bytes, PIXELS, u32::MAX)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(codes(&reduced), flaws, "{what}");
        assert_eq!(reduced.whole().unwrap().picture, wanted, "{what}");
        assert_eq!(
            decode_at_least(bytes, PIXELS, 40).unwrap().divisor,
            2,
            "{what}"
        );
    };
    check("whole", &whole, &[]);
    let (places, _) = places(&whole);
    for at in places.iter().copied() {
        for stray in [
            b"\0".as_slice(),
            b"\xff\0",
            b"several\0bytes",
            b"\xff\xd3",
            b"\xff\x01",
        ] {
            let bytes = [&whole[..at], stray, &whole[at..]].concat();
            check(
                &format!("{stray:02x?} at {at}"),
                &bytes,
                &["jpeg_stray_bytes"],
            );
        }
        check(
            "fill bytes",
            &[&whole[..at], b"\xff\xff", &whole[at..]].concat(),
            &[],
        );
    }
    let everywhere = places.iter().rev().fold(whole.clone(), |bytes, at| {
        [&bytes[..*at], b"x", &bytes[*at..]].concat()
    });
    check("stray bytes everywhere", &everywhere, &["jpeg_stray_bytes"]);
    let end = whole.len() - 2;
    check("no end", &whole[..end], &["jpeg_no_end_marker"]);
    check(
        "zeros",
        &[&whole[..end], &[0; 100]].concat(),
        &["jpeg_no_end_marker"],
    );
    check(
        "0xff",
        &[&whole[..end], &[0xff; 100]].concat(),
        &["jpeg_no_end_marker"],
    );
    check("half an end", &whole[..end + 1], &["jpeg_no_end_marker"]);
    check(
        "a tail",
        &[&whole, b"tail\0\xff\xd9".as_slice()].concat(),
        &[],
    );
    check(
        "two pictures",
        &[&whole, &subsampled(20, 20)[..]].concat(),
        &[],
    );
}

/// Frames of webcams come without Huffman tables.
#[test]
fn jpeg_without_tables_is_decoded() {
    let whole = subsampled(80, 60);
    let (places, data) = places(&whole);
    let ends = places.iter().skip(1).copied().chain([data]);
    let kept = places
        .iter()
        .zip(ends)
        .filter(|(at, _)| whole[**at + 1] != 0xc4)
        .flat_map(|(at, end)| &whole[*at..end]);
    let bytes = [
        &whole[..2],
        &kept.copied().collect::<Vec<_>>(),
        &whole[data..],
    ]
    .concat();
    assert!(bytes.len() < whole.len());
    let reduced = decode_at_least(&bytes, PIXELS, u32::MAX).unwrap();
    assert_eq!(
        (codes(&reduced), reduced.picture),
        (vec![], decode(&whole, PIXELS).unwrap())
    );
}

/// Data lost between two restart markers costs only its own rows.
#[test]
fn lost_restart_interval_costs_its_rows() {
    let (whole, markers) = with_restarts(64, 320);
    let wanted = decode(&whole, PIXELS).unwrap();
    assert_eq!(markers.len(), 19);
    // Rows of blocks with lost data, with their neighbours in the upsampling of colours.
    let rows = |from: usize, to: usize| (16 * from).saturating_sub(1)..=16 * to;
    for (what, bytes, lost) in [
        (
            "a marker",
            [&whole[..markers[3]], &whole[markers[3] + 2..]].concat(),
            rows(3, 5),
        ),
        (
            "half an interval",
            [&whole[..markers[3] + 4], &whole[markers[4] - 3..]].concat(),
            rows(4, 5),
        ),
        (
            "three intervals",
            [&whole[..markers[3]], &whole[markers[6]..]].concat(),
            rows(4, 7),
        ),
        (
            "ten intervals",
            [&whole[..markers[3]], &whole[markers[13]..]].concat(),
            rows(4, 14),
        ),
        (
            "across markers",
            [&whole[..markers[3] - 5], &whole[markers[5] + 9..]].concat(),
            rows(3, 7),
        ),
        ("the end", whole[..markers[15]].to_vec(), rows(16, 20)),
    ] {
        let reduced = decode_at_least(&bytes, PIXELS, u32::MAX)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(
            codes(&reduced).contains(&"jpeg_missing_data"),
            "{what}: {:?}",
            reduced.flaws
        );
        assert_eq!(
            codes(&reduced).contains(&"jpeg_restart_markers"),
            what != "half an interval",
            "{what}: {:?}",
            reduced.flaws
        );
        let different = different_rows(&reduced.picture, &wanted);
        assert!(
            !different.is_empty() && different.iter().all(|row| lost.contains(row)),
            "{what}: {lost:?}, {different:?}"
        );
        assert!(
            matches!(reduced.whole(), Err(DecodeError::Undecodable(why)) if why.contains("missing")),
            "{what}"
        );
    }
}

/// Without restart markers, a lost packet leaves the rows before it.
#[test]
fn lost_packet_costs_what_follows_it() {
    // Edges everywhere, as in a photo: some bytes for each unit.
    let shade = |x: usize, y: usize| (x * 3 / 4 + y / 2 + 60 * ((x / 11 + y / 13) % 2)) as u8;
    let samples: Vec<u8> = (0..3 * 320 * 320)
        .map(|index| shade(index / 3 % 320, index / 3 / 320))
        .collect();
    let whole = libjpeg_turbo_rs::compress(
        &samples,
        320,
        320,
        libjpeg_turbo_rs::PixelFormat::Rgb,
        85,
        libjpeg_turbo_rs::Subsampling::S420,
    )
    .unwrap();
    let wanted = decode(&whole, PIXELS).unwrap();
    let (_, data) = places(&whole);
    let middle = data + (whole.len() - data) / 2;
    for length in [200, 1000, 3000] {
        let bytes = [&whole[..middle], &whole[middle + length..]].concat();
        let reduced = decode_at_least(&bytes, PIXELS, u32::MAX).unwrap();
        assert!(!reduced.flaws.is_empty());
        let different = different_rows(&reduced.picture, &wanted);
        assert!(different.iter().all(|row| *row > 80), "{different:?}");
        assert!(reduced.whole().is_err(), "{length} lost");
    }
}

/// Progressive pictures are decoded as far as their data goes.
#[test]
fn damaged_progressive_jpeg_is_decoded() {
    use libjpeg_turbo_rs::{Encoder, PixelFormat};
    let samples: Vec<u8> = (0..3 * 64 * 64)
        .map(|index| (index / 3 % 64 * 3) as u8)
        .collect();
    let whole = Encoder::new(&samples, 64, 64, PixelFormat::Rgb)
        .progressive(true)
        .encode()
        .unwrap();
    let wanted = decode(&whole, PIXELS).unwrap();
    for (padding, flaw) in [
        (b"".as_slice(), "jpeg_no_end_marker"),
        (&[0; 50], "jpeg_no_end_marker"),
    ] {
        let reduced = decode_at_least(
            &[&whole[..whole.len() - 2], padding].concat(),
            PIXELS,
            u32::MAX,
        )
        .unwrap();
        assert_eq!((codes(&reduced), &reduced.picture), (vec![flaw], &wanted));
    }
    let (_, data) = places(&whole);
    for end in data + 40..whole.len() - 3 {
        let reduced = decode_at_least(&whole[..end], PIXELS, u32::MAX)
            .unwrap_or_else(|error| panic!("cut at {end}: {error}"));
        let is_reported = codes(&reduced)
            .iter()
            .any(|code| matches!(*code, "jpeg_missing_data" | "jpeg_missing_detail"));
        assert!(is_reported, "cut at {end}: {:?}", reduced.flaws);
    }
    for at in (data..whole.len() - 10).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(b"\xab\xcd\x12\x7e");
        if let Ok(reduced) = decode_at_least(&bytes, PIXELS, u32::MAX) {
            assert_eq!(reduced.full, (64, 64));
        }
    }
}

/// Returns the end of each scan of a JPEG.
fn scan_ends(jpeg: &[u8]) -> Vec<usize> {
    let scans: Vec<usize> = (0..jpeg.len() - 1)
        .filter(|at| jpeg[*at..at + 2] == [0xff, 0xda])
        .collect();
    let is_end = |at: &usize| jpeg[*at] == 0xff && !matches!(jpeg[at + 1], 0 | 0xd0..=0xd7);
    scans
        .iter()
        .map(|scan| (scan + 4..jpeg.len() - 1).find(is_end).unwrap())
        .collect()
}

/// A progressive picture with whole first scans has all rows, so it may enrol, with a warning.
#[test]
fn progressive_jpeg_without_detail_enrols() {
    use libjpeg_turbo_rs::{Encoder, PixelFormat};
    let samples: Vec<u8> = (0..3 * 160 * 160)
        .map(|index| (index / 3 % 160 * (index / 480 % 7 + 1)) as u8)
        .collect();
    let whole = Encoder::new(&samples, 160, 160, PixelFormat::Rgb)
        .progressive(true)
        .encode()
        .unwrap();
    let ends = scan_ends(&whole);
    assert!(ends.len() > 3, "{ends:?}");
    for (what, bytes) in [
        ("no refinement", whole[..ends[2]].to_vec()),
        (
            "half of the last scan",
            [&whole[..ends[ends.len() - 1] - 100], b"\xff\xd9".as_slice()].concat(),
        ),
        (
            "a hole in the last scan",
            [
                &whole[..ends[ends.len() - 1] - 100],
                &whole[ends[ends.len() - 1] - 50..],
            ]
            .concat(),
        ),
    ] {
        let reduced = decode_at_least(&bytes, PIXELS, u32::MAX).unwrap();
        let flaws = codes(&reduced);
        assert!(
            flaws.contains(&"jpeg_missing_detail") && !flaws.contains(&"jpeg_missing_data"),
            "{what}: {flaws:?}"
        );
        assert!(reduced.whole().is_ok(), "{what}");
    }
    for (what, bytes) in [
        ("half of the first scan", whole[..ends[0] - 20].to_vec()),
        (
            "a hole in the first scan",
            [&whole[..ends[0] - 60], &whole[ends[0] - 20..]].concat(),
        ),
    ] {
        let reduced = decode_at_least(&bytes, PIXELS, u32::MAX).unwrap();
        assert!(
            codes(&reduced).contains(&"jpeg_missing_data"),
            "{what}: {:?}",
            reduced.flaws
        );
        assert!(reduced.whole().is_err(), "{what}");
    }
}

/// A marker in place of coded data ends the picture there, as in libjpeg, or the interval up to the
/// next restart marker. Without a warning all later positions would be wrong.
#[test]
fn marker_in_data_is_reported() {
    let shade = |x: usize, y: usize| (x * 3 / 4 + y / 2 + 60 * ((x / 11 + y / 13) % 2)) as u8;
    let samples: Vec<u8> = (0..3 * 160 * 160)
        .map(|index| shade(index / 3 % 160, index / 3 / 160))
        .collect();
    let encoder = || {
        use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};
        Encoder::new(&samples, 160, 160, PixelFormat::Rgb).subsampling(Subsampling::S420)
    };
    for (whole, has_restarts) in [
        (encoder().encode().unwrap(), false),
        (encoder().restart_rows(1).encode().unwrap(), true),
    ] {
        let wanted = decode(&whole, PIXELS).unwrap();
        let (_, data) = places(&whole);
        let middle = data + (whole.len() - data) / 2;
        let at = (middle..)
            .find(|at| whole[at - 1..at + 3].iter().all(|byte| *byte != 0xff))
            .unwrap();
        for code in [0x10, 0x41, 0x7f, 0xbf, 0xc4, 0xdc, 0xe1, 0xfe] {
            for removed in [0, 2] {
                let bytes = [&whole[..at], &[0xff, code], &whole[at + removed..]].concat();
                let reduced = decode_at_least(&bytes, PIXELS, u32::MAX).unwrap();
                assert_eq!(
                    codes(&reduced),
                    ["jpeg_corrupt_data", "jpeg_missing_data"],
                    "{code:02x} for {removed} bytes"
                );
                let different = different_rows(&reduced.picture, &wanted);
                assert!(
                    different.iter().all(|row| *row > 48),
                    "{code:02x}: {different:?}"
                );
                assert!(
                    !has_restarts || different.len() <= 36,
                    "{code:02x}: {different:?}"
                );
                assert!(reduced.whole().is_err(), "{code:02x} for {removed} bytes");
            }
        }
        // After the last unit it costs nothing.
        let end = whole.len() - 2;
        let reduced = decode_at_least(
            &[&whole[..end], b"\xff\x41", &whole[end..]].concat(),
            PIXELS,
            u32::MAX,
        )
        .unwrap();
        assert_eq!(reduced.whole().unwrap().picture, wanted);
    }
}

/// The order of restart markers is checked first, because the decoder ignores it.
#[test]
fn disordered_restarts_are_reported() {
    let (whole, markers) = with_restarts(64, 320);
    let wanted = decode(&whole, PIXELS).unwrap();
    let interval = |index: usize| &whole[markers[index]..markers[index + 1]];
    let mut wrong = whole.clone();
    wrong[markers[4] + 1] = 0xd0 | ((wrong[markers[4] + 1] + 4) % 8);
    let rows = |from: usize, to: usize| (16 * from).saturating_sub(1)..=16 * to;
    for (what, bytes, lost) in [
        ("a wrong number", wrong, 0..=0),
        (
            "an interval twice",
            [&whole[..markers[5]], interval(4), &whole[markers[5]..]].concat(),
            0..=0,
        ),
        // In libjpeg's view the first of the two is lost and the second one comes too late.
        (
            "two intervals swapped",
            [
                &whole[..markers[4]],
                interval(5),
                interval(4),
                &whole[markers[6]..],
            ]
            .concat(),
            rows(5, 6),
        ),
        // Their numbers are in order, but too many. The picture repeats after as many rows.
        (
            "eight intervals twice",
            [
                &whole[..markers[9]],
                &whole[markers[1]..markers[9]],
                &whole[markers[9]..],
            ]
            .concat(),
            0..=0,
        ),
    ] {
        let reduced = decode_at_least(&bytes, PIXELS, u32::MAX)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(
            codes(&reduced).contains(&"jpeg_restart_markers"),
            "{what}: {:?}",
            reduced.flaws
        );
        let different = different_rows(&reduced.picture, &wanted);
        assert_eq!(
            different.is_empty(),
            lost == (0..=0),
            "{what}: {different:?}"
        );
        assert!(
            different.iter().all(|row| lost.contains(row)),
            "{what}: {lost:?}, {different:?}"
        );
    }
    // A marker after the last interval is not a fault.
    let end = whole.len() - 2;
    let last = 0xd0 | (markers.len() % 8) as u8;
    let reduced = decode_at_least(
        &[&whole[..end], &[0xff, last], &whole[end..]].concat(),
        PIXELS,
        u32::MAX,
    )
    .unwrap();
    assert_eq!((codes(&reduced), reduced.picture), (vec![], wanted));
}

/// JPEGs of kinds that cameras do not write, but libjpeg decodes, are decoded.
#[test]
fn rare_jpeg_is_decoded() {
    use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};
    let samples: Vec<u8> = (0..3 * 64 * 48)
        .map(|index| (index / 3 % 64 * 3) as u8)
        .collect();
    let encoder =
        || Encoder::new(&samples, 64, 48, PixelFormat::Rgb).subsampling(Subsampling::S420);
    let wanted = decode(&encoder().encode().unwrap(), PIXELS).unwrap();
    for (what, bytes) in [
        ("arithmetic", encoder().arithmetic(true).encode().unwrap()),
        (
            "arithmetic and progressive",
            encoder()
                .arithmetic(true)
                .progressive(true)
                .encode()
                .unwrap(),
        ),
    ] {
        let reduced = decode_at_least(&bytes, PIXELS, u32::MAX)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(
            (codes(&reduced), &reduced.picture),
            (vec![], &wanted),
            "{what}"
        );
        let cut = decode_at_least(&bytes[..bytes.len() - 60], PIXELS, u32::MAX).unwrap();
        assert!(
            codes(&cut).contains(&"jpeg_missing_data"),
            "{what}: {:?}",
            cut.flaws
        );
    }
    // Colours sampled at twice the width of brightness.
    let grey: Vec<u8> = vec![90; 3 * 64 * 64];
    let mut fine = Encoder::new(&grey, 64, 64, PixelFormat::Rgb)
        .subsampling(Subsampling::S444)
        .encode()
        .unwrap();
    let frame = *places(&fine)
        .0
        .iter()
        .find(|at| fine[**at + 1] == 0xc0)
        .unwrap();
    // Five blocks a unit of 16 × 8 pixels need 160 blocks, of the 192 in the file.
    fine[frame + 14] = 0x21;
    fine[frame + 17] = 0x21;
    let reduced = decode_at_least(&fine, PIXELS, 8);
    assert!(reduced.is_ok_and(|reduced| reduced.full == (64, 64) && reduced.divisor == 1));
}

/// The error has the true cause.
#[test]
fn undecodable_jpeg_has_true_cause() {
    let whole = subsampled(80, 60);
    let (places, data) = places(&whole);
    let frame = *places.iter().find(|at| whole[**at + 1] == 0xc0).unwrap();
    let after = frame + 2 + usize::from(whole[frame + 3]);
    let scan = *places.last().unwrap();
    let of_frame = |marker: u8, bits: u8| {
        let mut bytes = whole.clone();
        (bytes[frame + 1], bytes[frame + 4]) = (marker, bits);
        bytes
    };
    // Brightness in a scan of its own, and then both colours.
    let scans = [
        b"\xff\xda\0\x08\x01\x01\0\0\x3f\0data".as_slice(),
        b"\xff\xda\0\x0a\x02\x02\x11\x03\x11\0\x3f\0data\xff\xd9",
    ];
    let mixed = [&whole[..scan], &scans.concat()].concat();
    for (bytes, wanted) in [
        (whole[..20].to_vec(), "is cut off before its first row"),
        (
            whole[..data - 1].to_vec(),
            "is cut off before its first row",
        ),
        (
            [&whole[..frame], &whole[after..]].concat(),
            "no frame header",
        ),
        (
            [&whole[..2], b"\xff\xe0\0\x01".as_slice(), &whole[2..]].concat(),
            "the segment at byte 4 has no length",
        ),
        (
            [&whole[..scan], b"\xff\xd9".as_slice()].concat(),
            "has no scan",
        ),
        (
            of_frame(0xc3, 8),
            "the JPEG is lossless; save it as a baseline JPEG or as PNG",
        ),
        (of_frame(0xcb, 8), "the JPEG is lossless"),
        (of_frame(0xc5, 8), "the JPEG is hierarchical"),
        (of_frame(0xcf, 8), "the JPEG is hierarchical and lossless"),
        (of_frame(0xc1, 12), "the JPEG is of 12 bits a sample"),
        (of_frame(0xf7, 8), "the JPEG is of the kind JPEG-LS"),
        (
            [
                &whole[..frame],
                b"\xff\xde\0\x02".as_slice(),
                &whole[frame..],
            ]
            .concat(),
            "the JPEG is hierarchical",
        ),
        (
            mixed,
            "the JPEG has scans of several components, but not of all; save it",
        ),
        (
            b"BM is how this text begins, and nothing else".to_vec(),
            "this is not a JPEG, PNG, WebP, BMP, GIF or TIFF image",
        ),
        (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec(),
            "this is a HEIC photo; send it as JPEG",
        ),
        (
            b"nothing".to_vec(),
            "this is not a JPEG, PNG, WebP, BMP, GIF or TIFF image",
        ),
        (Vec::new(), "the file is empty"),
    ] {
        match decode(&bytes, PIXELS) {
            Err(DecodeError::Undecodable(cause)) => assert!(cause.contains(wanted), "{cause}"),
            other => panic!("{wanted}: {other:?}"),
        }
    }
}
