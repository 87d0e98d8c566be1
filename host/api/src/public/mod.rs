//! The routes that callers use.

pub mod enroll;
pub mod health;
pub mod openapi;
pub mod pages;
pub mod recognize;
pub mod v1;
