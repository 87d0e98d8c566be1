//! Scenes of people who cross a room, with the truth about every frame.

use std::f32::consts::TAU;
use std::ops::RangeInclusive;

use anyhow::Result;
use bytes::Bytes;
use fastrand::Rng;
use image::{Rgb, RgbImage};
use rostro_sdk::geometry::Rect;

use crate::heads::{Head, Pose};
use crate::picture::{Noise, jpeg};

/// Frames a second.
pub(crate) const RATE: usize = 10;

/// Standard deviation of the noise, of 255.
const NOISE: f32 = 4.0;

/// Largest change of the light.
const LIGHT: f32 = 0.15;

/// Points of a face by which its visible share is counted, in each direction.
const GRID: usize = 8;

/// How a person moves through a scene.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Walk {
    /// Places at the beginning and at the end.
    pub(crate) from: [f32; 2],
    pub(crate) to: [f32; 2],
    /// Largest angle in radians.
    pub(crate) turn: f32,
    /// Largest blur, 0 to 1.
    pub(crate) blur: f32,
    /// True if something is held before the face now and then.
    pub(crate) is_covered: bool,
    /// Moment of its cycle at which each change begins, 0 to 1.
    pub(crate) phase: f32,
}

/// A person of a scene. Later ones are in front.
pub(crate) struct Actor {
    /// The person's id, or none for a stranger.
    pub(crate) id: Option<String>,
    pub(crate) head: Head,
    pub(crate) walk: Walk,
    /// Share of the scene in which the person is there, 0 to 1.
    pub(crate) shown: RangeInclusive<f32>,
}

/// A scene.
pub(crate) struct Scene {
    pub(crate) backdrop: RgbImage,
    pub(crate) actors: Vec<Actor>,
    /// Left and right edges of poles in front of every person.
    pub(crate) poles: Vec<[f32; 2]>,
    pub(crate) frames: usize,
}

/// A face of a frame, as it is.
#[derive(Clone, Debug)]
pub(crate) struct TrueFace {
    pub(crate) actor: usize,
    pub(crate) bounds: Rect,
    /// Share that nothing covers and that is in the frame, 0 to 1.
    pub(crate) visible: f32,
}

impl Walk {
    /// Returns the pose after a share of the walk, 0 to 1, and a number of seconds.
    fn pose(&self, share: f32, seconds: f32, size: [f32; 2]) -> Pose {
        let wave = |period: f32| (TAU * (seconds / period + self.phase)).sin();
        let place = |axis: usize| self.from[axis] + share * (self.to[axis] - self.from[axis]);
        let bob = 0.04 * size[1] * wave(0.9);
        // Before the eyes, then before the mouth, for half a second of two each.
        let bar = match ((seconds / 4.0 + self.phase).fract() * 8.0) as u32 {
            1 => Some([-0.12, 0.16]),
            5 => Some([0.3, 0.25]),
            _ => None,
        };
        Pose {
            center: [place(0), place(1) + bob],
            angle: self.turn * wave(2.5),
            blur: self.blur * wave(3.0).max(0.0),
            bar: bar.filter(|_| self.is_covered),
        }
    }
}

impl Scene {
    /// Returns each frame with its faces.
    pub(crate) fn film(&self, random: &mut Rng) -> Result<Vec<(Bytes, Vec<TrueFace>)>> {
        let noise = Noise::new(random);
        let mut film = Vec::with_capacity(self.frames);
        for number in 0..self.frames {
            let seconds = number as f32 / RATE as f32;
            let share = number as f32 / (self.frames - 1) as f32;
            let actors = self.actors.iter().enumerate();
            let poses: Vec<(usize, Pose)> = actors
                .filter(|(_, actor)| actor.shown.contains(&share))
                .map(|(number, actor)| (number, actor.walk.pose(share, seconds, actor.head.size)))
                .collect();
            let mut frame = self.backdrop.clone();
            for (actor, pose) in &poses {
                self.actors[*actor].head.draw(&mut frame, pose);
            }
            for [left, right] in &self.poles {
                for column in *left as u32..*right as u32 {
                    for row in 0..frame.height() {
                        frame.put_pixel(column, row, Rgb([90, 85, 80]));
                    }
                }
            }
            let light = 1.0 + LIGHT * (TAU * seconds / 4.0).sin();
            noise.apply(&mut frame, light, NOISE, random);
            film.push((jpeg(&frame)?, self.truth(&poses)));
        }
        Ok(film)
    }

    /// Returns the faces of the actors in these poses, which are in their order.
    fn truth(&self, poses: &[(usize, Pose)]) -> Vec<TrueFace> {
        let bounds = |(actor, pose): &(usize, Pose)| self.actors[*actor].head.bounds(pose);
        let faces = poses.iter().enumerate().map(|(index, posed)| {
            let face = bounds(posed);
            let is_visible = |x: f32, y: f32| {
                let is_inside = x >= 0.0
                    && y >= 0.0
                    && x < self.backdrop.width() as f32
                    && y < self.backdrop.height() as f32;
                let is_hidden = poses[index + 1..].iter().any(|other| {
                    let other = bounds(other);
                    // Heads are ellipses that are a little larger than the box of their face.
                    let (width, height) = (other.x2 - other.x1, other.y2 - other.y1);
                    let dx = (x - (other.x1 + other.x2) / 2.0) / width;
                    let dy = (y - (other.y1 + other.y2) / 2.0) / height;
                    dx.hypot(dy) < 0.9
                });
                let mut poles = self.poles.iter();
                is_inside && !is_hidden && !poles.any(|[left, right]| (*left..*right).contains(&x))
            };
            let along = |from: f32, to: f32, step: usize| {
                from + (to - from) * (step as f32 + 0.5) / GRID as f32
            };
            let points = (0..GRID * GRID).filter(|point| {
                is_visible(
                    along(face.x1, face.x2, point % GRID),
                    along(face.y1, face.y2, point / GRID),
                )
            });
            TrueFace {
                actor: posed.0,
                bounds: face,
                visible: points.count() as f32 / (GRID * GRID) as f32,
            }
        });
        faces.collect()
    }
}
