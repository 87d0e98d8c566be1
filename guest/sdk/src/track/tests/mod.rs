//! Simulated streams: crossings, classes, strangers.

mod appearance;
mod class;
mod crossing;
mod names;
mod property;
mod votes;
mod world;
