//! Tests with real receivers.
