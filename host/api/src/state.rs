//! State that the handlers of the service's port share.

use std::sync::Arc;

use rostro_service::Service;

use crate::metrics::Traffic;
use crate::request::form::FormLimits;
use crate::request::memory::BodyMemory;

/// Limits of request bodies, from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes of one body.
    pub body_bytes: usize,
    /// Bytes of one image.
    pub image_bytes: usize,
    /// Bytes of the bodies of all requests together.
    pub memory_bytes: usize,
}

/// State of the public routes.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) service: Arc<Service>,
    pub(crate) limits: FormLimits,
    pub(crate) traffic: Traffic,
}

impl App {
    pub(crate) fn new(service: Arc<Service>, limits: BodyLimits, traffic: Traffic) -> Self {
        let BodyLimits {
            body_bytes,
            image_bytes,
            memory_bytes,
        } = limits;
        // The configuration ensures that half of the memory holds the largest body.
        let client_bytes = (memory_bytes / 2).max(body_bytes);
        let limits = FormLimits {
            file_bytes: image_bytes.min(body_bytes),
            body_bytes,
            memory: BodyMemory::new(memory_bytes, client_bytes),
        };
        Self {
            service,
            limits,
            traffic,
        }
    }
}
