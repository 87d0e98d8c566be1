//! The modes of the pipeline, for the component and for the tests that use them.

/// The prefix of an image that names a mode.
pub const PREFIX: &str = "evil:";

/// The setting that selects a fault of `describe`: a name of [`DESCRIPTIONS`].
pub const SETTING: &str = "evil-describe";

/// The setting that names a mode for every image without one; `model-unknown` declares a model that
/// no pack has.
pub const ALWAYS: &str = "evil-always";

/// A fault of the pipeline.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// Its name, after [`PREFIX`] in an image.
    pub name: &'static str,
    /// The request that it is for.
    pub asked: Asked,
    /// Its behaviour and the host's expected reaction.
    pub what: &'static str,
    /// The expected answer of the host.
    pub expect: Expect,
}

/// The request that a mode is for. A mode of the policy is honest in any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `POST /process_frame`; modes of vision misbehave in an enrolment too.
    Frame,
    /// `POST /process-images`.
    Enrollment,
}

/// The answer that a mode must get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// 500 with the code `pipeline_failed`.
    Refused,
    /// 400 with the code `no_usable_image`: the photo is rejected with the code `pipeline_failed`,
    /// without effect on other photos.
    Rejected,
    /// 504 with the code `deadline_exceeded`.
    Deadline,
    /// 500 or 504: the limit that fires first depends on the host's speed.
    Stopped,
    /// 200: the fault has no effect.
    Harmless,
}

impl Expect {
    /// Returns the possible statuses of the answer.
    #[must_use]
    pub const fn statuses(self) -> &'static [u16] {
        match self {
            Self::Refused => &[500],
            Self::Rejected => &[400],
            Self::Deadline => &[504],
            Self::Stopped => &[500, 504],
            Self::Harmless => &[200],
        }
    }
}

const fn frame(name: &'static str, expect: Expect, what: &'static str) -> Mode {
    Mode {
        name,
        asked: Asked::Frame,
        what,
        expect,
    }
}

const fn enrollment(name: &'static str, expect: Expect, what: &'static str) -> Mode {
    Mode {
        name,
        asked: Asked::Enrollment,
        what,
        expect,
    }
}

use Expect::{Deadline, Harmless, Refused, Rejected, Stopped};

/// Every mode.
pub const MODES: &[Mode] = &[
    // Time.
    frame("spin", Deadline, "computes without end; interrupted"),
    frame(
        "spin-host",
        Deadline,
        "calls the host without end; interrupted between two calls",
    ),
    frame(
        "spin-model",
        Deadline,
        "runs the detector on 2048×2048 pixels without end; answered in time, though a run cannot be interrupted",
    ),
    frame(
        "sleep",
        Refused,
        "sleeps for an hour; refused at once, because an epoch cannot interrupt a sleep",
    ),
    // Memory and stack.
    frame(
        "memory",
        Refused,
        "grows its memory without end; stopped at its limit",
    ),
    frame(
        "recursion",
        Refused,
        "calls itself in small frames without end; the stack's end traps",
    ),
    frame(
        "stack",
        Refused,
        "calls itself in frames of 64 KiB without end; the stack's end traps",
    ),
    // Tensors and models.
    frame(
        "tensor-length",
        Refused,
        "gives a tensor whose data does not fill its dimensions; an error, which it reports",
    ),
    frame(
        "tensor-dimensions",
        Refused,
        "gives tensors of dimension zero, of the largest and of forty; an error each, which it reports",
    ),
    frame(
        "tensor-rows",
        Refused,
        "gives as many images without pixels as its argument, else 4,294,967,295; an error, before anything is kept or tried for each",
    ),
    frame(
        "tensor-type",
        Refused,
        "gives the detector elements of another type; an error, which it reports",
    ),
    frame(
        "tensor-shape",
        Refused,
        "gives both models right lengths in wrong shapes; an error each, which it reports",
    ),
    frame(
        "tensors",
        Refused,
        "keeps 10,000 tensors; stopped at the most tensors",
    ),
    frame(
        "tensor-bytes",
        Stopped,
        "keeps tensors of 48 MiB without end; stopped before the host holds too much",
    ),
    frame(
        "transfer",
        Refused,
        "transfers 200 MiB in one call; stopped at the most of a call",
    ),
    frame(
        "model-name",
        Refused,
        "asks for models that it was not granted, and for files; an error each, which it reports",
    ),
    frame(
        "model-log",
        Refused,
        "asks for a model of a name of 1 MB with newlines, fifty times; an error each, and the log stays small",
    ),
    frame(
        "handles",
        Refused,
        "keeps 10,000 handles of one model; stopped at the most",
    ),
    frame(
        "load-bytes",
        Refused,
        "brings a model of its own; an error, which it reports",
    ),
    // Too much.
    frame(
        "faces-many",
        Refused,
        "sees 1,000,000 faces; refused, in memory that does not grow with them",
    ),
    frame("faces-2000", Refused, "sees 2,000 faces; refused"),
    frame(
        "embeddings-shared",
        Refused,
        "gives 1,024 faces one embedding of 16 MiB in one place; refused before the host copies it 1,024 times",
    ),
    frame("measures-many", Refused, "measures 100,000 things; refused"),
    frame("name-long", Refused, "names a measure in 10 MB; refused"),
    frame(
        "landmarks-many",
        Refused,
        "finds 100,000 landmarks; refused",
    ),
    // Wrong numbers.
    frame("nan", Refused, "an embedding with a NaN; refused"),
    frame(
        "infinite",
        Refused,
        "an embedding with an infinity; refused",
    ),
    frame("zero-vector", Refused, "an embedding of zeros; refused"),
    frame(
        "dimension",
        Refused,
        "an embedding with a number too many; refused",
    ),
    frame("box-outside", Refused, "a box beyond the image; refused"),
    frame(
        "box-inverted",
        Refused,
        "a box whose edges are exchanged; refused",
    ),
    frame("box-nan", Refused, "a box with a NaN; refused"),
    frame("score-out-of-range", Refused, "a score of 1.5; refused"),
    frame("size-lie", Refused, "an image of no size; refused"),
    // Broken values.
    frame("utf8", Refused, "a name that is not UTF-8; refused"),
    frame(
        "text-length",
        Refused,
        "a text that lies outside its memory; refused",
    ),
    frame(
        "list-length",
        Refused,
        "an embedding that lies outside its memory; refused",
    ),
    // Ends.
    frame(
        "panic",
        Refused,
        "panics; its message is in the log and not in the answer",
    ),
    frame("unreachable", Refused, "traps"),
    frame(
        "exit",
        Refused,
        "exits with status 3; the request fails, the host keeps running",
    ),
    frame(
        "exit-zero",
        Refused,
        "exits with status 0; the request fails, the host keeps running",
    ),
    // Floods.
    frame(
        "log-flood",
        Harmless,
        "logs 10 MB with newlines and escapes; the host keeps 16 KiB, escaped",
    ),
    frame(
        "log-empty",
        Harmless,
        "logs 100,000 empty lines; the host keeps few",
    ),
    frame(
        "stderr-flood",
        Harmless,
        "writes 10 MB to standard error; the host keeps 16 KiB",
    ),
    frame(
        "stages-flood",
        Harmless,
        "names 100,000 stages; the host keeps 16",
    ),
    // Beyond the sandbox.
    frame(
        "files",
        Harmless,
        "looks for files, variables, arguments and input; finds none (a score of 0.5; 1 if it found any)",
    ),
    frame(
        "counter",
        Harmless,
        "counts its calls in a static; a fresh instance every time (a score of 0.01)",
    ),
    frame(
        "hide",
        Harmless,
        "fills 32 MiB of its memory with its argument; none of it is there for the next request",
    ),
    frame(
        "seek",
        Harmless,
        "looks in all of its memory for the inverse of its argument; finds none (a score of 0.001; 0.01 more for each)",
    ),
    // Policy.
    frame("decide-spin", Deadline, "decides without end; interrupted"),
    frame("decide-panic", Refused, "panics while it decides"),
    frame("decide-few", Refused, "gives no decision; refused"),
    frame("decide-many", Refused, "gives a decision too many; refused"),
    frame(
        "decide-index",
        Refused,
        "decides for a candidate that is not there; refused",
    ),
    frame(
        "decide-nan",
        Refused,
        "decides with a confidence of NaN (needs an enrolled person); refused",
    ),
    frame("decide-text", Refused, "gives a code of 10 MB; refused"),
    frame(
        "decide-name",
        Refused,
        "gives a code with a newline and an escape; refused",
    ),
    frame(
        "decide-state",
        Refused,
        "returns a state of 300 MB; refused",
    ),
    frame("decide-events", Refused, "reports 100,000 events; refused"),
    frame(
        "decide-event-nan",
        Refused,
        "reports an event with a value of NaN; refused",
    ),
    frame(
        "decide-shown",
        Refused,
        "shows a candidate that is not there; refused",
    ),
    frame(
        "track-outside",
        Refused,
        "returns a track outside a stream; refused",
    ),
    frame(
        "state-large",
        Refused,
        "returns a state of vision of 300 KiB; refused",
    ),
    frame(
        "state-huge",
        Refused,
        "returns a state of vision of 300 MB; refused",
    ),
    enrollment("review-spin", Deadline, "reviews without end; interrupted"),
    enrollment(
        "review-index",
        Rejected,
        "accepts a face that is not there; refused",
    ),
    enrollment("review-reasons", Rejected, "gives 100,000 reasons; refused"),
    enrollment("review-text", Rejected, "gives a reason of 10 MB; refused"),
    enrollment(
        "template-spin",
        Deadline,
        "makes a template without end; interrupted, and no one is enrolled",
    ),
    enrollment(
        "template-nan",
        Refused,
        "makes a template with a NaN; refused, and no one is enrolled",
    ),
    enrollment(
        "template-many",
        Refused,
        "makes 1,000 templates; refused, and no one is enrolled",
    ),
    enrollment(
        "template-dimension",
        Refused,
        "makes a template with a number too many; refused, and no one is enrolled",
    ),
    enrollment(
        "template-empty",
        Refused,
        "makes no template; refused, and no one is enrolled",
    ),
];

/// Reports in addition to an honest result, by the same names in an image. Their tests are in
/// `e2e/reports.rs`.
pub const REPORTS: &[(&str, &str)] = &[
    ("warning", "warns once, in a message with an escape"),
    (
        "warnings-flood",
        "warns 100,000 times in 5 KB with newlines and escapes",
    ),
    ("raw", "reports a raw sample"),
    (
        "raw-index",
        "reports a raw sample of a face that is not there",
    ),
    ("raw-nan", "reports a raw sample of NaN"),
    ("raw-many", "reports 2,000 raw samples"),
    ("setting-refused", "refuses a setting and fails"),
    ("setting-complained", "refuses a setting and still succeeds"),
];

/// Faults of `describe` with their behaviour. The host must refuse to stage them.
pub const DESCRIPTIONS: &[(&str, &str)] = &[
    ("spin", "computes without end"),
    ("panic", "panics"),
    ("memory", "grows its memory without end"),
    ("huge", "has a name of 10 MB and wants 100,000 models"),
    ("name", "has a name with capitals, a newline and an escape"),
    (
        "policy-spin",
        "computes without end in `describe` of its policy",
    ),
];

/// Returns an image that names a mode.
#[must_use]
pub fn image(name: &str, argument: &[u8]) -> Vec<u8> {
    [PREFIX.as_bytes(), name.as_bytes(), b"\n", argument].concat()
}

/// Returns a PNG that names a mode after its end. An honest pipeline decodes the picture, and this
/// one runs the mode.
#[must_use]
pub fn hidden(png: &[u8], name: &str) -> Vec<u8> {
    [png, &image(name, b"")].concat()
}

/// The end of every PNG.
const PNG_END: &[u8] = b"IEND\xaeB`\x82";

/// Returns the bytes after the end of a PNG.
fn after_end(png: &[u8]) -> Option<&[u8]> {
    let end = png
        .windows(PNG_END.len())
        .rposition(|window| window == PNG_END)?;
    png.get(end + PNG_END.len()..)
}

/// Returns the mode and argument of an image; None for an honest one.
#[must_use]
pub fn parse(image: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = if image.starts_with(b"\x89PNG") {
        after_end(image)?
    } else {
        image
    };
    let rest = text.strip_prefix(PREFIX.as_bytes())?;
    let end = rest
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(rest.len());
    let (name, argument) = rest.split_at_checked(end)?;
    Some((name, argument.strip_prefix(b"\n").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A mode ends at the first newline, and its argument at the end of the image.
    #[test]
    fn parse_splits_mode_and_argument() {
        assert_eq!(
            parse(b"evil:seek\nab\nc"),
            Some((&b"seek"[..], &b"ab\nc"[..]))
        );
        assert_eq!(parse(&image("seek", b"ab\nc")), parse(b"evil:seek\nab\nc"));
        assert_eq!(parse(b"evil:spin"), Some((&b"spin"[..], &b""[..])));
        assert_eq!(parse(b"\xff\xd8"), None);
        let png = b"\x89PNG evil:panic IEND\xaeB`\x82";
        assert_eq!(parse(png), None);
        assert_eq!(parse(&hidden(png, "spin")), Some((&b"spin"[..], &b""[..])));
    }

    #[test]
    fn mode_names_are_unique() {
        let names: HashSet<&str> = MODES.iter().map(|mode| mode.name).collect();
        assert_eq!(names.len(), MODES.len());
    }
}
