//! Drawing of a pipeline's answer on a photo.
//!
//! The command decodes the photo itself. The service never decodes pictures outside the sandbox.

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

use rostro_common::fs::atomic::{AtomicFile, FileAccess};

use super::answer::AnalysisReport;

/// Upper bound of decoded pixels.
const MAX_PIXELS: u64 = 100_000_000;

/// Colour of a known face.
const KNOWN: Rgb888 = Rgb888::new(0, 200, 80);

/// Colour of an unknown face.
const UNKNOWN: Rgb888 = Rgb888::new(255, 140, 0);

/// Colour of a landmark.
const LANDMARK: Rgb888 = Rgb888::new(0, 200, 255);

/// Error of a drawing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrawError {
    /// The photo cannot be decoded.
    #[error("cannot draw on {path}: {cause}", path = path.display())]
    Picture {
        /// The photo.
        path: PathBuf,
        /// The cause.
        cause: image::ImageError,
    },
    /// The pipeline reports another size than the photo has.
    #[error("cannot draw on {path}: it has {}×{} pixels, but the pipeline reports {}×{}", actual.0, actual.1, claimed.0, claimed.1, path = path.display())]
    Size {
        /// The photo.
        path: PathBuf,
        /// Its width and height.
        actual: (u32, u32),
        /// The size that the pipeline reports.
        claimed: (u32, u32),
    },
    /// The folder for drawings cannot be created.
    #[error("cannot create the folder {folder}: {cause}; name another with --out", folder = folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// The drawing cannot be written.
    #[error("cannot write {path}: {cause}; name another folder with --out", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: image::ImageError,
    },
}

/// Creates a folder for drawings.
///
/// # Errors
///
/// If it cannot be created.
pub(super) fn create_folder(out: &Path) -> Result<(), DrawError> {
    std::fs::create_dir_all(out).map_err(|cause| DrawError::Folder {
        folder: out.to_owned(),
        cause,
    })
}

/// Decodes a photo, turned by its orientation.
///
/// # Errors
///
/// If it cannot be decoded.
pub(super) fn decode_upright(path: &Path, bytes: &[u8]) -> Result<RgbImage, DrawError> {
    let decode = || -> image::ImageResult<RgbImage> {
        let mut reader = ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format()?;
        let mut limits = image::Limits::default();
        limits.max_alloc = Some(4 * MAX_PIXELS);
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

/// Draws an answer on a photo and writes the drawing into `out`. Returns its path.
///
/// # Errors
///
/// If the photo cannot be decoded, has another size than the pipeline reports, or the drawing
/// cannot be written.
pub(super) fn write_drawing(
    out: &Path,
    images: &Path,
    path: &Path,
    bytes: &[u8],
    report: &AnalysisReport,
) -> Result<PathBuf, DrawError> {
    let mut picture = decode_upright(path, bytes)?;
    draw_faces(&mut picture, path, report)?;
    let target = drawing_path(out, images, path);
    write(&picture, &target)?;
    Ok(target)
}

/// Draws every face: its box, its landmarks, and its label above.
///
/// # Errors
///
/// If the photo has another size than the pipeline reports, because boxes are only bounded by the
/// reported size.
pub(super) fn draw_faces(
    picture: &mut RgbImage,
    path: &Path,
    report: &AnalysisReport,
) -> Result<(), DrawError> {
    let claimed = (report.width, report.height);
    if picture.dimensions() != claimed {
        return Err(DrawError::Size {
            path: path.to_owned(),
            actual: picture.dimensions(),
            claimed,
        });
    }
    // Thicker lines and letters stay visible when a large picture is shown small.
    let is_large = picture.width().max(picture.height()) > 1000;
    let width = if is_large { 3 } else { 1 };
    for face in &report.faces {
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

/// Writes a drawing as a PNG, and creates its folders.
///
/// # Errors
///
/// If it cannot be written.
pub(super) fn write(picture: &RgbImage, path: &Path) -> Result<(), DrawError> {
    let folder = path.parent().unwrap_or(path);
    // Writes by a rename, so that a link of that name is replaced and not followed.
    let written = || -> image::ImageResult<()> {
        std::fs::create_dir_all(folder)?;
        let mut file = AtomicFile::create(path, FileAccess::Owner)?;
        picture.write_to(
            &mut std::io::BufWriter::new(file.as_file_mut()),
            image::ImageFormat::Png,
        )?;
        Ok(file.commit()?)
    };
    written().map_err(|cause| DrawError::Write {
        path: path.to_owned(),
        cause,
    })
}

/// Returns the path of a photo's drawing: the photo's path within `images`, moved into `out`.
pub(super) fn drawing_path(out: &Path, images: &Path, picture: &Path) -> PathBuf {
    let name = picture
        .strip_prefix(images)
        .ok()
        .filter(|rest| !rest.as_os_str().is_empty())
        .unwrap_or(picture);
    // Leaves out parts that would lead out of the folder.
    let inside: PathBuf = name
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    let mut path = out.join(inside).into_os_string();
    path.push(".png");
    path.into()
}

/// Picture as a drawing target; pixels outside are ignored.
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
