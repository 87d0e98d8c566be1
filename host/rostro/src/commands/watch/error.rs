//! Errors of `rostro watch`, and the count of refused pictures, which becomes one.

use std::io;
use std::path::PathBuf;

use super::cameras::CamerasError;
use super::ffmpeg::FfmpegError;
use super::source::SourceError;
use crate::commands::client::ClientError;

/// Error of `rostro watch`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// A picture cannot be read.
    #[error("cannot read {source_name}: {cause}")]
    Unreadable {
        /// Its name.
        source_name: String,
        /// The cause.
        cause: io::Error,
    },
    /// A folder without pictures.
    #[error("{folder} holds no pictures (.jpg, .png, .webp, .heic and the like): {found}", folder = folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
        /// Its content.
        found: String,
    },
    /// Standard input without pictures.
    #[error("standard input holds no whole JPEG")]
    EmptyStream,
    /// A video without frames.
    #[error("{source_name} holds no frame")]
    NoFrame {
        /// Its name.
        source_name: String,
    },
    /// A video cannot be decoded.
    #[error("cannot read {source_name}: {cause}")]
    Stream {
        /// Its name.
        source_name: String,
        /// The decoder's messages.
        cause: String,
    },
    /// A camera was given up.
    #[error("cannot read {source_name}: {cause}{remedy}; gave up after try {tries}")]
    GaveUp {
        /// Its address without the login.
        source_name: String,
        /// The cause of the last failure.
        cause: String,
        /// A remedy, as a further clause, or an empty text.
        remedy: &'static str,
        /// Number of tries in a row.
        tries: u32,
    },
    /// The source or its login cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// `ffmpeg` cannot be used.
    #[error(transparent)]
    Ffmpeg(#[from] FfmpegError),
    /// The file of cameras cannot be used.
    #[error(transparent)]
    Cameras(#[from] CamerasError),
    /// A camera of a file cannot be used.
    #[error("cannot use the camera [{name}]: {cause}")]
    Camera {
        /// Its name.
        name: String,
        /// The cause.
        cause: Box<Self>,
    },
    /// Signals of the system cannot be handled.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    /// Standard output is closed, or the disk is full.
    #[error("cannot print: {0}")]
    Output(io::Error),
    /// The service cannot be reached.
    #[error("no answer from {server}: {cause}; is `rostro serve` running there?")]
    Unreachable {
        /// Its address.
        server: String,
        /// The cause.
        cause: String,
    },
    /// The key or the certificates cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The service rejects the key, or requires one.
    #[error("refused by {server}: {message}; {remedy}")]
    Unauthorized {
        /// Address of the service.
        server: String,
        /// The service's message.
        message: String,
        /// The remedy.
        remedy: String,
    },
    /// The session does not exist, or ended.
    #[error(
        "cannot send frames to session {id}: {message}; start a session and name its id with --session"
    )]
    NoSession {
        /// Its id.
        id: String,
        /// The service's message.
        message: String,
    },
    /// Some pictures were refused; their lines give the causes.
    #[error("{refused} of {total} pictures were refused")]
    Refused {
        /// Number of refused pictures.
        refused: usize,
        /// Number of all pictures.
        total: usize,
    },
    /// Some cameras failed; their messages were printed.
    #[error("{failed} of {total} cameras failed")]
    CamerasFailed {
        /// Number of failed cameras.
        failed: usize,
        /// Number of all cameras.
        total: usize,
    },
}

/// Number of pictures of a source.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) total: usize,
    refused: usize,
}

impl Tally {
    /// Counts a picture.
    pub(super) fn add(&mut self, is_accepted: bool) {
        self.total += 1;
        self.refused += usize::from(!is_accepted);
    }

    /// Fails if a picture was refused.
    pub(super) fn result(self) -> Result<(), WatchError> {
        match self {
            Self { refused: 0, .. } => Ok(()),
            Self { total, refused } => Err(WatchError::Refused { refused, total }),
        }
    }
}
