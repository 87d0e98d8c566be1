//! What a pipeline saw, drawn on the picture: for the author of a pipeline, who looks at it.
//!
//! The command decodes the picture itself here; the service never does.

use std::convert::Infallible;
use std::path::{Component, Path, PathBuf};

use embedded_graphics::Drawable;
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoTextStyleBuilder;
use embedded_graphics::mono_font::iso_8859_1::{FONT_6X13, FONT_10X20};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::primitives::{Circle, Primitive, PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};

use super::answer::AnalysisReport;

/// The most pixels that are decoded for drawing.
const PIXELS: u64 = 100_000_000;

/// Somebody known, and nobody known.
const KNOWN: Rgb888 = Rgb888::new(0, 200, 80);
const UNKNOWN: Rgb888 = Rgb888::new(255, 140, 0);
const LANDMARK: Rgb888 = Rgb888::new(0, 200, 255);

/// Why a picture cannot be drawn on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrawError {
    /// It cannot be decoded.
    #[error("cannot draw on {path}: {cause}", path = path.display())]
    Picture {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: image::ImageError,
    },
    /// The pipeline says that it has another size.
    #[error("{path} has {}×{} pixels, and the pipeline says {}×{}: no box can be drawn on it", actual.0, actual.1, claimed.0, claimed.1, path = path.display())]
    Size {
        /// Which.
        path: PathBuf,
        /// Its width and height.
        actual: (u32, u32),
        /// What the pipeline says.
        claimed: (u32, u32),
    },
    /// The folder for drawings cannot be made.
    #[error("cannot make the folder {folder}: {cause}; name another with --out", folder = folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The drawing cannot be written.
    #[error("cannot write {path}: {cause}; name another folder with --out", path = path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        cause: image::ImageError,
    },
}

/// Makes a folder for drawings.
///
/// # Errors
///
/// If it cannot be made.
pub(super) fn make_folder(out: &Path) -> Result<(), DrawError> {
    std::fs::create_dir_all(out).map_err(|cause| DrawError::Folder {
        folder: out.to_owned(),
        cause,
    })
}

/// A picture as pixels, upright.
///
/// # Errors
///
/// If it cannot be decoded.
pub(super) fn upright(path: &Path, bytes: &[u8]) -> Result<RgbImage, DrawError> {
    let decode = || -> image::ImageResult<RgbImage> {
        let mut reader = ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format()?;
        let mut limits = image::Limits::default();
        limits.max_alloc = Some(4 * PIXELS);
        reader.limits(limits);
        let mut decoder = reader.into_decoder()?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut picture = DynamicImage::from_decoder(decoder)?;
        picture.apply_orientation(orientation);
        Ok(picture.into_rgb8())
    };
    decode().map_err(|cause| DrawError::Picture {
        path: path.to_owned(),
        cause,
    })
}

/// Draws what a pipeline saw on a picture and writes it into `out`; where to.
///
/// # Errors
///
/// If the picture cannot be decoded, has another size than the pipeline says, or the drawing cannot
/// be written.
pub(super) fn drawing(
    out: &Path,
    images: &Path,
    path: &Path,
    bytes: &[u8],
    looked: &AnalysisReport,
) -> Result<PathBuf, DrawError> {
    let mut picture = upright(path, bytes)?;
    faces(&mut picture, path, looked)?;
    let place = place(out, images, path);
    write(&picture, &place)?;
    Ok(place)
}

/// Draws every face: its box, its landmarks, and above it who it is.
///
/// # Errors
///
/// If the picture has another size than the pipeline says: its boxes lie within that, and may be of
/// any size.
pub(super) fn faces(
    picture: &mut RgbImage,
    path: &Path,
    looked: &AnalysisReport,
) -> Result<(), DrawError> {
    let claimed = (looked.width, looked.height);
    if picture.dimensions() != claimed {
        return Err(DrawError::Size {
            path: path.to_owned(),
            actual: picture.dimensions(),
            claimed,
        });
    }
    // Lines and letters that are seen when a large picture is shown small.
    let is_large = picture.width().max(picture.height()) > 1000;
    let width = if is_large { 3 } else { 1 };
    for face in &looked.faces {
        let bounds = &face.face.bounds;
        let color = if face.identity.is_some() {
            KNOWN
        } else {
            UNKNOWN
        };
        let corner = Point::new(bounds.x1 as i32, bounds.y1 as i32);
        let size = Size::new(
            (bounds.x2 - bounds.x1) as u32,
            (bounds.y2 - bounds.y1) as u32,
        );
        let mut canvas = Canvas(picture);
        let Ok(()) = Rectangle::new(corner, size)
            .into_styled(PrimitiveStyle::with_stroke(color, width))
            .draw(&mut canvas);
        for point in &face.face.landmarks {
            let middle = Point::new(point.x as i32, point.y as i32);
            let Ok(()) = Circle::with_center(middle, 2 * width + 1)
                .into_styled(PrimitiveStyle::with_fill(LANDMARK))
                .draw(&mut canvas);
        }
        let font = if is_large && size.width > 60 {
            &FONT_10X20
        } else {
            &FONT_6X13
        };
        let style = MonoTextStyleBuilder::new()
            .font(font)
            .text_color(Rgb888::BLACK)
            .background_color(color)
            .build();
        let above = Point::new(
            corner.x,
            (corner.y - font.character_size.height as i32).max(0),
        );
        let Ok(_) =
            Text::with_baseline(&face.label(), above, style, Baseline::Top).draw(&mut canvas);
    }
    Ok(())
}

/// Writes a drawing as a PNG, with the folders to it.
///
/// # Errors
///
/// If it cannot be written.
pub(super) fn write(picture: &RgbImage, path: &Path) -> Result<(), DrawError> {
    let folder = path.parent().unwrap_or(path);
    // By rename, so that a link of that name is replaced and not followed.
    let written = || -> image::ImageResult<()> {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        picture.write_to(
            &mut std::io::BufWriter::new(file.as_file_mut()),
            image::ImageFormat::Png,
        )?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    written().map_err(|cause| DrawError::Write {
        path: path.to_owned(),
        cause,
    })
}

/// Where the drawing of a picture goes: as deep in `out` as the picture is in `images`, and named
/// after it.
pub(super) fn place(out: &Path, images: &Path, picture: &Path) -> PathBuf {
    let name = picture
        .strip_prefix(images)
        .ok()
        .filter(|rest| !rest.as_os_str().is_empty())
        .unwrap_or(picture);
    // Nothing that would lead out of it.
    let inside: PathBuf = name
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    let mut place = out.join(inside).into_os_string();
    place.push(".png");
    place.into()
}

/// A picture to draw on; what lies outside is left out.
struct Canvas<'p>(&'p mut RgbImage);

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(point, color) in pixels {
            if let (Ok(x), Ok(y)) = (u32::try_from(point.x), u32::try_from(point.y))
                && let Some(pixel) = self.0.get_pixel_mut_checked(x, y)
            {
                pixel.0 = [color.r(), color.g(), color.b()];
            }
        }
        Ok(())
    }
}
