//! The segments of a JPEG (ITU-T T.81, annex B), read as tolerantly as libjpeg reads them.

pub(super) const START_OF_IMAGE: u8 = 0xd8;
pub(super) const END_OF_IMAGE: u8 = 0xd9;
pub(super) const START_OF_SCAN: u8 = 0xda;
pub(super) const RESTART_INTERVAL: u8 = 0xdd;

/// Returns true for the markers that begin a frame header.
pub(super) fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}

/// The frame header of JPEG-LS, which is another format.
const JPEG_LS: u8 = 0xf7;

/// The header of several frames of different sizes.
const HIERARCHICAL: u8 = 0xde;

/// The advice for a JPEG of an unsupported kind.
const SAVE_AS: &str = "save it as a baseline JPEG or as PNG";

/// The obstacle of a JPEG with [a scan of several components, but not all](super::has_mixed_scans),
/// and the advice.
pub(in super::super) const MIXED_SCANS: &str =
    "has scans of several components, but not of all; save it as a baseline JPEG or as PNG";

/// Returns the obstacle to decoding a frame, and the advice. None for samples of 8 bits in one,
/// three or four components, in baseline, sequential or progressive scans.
fn obstacle(marker: u8, bits: u8, components: u8) -> Option<String> {
    let kind = match marker {
        0xc3 | 0xcb => "lossless".to_owned(),
        0xc5 | 0xc6 | 0xcd | 0xce => "hierarchical".to_owned(),
        0xc7 | 0xcf => "hierarchical and lossless".to_owned(),
        _ if bits != 8 => format!("of {bits} bits a sample"),
        _ if !matches!(components, 1 | 3 | 4) => format!("of {components} components"),
        _ => return None,
    };
    Some(format!("is {kind}; {SAVE_AS}"))
}

/// A marker and its segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) marker: u8,
    /// Its bytes after marker and length; empty for markers without a length.
    pub(super) body: &'a [u8],
    /// Marker, length and body, without fill bytes.
    pub(super) whole: &'a [u8],
    /// Position of the next segment, or of a scan's coded data.
    pub(super) end: usize,
}

/// Reader of segments.
#[derive(Debug)]
pub(super) struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Bytes outside segments so far.
    pub(super) stray: usize,
}

/// Error of reading a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentError {
    /// The file ends before the segment's end.
    CutOff,
    /// The length is less than that of the length itself. Has the position of the length.
    Length(usize),
}

impl<'a> Segments<'a> {
    /// Creates a reader at the start marker. None if the bytes do not begin with one.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.starts_with(&[0xff, START_OF_IMAGE]).then_some(Self {
            bytes,
            at: 2,
            stray: 0,
        })
    }

    /// Continues at `at`, after a scan's coded data.
    pub(super) fn skip_to(&mut self, at: usize) {
        self.at = at;
    }

    /// Reads the next segment. As libjpeg, it skips stray bytes, fill bytes, stuffed bytes, and
    /// markers without meaning between segments.
    pub(super) fn read(&mut self) -> Result<Segment<'a>, SegmentError> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let stray = rest.iter().take_while(|byte| **byte != 0xff).count();
            let fill = rest
                .iter()
                .skip(stray)
                .take_while(|byte| **byte == 0xff)
                .count();
            let marker = *rest.get(stray + fill).ok_or(SegmentError::CutOff)?;
            self.stray += stray;
            self.at += stray + fill + 1;
            match marker {
                // A stuffed byte, a restart marker and TEM have no meaning here.
                0x00 | 0x01 | 0xd0..=0xd7 => self.stray += 2,
                START_OF_IMAGE | END_OF_IMAGE => {
                    let whole = self.bytes.get(self.at - 2..self.at).unwrap_or_default();
                    return Ok(Segment {
                        marker,
                        body: &[],
                        whole,
                        end: self.at,
                    });
                }
                _ => return self.with_length(marker),
            }
        }
    }

    fn with_length(&mut self, marker: u8) -> Result<Segment<'a>, SegmentError> {
        let begin = self.at;
        let length = self
            .bytes
            .get(begin..)
            .and_then(|rest| rest.first_chunk())
            .ok_or(SegmentError::CutOff)?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length < 2 {
            return Err(SegmentError::Length(begin));
        }
        let end = begin + length;
        let body = self.bytes.get(begin + 2..end).ok_or(SegmentError::CutOff)?;
        self.at = end;
        let whole = self.bytes.get(begin - 2..end).unwrap_or_default();
        Ok(Segment {
            marker,
            body,
            whole,
            end,
        })
    }
}

/// A marker in coded data, or the end of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    /// Its position, including fill bytes.
    pub(super) begin: usize,
    /// Its code; None at the end of a file that has only fill bytes left.
    pub(super) code: Option<u8>,
    /// The position after it.
    pub(super) end: usize,
}

/// Returns the markers from `at` on, of coded data and of anything after it. Stuffed bytes are
/// data.
pub(super) fn markers(bytes: &[u8], mut at: usize) -> impl Iterator<Item = Marker> {
    std::iter::from_fn(move || {
        loop {
            let begin = at + bytes.get(at..)?.iter().position(|byte| *byte == 0xff)?;
            let fill = bytes
                .get(begin..)?
                .iter()
                .take_while(|byte| **byte == 0xff)
                .count();
            let code = bytes.get(begin + fill).copied();
            at = begin + fill + 1;
            if code != Some(0) {
                return Some(Marker {
                    begin,
                    code,
                    end: at.min(bytes.len()),
                });
            }
        }
    })
}

/// A component of a frame: its number and sampling factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Component {
    pub(super) id: u8,
    pub(super) across: u8,
    pub(super) down: u8,
}

/// Content of the segments before the first scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Header {
    /// Width in pixels.
    pub(in super::super) width: u32,
    /// Height in pixels; 0, which is refused, if it is defined only after the first scan.
    pub(in super::super) height: u32,
    /// The obstacle to decoding and the advice, if any.
    pub(in super::super) obstacle: Option<String>,
    /// Whether scans refine the picture, which takes memory for all coefficients.
    pub(in super::super) is_progressive: bool,
    /// Whether it has arithmetic coding instead of Huffman coding.
    pub(super) is_arithmetic: bool,
    pub(in super::super) components: Vec<Component>,
    /// Units (MCUs) from one restart marker to the next in the first scan, or 0.
    pub(super) interval: usize,
    /// Bytes outside segments.
    pub(super) stray: usize,
    /// Position of the coded data of the first scan.
    pub(super) data: usize,
}

impl Header {
    /// Reads the segments up to the first scan.
    ///
    /// # Errors
    ///
    /// The fault, without a subject: "is cut off before its first row".
    pub(in super::super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut segments = Segments::new(bytes).ok_or("has no start marker")?;
        let mut header: Option<Self> = None;
        let mut interval = 0;
        loop {
            let Segment {
                marker, body, end, ..
            } = segments.read().map_err(|broken| match broken {
                SegmentError::CutOff => "is cut off before its first row".to_owned(),
                SegmentError::Length(at) => {
                    format!("is damaged: the segment at byte {at} has no length")
                }
            })?;
            match (marker, body) {
                (START_OF_SCAN, _) => {
                    let header =
                        header.ok_or("is damaged: no frame header stands before its first scan")?;
                    return Ok(Self {
                        interval,
                        stray: segments.stray,
                        data: end,
                        ..header
                    });
                }
                (END_OF_IMAGE | START_OF_IMAGE, _) => {
                    return Err("has no scan before its end".to_owned());
                }
                (_, [bits, a, b, c, d, count, components @ ..]) if is_frame(marker) => {
                    let component = |[id, sampling, _]: &[u8; 3]| Component {
                        id: *id,
                        across: sampling >> 4,
                        down: sampling & 15,
                    };
                    let components: Vec<_> = components
                        .as_chunks()
                        .0
                        .iter()
                        .map(component)
                        .take((*count).into())
                        .collect();
                    let is_whole = components.len() == usize::from(*count);
                    header = Some(Self {
                        width: u16::from_be_bytes([*c, *d]).into(),
                        height: u16::from_be_bytes([*a, *b]).into(),
                        obstacle: if is_whole {
                            obstacle(marker, *bits, *count)
                        } else {
                            Some("is damaged: its frame header is too short".to_owned())
                        },
                        is_progressive: matches!(marker, 0xc2 | 0xca),
                        is_arithmetic: matches!(marker, 0xc9 | 0xca),
                        components,
                        interval: 0,
                        stray: 0,
                        data: 0,
                    });
                }
                (RESTART_INTERVAL, [high, low, ..]) => {
                    interval = usize::from(u16::from_be_bytes([*high, *low]))
                }
                (JPEG_LS, _) => return Err(format!("is of the kind JPEG-LS; {SAVE_AS}")),
                (HIERARCHICAL, _) => return Err(format!("is hierarchical; {SAVE_AS}")),
                _ => {}
            }
        }
    }

    /// Returns true if there is an end marker after the start of the first scan.
    pub(in super::super) fn has_end(&self, bytes: &[u8]) -> bool {
        // Most files have it at their end.
        bytes
            .get(self.data..)
            .unwrap_or_default()
            .windows(2)
            .rev()
            .any(|pair| pair == [0xff, END_OF_IMAGE])
    }

    /// Returns true if a component of colour is sampled more finely than brightness.
    pub(in super::super) fn has_fine_colours(&self) -> bool {
        let [brightness, colours @ ..] = self.components.as_slice() else {
            return false;
        };
        colours.len() == 2
            && colours
                .iter()
                .any(|colour| colour.across > brightness.across || colour.down > brightness.down)
    }

    /// Returns the largest sampling factors across and down, at least 1.
    pub(super) fn largest_sampling(&self) -> (u32, u32) {
        let largest = |of: fn(&Component) -> u8| {
            self.components
                .iter()
                .map(of)
                .max()
                .unwrap_or(1)
                .max(1)
                .into()
        };
        (
            largest(|component| component.across),
            largest(|component| component.down),
        )
    }

    /// Returns the number of units (MCUs) in a scan of these components.
    pub(super) fn units(&self, scan: &[u8]) -> usize {
        let (across, down) = self.largest_sampling();
        let (width, height) = match self
            .components
            .iter()
            .find(|component| scan == [component.id])
        {
            // A single component has a unit for each of its own blocks.
            Some(component) => (
                (self.width * u32::from(component.across))
                    .div_ceil(across)
                    .div_ceil(8),
                (self.height * u32::from(component.down))
                    .div_ceil(down)
                    .div_ceil(8),
            ),
            None => (
                self.width.div_ceil(8 * across),
                self.height.div_ceil(8 * down),
            ),
        };
        width as usize * height as usize
    }
}
