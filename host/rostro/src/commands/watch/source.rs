//! Sources of frames, and the addresses of cameras. Their credentials are never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use rostro_common::fs::read_text;
use rostro_common::text::sanitize;

use super::pictures::has_extension;

/// Extensions of videos, in any case.
const VIDEOS: [&str; 25] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "m2ts", "mts", "mpg", "mpeg", "vob", "mjpeg",
    "mjpg", "h264", "264", "h265", "265", "hevc", "flv", "wmv", "asf", "3gp", "ogv", "y4m",
];

/// Characters of a login that stay as they are in an address.
const LOGIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Shortest part of a secret that is searched in messages, because a shorter one would hit words.
const MIN_SECRET: usize = 3;

/// Source of frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FrameSource {
    /// JPEGs on standard input.
    JpegInput,
    /// A picture or a folder of pictures.
    Pictures(PathBuf),
    /// A stream that `ffmpeg` decodes.
    Stream(StreamSource),
}

/// Stream that `ffmpeg` decodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StreamSource {
    /// Network camera.
    Camera(CameraAddress),
    /// Local camera, such as `/dev/video0`.
    Device(PathBuf),
    /// Video file, which plays at its own speed.
    File(PathBuf),
    /// Named pipe with a video.
    Pipe(PathBuf),
    /// Video on standard input.
    VideoInput,
}

/// Error of a source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// An address with another scheme.
    #[error(
        "cannot watch {scheme}: addresses; give rtsp://, rtsps://, /dev/videoN, a file, a folder, \
         `-` or `pipe:`"
    )]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// An address that cannot be split. It is not shown, because it may have a password.
    #[error(
        "cannot read the address of the camera: {cause}; write / ? # @ and : in a password as %2F \
         %3F %23 %40 and %3A, or name a file with --login-file"
    )]
    Address {
        /// The cause.
        cause: &'static str,
    },
    /// A source that ends at once, where a camera is needed.
    #[error(
        "cannot watch {source_name} as a camera; give an address, /dev/videoN, a video file or a \
         named pipe"
    )]
    NotCamera {
        /// The source.
        source_name: String,
    },
    /// A login for a source without one.
    #[error("cannot use a login for {source_name}: only rtsp:// and rtsps:// addresses take one")]
    LoginUnused {
        /// The source.
        source_name: String,
    },
    /// The file of a login cannot be used.
    #[error("cannot read the login in {file}: {cause}; its first line must be USER:PASSWORD", file = file.display())]
    LoginFile {
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: String,
    },
}

impl FrameSource {
    /// Classifies a source as a user writes it. Reads the kind of a file from the disk.
    pub(super) fn parse(text: &Path) -> Result<Self, SourceError> {
        match text.to_str() {
            Some("-") => return Ok(Self::JpegInput),
            Some("pipe:") => return Ok(Self::Stream(StreamSource::VideoInput)),
            Some(text) => {
                if let Some((scheme, rest)) = text.split_once("://") {
                    return CameraAddress::parse(scheme, rest)
                        .map(|address| Self::Stream(StreamSource::Camera(address)));
                }
            }
            None => {}
        }
        Ok(match kind(text) {
            Kind::Device => Self::Stream(StreamSource::Device(text.to_owned())),
            Kind::Pipe => Self::Stream(StreamSource::Pipe(text.to_owned())),
            Kind::Other if has_extension(text, &VIDEOS) && !text.is_dir() => {
                Self::Stream(StreamSource::File(text.to_owned()))
            }
            Kind::Other => Self::Pictures(text.to_owned()),
        })
    }

    /// Adds the login of a file to the address of a camera.
    pub(super) fn with_login(self, file: Option<&Path>) -> Result<Self, SourceError> {
        match (self, file) {
            (source, None) => Ok(source),
            (Self::Stream(StreamSource::Camera(address)), Some(file)) => Ok(Self::Stream(
                StreamSource::Camera(address.with_login(&Login::read(file)?)),
            )),
            (source, Some(_)) => Err(SourceError::LoginUnused {
                source_name: source.to_string(),
            }),
        }
    }
}

impl TryFrom<FrameSource> for StreamSource {
    type Error = SourceError;

    /// Accepts what a camera of a file may be: any stream, except for standard input.
    fn try_from(source: FrameSource) -> Result<Self, SourceError> {
        match source {
            FrameSource::Stream(Self::VideoInput)
            | FrameSource::JpegInput
            | FrameSource::Pictures(_) => Err(SourceError::NotCamera {
                source_name: source.to_string(),
            }),
            FrameSource::Stream(stream) => Ok(stream),
        }
    }
}

impl fmt::Display for FrameSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JpegInput => f.write_str("standard input"),
            Self::Pictures(path) => write!(f, "{}", path.display()),
            Self::Stream(stream) => stream.fmt(f),
        }
    }
}

/// Kind of a file.
enum Kind {
    Device,
    Pipe,
    Other,
}

#[cfg(unix)]
fn kind(path: &Path) -> Kind {
    use std::os::unix::fs::FileTypeExt;

    // A camera that is unplugged has no file, but its name still says what it is.
    let is_camera = path
        .to_str()
        .and_then(|path| path.strip_prefix("/dev/video"))
        .is_some_and(|number| !number.is_empty());
    match path.metadata().map(|metadata| metadata.file_type()) {
        Ok(kind) if kind.is_fifo() => Kind::Pipe,
        Ok(kind) if kind.is_char_device() && is_camera => Kind::Device,
        Err(_) if is_camera => Kind::Device,
        _ => Kind::Other,
    }
}

#[cfg(not(unix))]
fn kind(_path: &Path) -> Kind {
    Kind::Other
}

impl StreamSource {
    /// Returns true if the end of the stream is a failure, after which it is opened again.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Camera(_) | Self::Device(_))
    }

    /// Removes the credentials from a text of `ffmpeg`.
    pub(super) fn redact(&self, text: &str) -> String {
        match self {
            Self::Camera(address) => address.redact(text),
            _ => text.to_owned(),
        }
    }
}

impl fmt::Display for StreamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Camera(address) => address.fmt(f),
            Self::Device(path) | Self::File(path) | Self::Pipe(path) => {
                write!(f, "{}", path.display())
            }
            Self::VideoInput => f.write_str("standard input"),
        }
    }
}

/// User name and password of a camera.
struct Login {
    user: String,
    password: String,
}

impl Login {
    /// Reads the first line of a file that is neither empty nor a comment.
    fn read(file: &Path) -> Result<Self, SourceError> {
        let unusable = |cause: String| SourceError::LoginFile {
            file: file.to_owned(),
            cause,
        };
        let text = read_text(file).map_err(|error| unusable(error.to_string()))?;
        text.lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'))
            .ok_or_else(|| unusable("it is empty".to_owned()))?
            .split_once(':')
            .map(|(user, password)| Self {
                user: user.to_owned(),
                password: password.to_owned(),
            })
            .ok_or_else(|| unusable("it has no colon".to_owned()))
    }
}

/// Address of a network camera. Its texts for people omit the login and the query, which may hold a
/// password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct CameraAddress {
    is_secure: bool,
    /// `USER:PASSWORD` as it stands in the address.
    login: Option<String>,
    /// Host and port.
    host: String,
    /// Path with its slash, or an empty text.
    path: String,
    /// Query with its question mark, or an empty text.
    query: String,
}

impl CameraAddress {
    fn parse(scheme: &str, rest: &str) -> Result<Self, SourceError> {
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "rtsp" => false,
            "rtsps" => true,
            other => {
                return Err(SourceError::Scheme {
                    scheme: sanitize(other),
                });
            }
        };
        let malformed = |cause| SourceError::Address { cause };
        if rest.chars().any(char::is_control) {
            return Err(malformed("it has a control character"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login.to_owned()), host),
            None => (None, authority),
        };
        // In `user:pa/ss@host`, `pa` would be the port.
        let after_brackets = host.rsplit(']').next().unwrap_or_default();
        let port = after_brackets.split_once(':').map_or("", |(_, port)| port);
        if host.is_empty() || host.starts_with(':') {
            return Err(malformed("it has no host"));
        }
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed("its port is not a number"));
        }
        // In `user:12/34@host`, `12` would be the port.
        if login.is_none() && rest.contains('@') {
            return Err(malformed("it has an @ after the host"));
        }
        let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        Ok(Self {
            is_secure,
            login,
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    fn with_login(self, login: &Login) -> Self {
        let escape = |text| utf8_percent_encode(text, LOGIN);
        Self {
            login: Some(format!(
                "{}:{}",
                escape(&login.user),
                escape(&login.password)
            )),
            ..self
        }
    }

    /// Returns true if the address itself has a password.
    pub(super) fn has_login(&self) -> bool {
        self.login.is_some()
    }

    /// Returns true if the connection uses TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Returns the whole address with the login, for `ffmpeg` alone.
    pub(super) fn with_secrets(&self) -> String {
        let login = self
            .login
            .as_ref()
            .map_or_else(String::new, |login| format!("{login}@"));
        format!(
            "{}://{login}{}{}{}",
            self.scheme(),
            self.host,
            self.path,
            self.query
        )
    }

    fn scheme(&self) -> &'static str {
        if self.is_secure { "rtsps" } else { "rtsp" }
    }

    fn redact(&self, text: &str) -> String {
        let mut shown = text.replace(&self.with_secrets(), &self.to_string());
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let mut secrets = vec![self.query.clone()];
        if let Some(login) = &self.login {
            secrets.extend([login.clone(), decoded(login)]);
            if let Some((_, password)) = login.split_once(':') {
                secrets.extend([password.to_owned(), decoded(password)]);
            }
        }
        for secret in secrets {
            if secret.len() >= MIN_SECRET {
                shown = shown.replace(&secret, "…");
            }
        }
        shown
    }
}

impl fmt::Display for CameraAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.host, self.path)
    }
}

impl fmt::Debug for CameraAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(text: &str) -> CameraAddress {
        match FrameSource::parse(Path::new(text)).unwrap() {
            FrameSource::Stream(StreamSource::Camera(address)) => address,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn source_kind_follows_text() {
        let stream = |path: &str| FrameSource::Stream(StreamSource::File(path.into()));
        for (text, source) in [
            ("-", FrameSource::JpegInput),
            ("pipe:", FrameSource::Stream(StreamSource::VideoInput)),
            ("a/b.MP4", stream("a/b.MP4")),
            ("c.mjpeg", stream("c.mjpeg")),
            ("a.jpg", FrameSource::Pictures("a.jpg".into())),
            ("mp4", FrameSource::Pictures("mp4".into())),
            ("folder", FrameSource::Pictures("folder".into())),
        ] {
            assert_eq!(
                FrameSource::parse(Path::new(text)).unwrap(),
                source,
                "{text}"
            );
        }
        #[cfg(unix)]
        assert_eq!(
            FrameSource::parse(Path::new("/dev/video97")).unwrap(),
            FrameSource::Stream(StreamSource::Device("/dev/video97".into()))
        );
    }

    #[test]
    fn address_shows_no_secrets() {
        for (text, shown) in [
            ("rtsp://cam/live", "rtsp://cam/live"),
            ("RTSPS://u:pass@cam:322/live", "rtsps://cam:322/live"),
            ("rtsp://u:p@ss@cam", "rtsp://cam"),
            ("rtsp://u:pass@[::1]:554/a?password=x", "rtsp://[::1]:554/a"),
        ] {
            let address = camera(text);
            assert_eq!(address.to_string(), shown, "{text}");
            assert_eq!(format!("{address:?}"), shown, "{text}");
        }
        assert_eq!(
            camera("rtsp://u:pass@cam/a?b=c").with_secrets(),
            "rtsp://u:pass@cam/a?b=c"
        );
    }

    #[test]
    fn address_malformed_hides_text() {
        for text in [
            "rtsp://u:secret/x@cam/live",
            "rtsp://u:secret#x@cam/live",
            "rtsp://u:12/secret@cam/live",
            "rtsp://:secret",
            "rtsp:///secret",
            "rtsp://cam/secret\nfile",
            "http://u:secret@cam/live",
        ] {
            let error = FrameSource::parse(Path::new(text)).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn message_loses_secrets() {
        let address = camera("rtsp://admin:top%20s3cret@cam/a?token=xyz");
        let text = "rtsp://admin:top%20s3cret@cam/a?token=xyz: admin:top s3cret and top%20s3cret";
        assert_eq!(address.redact(text), "rtsp://cam/a: … and …");
        assert_eq!(
            address.redact("rtsp://cam/a?token=xyz: refused"),
            "rtsp://cam/a…: refused"
        );
    }

    #[test]
    fn login_file_is_escaped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("login");
        std::fs::write(&file, "# the door\nad min:p@ss:/'ü\n").unwrap();
        let source = FrameSource::parse(Path::new("rtsp://old:one@cam/live")).unwrap();
        let FrameSource::Stream(StreamSource::Camera(address)) =
            source.with_login(Some(&file)).unwrap()
        else {
            panic!("no camera")
        };
        assert_eq!(
            address.with_secrets(),
            "rtsp://ad%20min:p%40ss%3A%2F%27%C3%BC@cam/live"
        );
        std::fs::write(&file, "secret").unwrap();
        let source = || FrameSource::parse(Path::new("rtsp://cam/live")).unwrap();
        let error = source().with_login(Some(&file)).unwrap_err().to_string();
        assert!(
            error.contains("no colon") && !error.contains("secret"),
            "{error}"
        );
        let picture = FrameSource::Pictures("a.jpg".into());
        assert!(picture.with_login(Some(&file)).is_err());
    }
}
