//! TIFFs as scanners, editors and OpenCV write them, built here tag by tag.

use super::*;

const WIDTH: usize = 40;
const HEIGHT: usize = 24;

/// Colours that vary along both axes.
fn colour(x: usize, y: usize) -> [u8; 3] {
    [6 * x, 10 * y, 255 - 3 * (x + y)].map(|value| value as u8)
}

/// The picture's samples, row by row.
fn samples<const N: usize>(each: impl Fn(usize, usize) -> [u8; N]) -> Vec<u8> {
    (0..WIDTH * HEIGHT)
        .flat_map(|index| each(index % WIDTH, index / WIDTH))
        .collect()
}

/// Builds a TIFF of these tags and strips or tiles; `places` is the tag of their positions.
fn tiff(is_big_endian: bool, tags: &[(u16, &[u32])], places: u16, chunks: &[Vec<u8>]) -> Vec<u8> {
    let short = |value: u16| {
        if is_big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let long = |value: u32| {
        if is_big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let mut bytes = [
        if is_big_endian { b"MM" } else { b"II" }.as_slice(),
        &short(42),
        &[0; 4],
    ]
    .concat();
    let mut offsets = Vec::new();
    for chunk in chunks {
        offsets.push(bytes.len() as u32);
        bytes.extend(chunk);
    }
    let sizes: Vec<u32> = chunks.iter().map(|chunk| chunk.len() as u32).collect();
    let mut all: Vec<(u16, &[u32])> = tags.to_vec();
    all.extend([
        (256, &[WIDTH as u32][..]),
        (257, &[HEIGHT as u32]),
        (places, &offsets),
        (if places == 324 { 325 } else { 279 }, &sizes),
    ]);
    all.sort_by_key(|(tag, _)| *tag);
    let mut entries = short(all.len() as u16).to_vec();
    for (tag, values) in all {
        // Bytes for tables, and LONG for anything else.
        let is_bytes = tag == 347;
        let value: Vec<u8> = if is_bytes {
            values.iter().map(|v| *v as u8).collect()
        } else {
            values.iter().flat_map(|v| long(*v)).collect()
        };
        entries.extend([short(tag), short(if is_bytes { 1 } else { 4 })].concat());
        entries.extend(long(values.len() as u32));
        if value.len() > 4 {
            entries.extend(long(bytes.len() as u32));
            bytes.extend(value);
        } else {
            entries.extend([&value[..], &[0; 4][value.len()..]].concat());
        }
    }
    let directory = long(bytes.len() as u32);
    bytes[4..8].copy_from_slice(&directory);
    bytes.extend(entries);
    bytes.extend([0; 4]);
    bytes
}

/// Cuts rows of samples into tiles of 16 × 16 pixels, padded at the edges.
fn tiles(samples: &[u8], each: usize) -> Vec<Vec<u8>> {
    let at = |x: usize, y: usize, of: usize| {
        if x < WIDTH && y < HEIGHT {
            samples[(y * WIDTH + x) * each + of]
        } else {
            0x77
        }
    };
    let tile = |left: usize, top: usize| {
        (0..256 * each)
            .map(|index| {
                at(
                    left + index / each % 16,
                    top + index / each / 16,
                    index % each,
                )
            })
            .collect()
    };
    (0..HEIGHT.div_ceil(16))
        .flat_map(|y| (0..WIDTH.div_ceil(16)).map(move |x| tile(16 * x, 16 * y)))
        .collect()
}

fn decoded(what: &str, bytes: &[u8]) -> Vec<u8> {
    let picture = decode(bytes, PIXELS).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(
        (picture.width, picture.height),
        (WIDTH as u32, HEIGHT as u32),
        "{what}"
    );
    picture.pixels
}

fn lzw(bytes: &[u8]) -> Vec<u8> {
    weezl::encode::Encoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8)
        .encode(bytes)
        .unwrap()
}

/// All layouts of equal pixels give equal pictures.
#[test]
fn tiff_layouts_are_decoded() {
    let rgb = samples(colour);
    let plane = |of: usize| -> Vec<u8> { rgb.iter().skip(of).step_by(3).copied().collect() };
    let planes = [plane(0), plane(1), plane(2)];
    let tiled_planes: Vec<Vec<u8>> = planes.iter().flat_map(|plane| tiles(plane, 1)).collect();
    let rows = |count: usize| -> Vec<Vec<u8>> {
        rgb.chunks(3 * WIDTH * count).map(<[u8]>::to_vec).collect()
    };
    let packed = |chunks: &[Vec<u8>], pack: fn(&[u8]) -> Vec<u8>| -> Vec<Vec<u8>> {
        chunks.iter().map(|chunk| pack(chunk)).collect()
    };
    let packbits = |bytes: &[u8]| -> Vec<u8> {
        bytes
            .chunks(100)
            .flat_map(|run| [&[run.len() as u8 - 1], run].concat())
            .collect()
    };
    // Without the end code and the last bits of the stream, as from some writers.
    let unended = |bytes: &[u8]| -> Vec<u8> {
        let all = lzw(bytes);
        all[..all.len() - 1].to_vec()
    };
    let differences = |bytes: &[u8]| -> Vec<u8> {
        let row = |row: &[u8]| -> Vec<u8> {
            (0..row.len())
                .map(|at| row[at].wrapping_sub(if at < 3 { 0 } else { row[at - 3] }))
                .collect()
        };
        bytes.chunks(3 * WIDTH).flat_map(row).collect()
    };
    let colours: &[(u16, &[u32])] = &[(258, &[8, 8, 8]), (262, &[2]), (277, &[3])];
    for (what, extra, places, chunks) in [
        ("one strip", vec![], 273, rows(HEIGHT)),
        ("strips", vec![(278, &[7][..])], 273, rows(7)),
        (
            "a strip of all rows that there could be",
            vec![(278, &[u32::MAX][..])],
            273,
            rows(HEIGHT),
        ),
        ("planes", vec![(284, &[2][..])], 273, planes.to_vec()),
        (
            "tiles",
            vec![(322, &[16][..]), (323, &[16])],
            324,
            tiles(&rgb, 3),
        ),
        (
            "planes of tiles",
            vec![(284, &[2][..]), (322, &[16]), (323, &[16])],
            324,
            tiled_planes.clone(),
        ),
        (
            "deflate",
            vec![(259, &[8][..]), (278, &[5])],
            273,
            packed(&rows(5), fdeflate::compress_to_vec),
        ),
        (
            "LZW",
            vec![(259, &[5][..]), (278, &[5])],
            273,
            packed(&rows(5), lzw),
        ),
        (
            "LZW without an end",
            vec![(259, &[5][..]), (322, &[16]), (323, &[16])],
            324,
            packed(&tiles(&rgb, 3), unended),
        ),
        (
            "PackBits",
            vec![(259, &[32_773][..])],
            273,
            packed(&rows(HEIGHT), packbits),
        ),
        (
            "differences",
            vec![(259, &[8][..]), (317, &[2])],
            273,
            packed(&[differences(&rgb)], fdeflate::compress_to_vec),
        ),
        (
            "planes of tiles in LZW",
            vec![(259, &[5][..]), (284, &[2]), (322, &[16]), (323, &[16])],
            324,
            packed(&tiled_planes, lzw),
        ),
    ] {
        for is_big_endian in [false, true] {
            let bytes = tiff(is_big_endian, &[colours, &extra].concat(), places, &chunks);
            assert!(
                decoded(what, &bytes) == rgb,
                "{what}, big endian {is_big_endian}"
            );
            // Damage is an error, and never a panic.
            for end in (0..bytes.len()).step_by(13) {
                let _ = decode(&bytes[..end], PIXELS);
            }
        }
    }
}

/// Samples of every kind become 8-bit RGB.
#[test]
fn tiff_colours_become_rgb() {
    let rgb = samples(colour);
    let grey = samples(|x, y| [(6 * x + y) as u8]);
    let of_grey: Vec<u8> = grey.iter().flat_map(|value| [*value; 3]).collect();
    let numbers = samples(|x, y| [((x + y) % 16) as u8]);
    let palette: Vec<u32> = [7, 11, 13]
        .iter()
        .flat_map(|factor| (0..16).map(move |index| 257 * (index * factor)))
        .collect();
    let of_numbers: Vec<u8> = numbers
        .iter()
        .flat_map(|index| [7, 11, 13].map(|factor| index * factor))
        .collect();
    let nibbles: Vec<u8> = numbers
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    let bits: Vec<u8> = numbers
        .chunks(8)
        .map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | (bit & 1)))
        .collect();
    let of_bits: Vec<u8> = numbers
        .iter()
        .flat_map(|bit| [255 * (bit & 1); 3])
        .collect();
    let inks = samples(|x, y| {
        let [r, g, b] = colour(x, y);
        [255 - r, 255 - g, 255 - b, 0]
    });
    let ink = |of: usize| -> Vec<u8> { inks.iter().skip(of).step_by(4).copied().collect() };
    let ycc = samples(|x, y| [(6 * x + y) as u8, 128, 128]);
    let deep: Vec<u8> = rgb
        .iter()
        .flat_map(|value| (257 * u16::from(*value)).to_le_bytes())
        .collect();
    let floats: Vec<u8> = rgb
        .iter()
        .flat_map(|value| (f32::from(*value) / 255.0).to_le_bytes())
        .collect();
    for (what, tags, chunks, wanted) in [
        (
            "grey",
            vec![(258, &[8][..]), (262, &[1])],
            vec![grey.clone()],
            &of_grey,
        ),
        (
            "inverted grey",
            vec![(258, &[8][..]), (262, &[0])],
            vec![grey.iter().map(|value| 255 - value).collect()],
            &of_grey,
        ),
        (
            "grey and alpha",
            vec![(258, &[8, 8][..]), (262, &[1]), (277, &[2]), (338, &[2])],
            vec![grey.iter().flat_map(|v| [*v, 9]).collect()],
            &of_grey,
        ),
        (
            "RGB and alpha",
            vec![
                (258, &[8, 8, 8, 8][..]),
                (262, &[2]),
                (277, &[4]),
                (338, &[2]),
            ],
            vec![rgb.chunks(3).flat_map(|p| [p[0], p[1], p[2], 9]).collect()],
            &rgb,
        ),
        (
            "a palette of 16",
            vec![(258, &[4][..]), (262, &[3]), (320, &palette)],
            vec![nibbles],
            &of_numbers,
        ),
        (
            "one bit",
            vec![(258, &[1][..]), (262, &[1])],
            vec![bits],
            &of_bits,
        ),
        (
            "CMYK",
            vec![(258, &[8; 4][..]), (262, &[5]), (277, &[4])],
            vec![inks.clone()],
            &rgb,
        ),
        (
            "planes of CMYK",
            vec![(258, &[8; 4][..]), (262, &[5]), (277, &[4]), (284, &[2])],
            vec![ink(0), ink(1), ink(2), ink(3)],
            &rgb,
        ),
        (
            "YCbCr",
            vec![(258, &[8; 3][..]), (262, &[6]), (277, &[3]), (530, &[1, 1])],
            vec![ycc],
            &of_grey,
        ),
        (
            "16 bits",
            vec![(258, &[16; 3][..]), (262, &[2]), (277, &[3])],
            vec![deep],
            &rgb,
        ),
        (
            "floats",
            vec![
                (258, &[32; 3][..]),
                (262, &[2]),
                (277, &[3]),
                (339, &[3; 3]),
            ],
            vec![floats],
            &rgb,
        ),
    ] {
        assert!(
            decoded(what, &tiff(false, &tags, 273, &chunks)) == *wanted,
            "{what}"
        );
    }
}

/// JPEG strips and tiles have their tables in a tag, and colours by another tag.
#[test]
fn jpeg_in_tiff_is_decoded() {
    use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};
    let grey_blue = |_, y: usize| [40, 90, (8 * y) as u8];
    let rgb = samples(grey_blue);
    let ycc = compress(
        &rgb,
        WIDTH,
        HEIGHT,
        PixelFormat::Rgb,
        100,
        Subsampling::S444,
    )
    .unwrap();
    // The tables become a tag of their own, and the rest the strip.
    let (places, data) = places(&ycc);
    let ends = places.iter().skip(1).copied().chain([data]);
    let (mut tables, mut strip) = (vec![0xff, 0xd8], vec![0xff, 0xd8]);
    // JFIF's segment would define the components.
    for (at, end) in places
        .iter()
        .zip(ends)
        .filter(|(at, _)| ycc[**at + 1] != 0xe0)
    {
        if matches!(ycc[at + 1], 0xdb | 0xc4) {
            &mut tables
        } else {
            &mut strip
        }
        .extend(&ycc[*at..end]);
    }
    tables.extend([0xff, 0xd9]);
    strip.extend(&ycc[data..]);
    let tables: Vec<u32> = tables.into_iter().map(u32::from).collect();
    let common: &[(u16, &[u32])] = &[(258, &[8, 8, 8]), (259, &[7]), (277, &[3])];
    let near = |bytes: &[u8], wanted: &[u8]| {
        decoded("JPEG", bytes)
            .iter()
            .zip(wanted)
            .all(|(value, wanted)| value.abs_diff(*wanted) < 6)
    };
    let bytes = tiff(
        false,
        &[common, &[(262, &[6]), (347, &tables)]].concat(),
        273,
        &[strip.clone()],
    );
    assert!(near(&bytes, &rgb));
    let bytes = tiff(false, &[common, &[(262, &[6])]].concat(), 273, &[ycc]);
    assert!(near(&bytes, &rgb));
    // As red, green and blue, the components are other colours.
    let bytes = tiff(
        false,
        &[common, &[(262, &[2]), (347, &tables)]].concat(),
        273,
        &[strip],
    );
    assert!(!near(&bytes, &rgb));
    let tile =
        |tile: Vec<u8>| compress(&tile, 16, 16, PixelFormat::Rgb, 100, Subsampling::S420).unwrap();
    let tiles: Vec<Vec<u8>> = tiles(&rgb, 3).into_iter().map(tile).collect();
    let bytes = tiff(
        false,
        &[common, &[(262, &[6]), (322, &[16]), (323, &[16])]].concat(),
        324,
        &tiles,
    );
    assert_eq!(decoded("tiles", &bytes).len(), rgb.len());
}

/// The error names an unsupported kind.
#[test]
fn rare_tiff_is_named() {
    let tags = |compression: u32, colour: u32, bits: u32| {
        move |extra: &[(u16, &[u32])]| {
            let (compression, colour, bits) = ([compression], [colour], [bits]);
            tiff(
                false,
                &[
                    &[(258, &bits[..]), (259, &compression), (262, &colour)],
                    extra,
                ]
                .concat(),
                273,
                &[vec![0; 4000]],
            )
        }
    };
    for (bytes, wanted) in [
        (
            tags(34_712, 1, 8)(&[]),
            "this kind of TIFF (JPEG 2000) is not decoded; save it as JPEG or PNG",
        ),
        (
            tags(1, 8, 8)(&[]),
            "this kind of TIFF (CIE L*a*b*) is not decoded",
        ),
        (
            tags(1, 1, 64)(&[]),
            "this kind of TIFF (samples of 64 bits) is not decoded",
        ),
        (
            tags(1, 2, 8)(&[(277, &[500])]),
            "this kind of TIFF (500 samples a pixel) is not decoded",
        ),
        (
            tags(1, 32_803, 8)(&[]),
            "this is a raw photo of a camera; send it as JPEG",
        ),
        (
            tags(1, 2, 8)(&[(254, &[1]), (330, &[8])]),
            "this is a raw photo of a camera",
        ),
        (
            tags(1, 1, 8)(&[(50_706, &[1])]),
            "this is a raw photo of a camera",
        ),
        (tags(8, 1, 8)(&[]), "the TIFF is damaged"),
        (tags(1, 2, 8)(&[]), "the TIFF is damaged"),
    ] {
        let error = decode(&bytes, PIXELS).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
}
