//! Motion of a face between frames of any interval.
//!
//! Each coordinate of the centre has a Kalman filter of position and velocity (R. E. Kalman, "A New
//! Approach to Linear Filtering and Prediction Problems", 1960). The velocity is an
//! Ornstein–Uhlenbeck process (G. E. Uhlenbeck and L. S. Ornstein, "On the Theory of the Brownian
//! Motion", 1930): it changes at random and fades to rest. This has an exact step for any interval,
//! so one set of constants serves 30 frames a second and one, people who sit and people who walk. A
//! constant velocity would carry a person who stops out of the picture.

use serde::{Deserialize, Serialize};

use crate::image::geometry::Rect;

/// Time in seconds after which a velocity has fallen to 1/e.
const FADING: f64 = 1.0;

/// Standard deviation of a face's velocity, in sides of the face a second. A person who walks by
/// has up to about 5.
const SPEED: f64 = 2.0;

/// Standard deviation of a detected box's centre, in sides of the face.
const NOISE: f64 = 0.05;

/// Share of a new box's width and height in the estimate.
const SIZE_GAIN: f32 = 0.5;

/// Estimate of a face's centre, velocity and size, in pixels and seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Motion {
    x: Axis,
    y: Axis,
    width: f32,
    height: f32,
}

/// One coordinate: position, velocity, and the covariances of the two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Axis {
    position: f32,
    velocity: f32,
    position_variance: f32,
    covariance: f32,
    velocity_variance: f32,
}

impl Motion {
    /// Creates the estimate of a face that was detected once: its velocity is unknown. The box must
    /// be finite; one without area counts as a pixel.
    #[must_use]
    pub fn new(bounds: &Rect) -> Self {
        let [x, y, width, height] = center_and_size(bounds);
        let side = side(width, height);
        Self {
            x: Axis::new(x, side),
            y: Axis::new(y, side),
            width,
            height,
        }
    }

    /// Moves the estimate forward in time.
    pub fn predict(&mut self, seconds: f64) {
        let side = side(self.width, self.height);
        self.x.predict(seconds, side);
        self.y.predict(seconds, side);
    }

    /// Corrects the estimate by a detected box of the same time.
    pub fn correct(&mut self, bounds: &Rect) {
        let [x, y, width, height] = center_and_size(bounds);
        let side = side(width, height);
        self.x.correct(x, side);
        self.y.correct(y, side);
        self.width += SIZE_GAIN * (width - self.width);
        self.height += SIZE_GAIN * (height - self.height);
    }

    /// Returns the estimated box.
    #[must_use]
    pub fn bounds(&self) -> Rect {
        let (half_width, half_height) = (self.width / 2.0, self.height / 2.0);
        Rect {
            x1: self.x.position - half_width,
            y1: self.y.position - half_height,
            x2: self.x.position + half_width,
            y2: self.y.position + half_height,
        }
    }

    /// Returns the squared Mahalanobis distance of a box's centre from the estimate: its distance in
    /// standard deviations, squared. It follows a χ² distribution with two degrees of freedom.
    #[must_use]
    pub fn distance(&self, bounds: &Rect) -> f32 {
        let [x, y, ..] = center_and_size(bounds);
        let side = side(self.width, self.height);
        self.x.distance(x, side) + self.y.distance(y, side)
    }

    /// Returns the ratio of the box's side and the estimated one, 1 or more: the larger by the
    /// smaller.
    #[must_use]
    pub fn size_ratio(&self, bounds: &Rect) -> f32 {
        let [_, _, width, height] = center_and_size(bounds);
        let ratio = (side(width, height) / side(self.width, self.height)) as f32;
        ratio.max(1.0 / ratio)
    }

    /// Returns true if all numbers are possible: stored state may be damaged.
    pub(super) fn is_valid(&self) -> bool {
        let sizes = [self.width, self.height];
        self.x.is_valid()
            && self.y.is_valid()
            && sizes.iter().all(|size| size.is_finite() && *size >= 1.0)
    }
}

impl Axis {
    fn new(position: f32, side: f64) -> Self {
        Self {
            position,
            velocity: 0.0,
            position_variance: (NOISE * side).powi(2) as f32,
            covariance: 0.0,
            velocity_variance: (SPEED * side).powi(2) as f32,
        }
    }

    fn predict(&mut self, seconds: f64, side: f64) {
        let intervals = seconds / FADING;
        let kept = (-intervals).exp();
        // How far a velocity of 1 carries while it fades.
        let reach = FADING * (1.0 - kept);
        let (pp, pv, vv) = (
            f64::from(self.position_variance),
            f64::from(self.covariance),
            f64::from(self.velocity_variance),
        );
        let speed = (SPEED * side).powi(2);
        let spread = 2.0 * intervals - 3.0 + 4.0 * kept - kept * kept;
        let added = (
            speed * FADING * FADING * spread.max(0.0),
            speed * FADING * (1.0 - kept).powi(2),
            speed * (1.0 - kept * kept),
        );
        self.position += (reach * f64::from(self.velocity)) as f32;
        self.velocity *= kept as f32;
        self.position_variance = (pp + 2.0 * reach * pv + reach * reach * vv + added.0) as f32;
        self.covariance = (kept * (pv + reach * vv) + added.1) as f32;
        self.velocity_variance = (kept * kept * vv + added.2) as f32;
    }

    fn correct(&mut self, position: f32, side: f64) {
        let (pp, pv, vv) = (
            f64::from(self.position_variance),
            f64::from(self.covariance),
            f64::from(self.velocity_variance),
        );
        let total = pp + (NOISE * side).powi(2);
        let (gain, velocity_gain) = (pp / total, pv / total);
        let error = f64::from(position - self.position);
        self.position += (gain * error) as f32;
        self.velocity += (velocity_gain * error) as f32;
        self.position_variance = ((1.0 - gain) * pp) as f32;
        self.covariance = ((1.0 - gain) * pv) as f32;
        self.velocity_variance = (vv - velocity_gain * pv).max(0.0) as f32;
    }

    fn distance(&self, position: f32, side: f64) -> f32 {
        let total = f64::from(self.position_variance) + (NOISE * side).powi(2);
        (f64::from(position - self.position).powi(2) / total) as f32
    }

    fn is_valid(&self) -> bool {
        let variances = [self.position_variance, self.velocity_variance];
        [self.position, self.velocity, self.covariance]
            .iter()
            .chain(&variances)
            .all(|number| number.is_finite())
            && variances.iter().all(|variance| *variance >= 0.0)
    }
}

fn center_and_size(bounds: &Rect) -> [f32; 4] {
    [
        (bounds.x1 + bounds.x2) / 2.0,
        (bounds.y1 + bounds.y2) / 2.0,
        (bounds.x2 - bounds.x1).max(1.0),
        (bounds.y2 - bounds.y1).max(1.0),
    ]
}

fn side(width: f32, height: f32) -> f64 {
    f64::from(width * height).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f32) -> Rect {
        Rect {
            x1: x - 50.0,
            y1: 0.0,
            x2: x + 50.0,
            y2: 100.0,
        }
    }

    /// Follows a centre that moves with this velocity, and returns the error of the next
    /// prediction in sides.
    fn error(sides_per_second: f32, frames_per_second: f64, frames: u32) -> f32 {
        let seconds = |frame: u32| f64::from(frame) / frames_per_second;
        let place = |frame| 100.0 * sides_per_second * seconds(frame) as f32;
        let mut motion = Motion::new(&at(0.0));
        for frame in 1..frames {
            motion.predict(seconds(1));
            motion.correct(&at(place(frame)));
        }
        motion.predict(seconds(1));
        (motion.x.position - place(frames)).abs() / 100.0
    }

    #[test]
    fn prediction_follows_any_interval() {
        let cases = [
            ("seated, 30 a second", 0.0, 30.0, 0.001),
            ("seated, one a second", 0.0, 1.0, 0.001),
            ("walking, 30 a second", 5.0, 30.0, 0.05),
            ("walking, 10 a second", 5.0, 10.0, 0.3),
        ];
        for (case, speed, rate, most) in cases {
            let found = error(speed, rate, 10);
            assert!(found < most, "{case}: {found}");
        }
    }

    /// Two half steps are one whole step, because the step is exact.
    #[test]
    fn steps_add_up() {
        let mut whole = Motion::new(&at(0.0));
        whole.predict(0.1);
        whole.correct(&at(30.0));
        let mut halves = whole;
        whole.predict(2.0);
        (0..20).for_each(|_| halves.predict(0.1));
        let pairs = [
            (whole.x.position, halves.x.position),
            (whole.x.velocity, halves.x.velocity),
            (whole.x.position_variance, halves.x.position_variance),
            (whole.x.covariance, halves.x.covariance),
            (whole.x.velocity_variance, halves.x.velocity_variance),
        ];
        for (one, other) in pairs {
            assert!((one - other).abs() < 1e-3 * one.abs(), "{one} {other}");
        }
    }

    #[test]
    fn motion_fades_to_rest() {
        let mut motion = Motion::new(&at(0.0));
        motion.predict(0.1);
        motion.correct(&at(50.0));
        motion.predict(60.0);
        assert!(
            motion.x.velocity.abs() < 1e-3 && motion.x.position < 600.0,
            "{motion:?}"
        );
        assert!(motion.is_valid());
    }

    #[test]
    fn distance_is_in_standard_deviations() {
        let mut motion = Motion::new(&at(0.0));
        motion.predict(1.0);
        // 0.58 sides × 2 of the walk, 1.26 of the first velocity, 0.05 twice.
        let deviation = 100.0 * (motion.x.position_variance / 1e4 + 0.0025).sqrt();
        assert!((motion.distance(&at(deviation)) - 1.0).abs() < 1e-3);
        assert!((150.0..200.0).contains(&deviation), "{deviation}");
        assert_eq!(motion.size_ratio(&at(0.0)), 1.0);
    }

    #[test]
    fn empty_boxes_are_valid() {
        let mut motion = Motion::new(&Rect::default());
        motion.predict(0.0);
        motion.correct(&at(5.0));
        motion.predict(1e6);
        assert!(motion.is_valid(), "{motion:?}");
    }
}
