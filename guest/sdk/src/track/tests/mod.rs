//! Simulated streams: crossings, classes, strangers.

mod class;
mod crossing;
mod names;
mod property;
mod votes;
mod world;
