//! Delivery of the events of sessions to webhooks and MQTT brokers, at least once.
//!
//! | module | content |
//! | --- | --- |
//! | `receivers` | the operator's file of receivers, and what it means |
//! | `address` | addresses of receivers, and which may go without TLS |
//! | `tls` | authorities that certificates of receivers are checked against |
//! | `signature` | signatures of webhooks, by the Standard Webhooks specification |
//! | `message` | an event as receivers get it |
//! | `cursors` | the number of the last delivered event of each session, of one receiver |
//! | `outbox` | the events that wait for a receiver, read from the store of sessions |
//! | `backoff` | delays of retries |
//! | `status` | counts and the state of a receiver, and its log lines |
//! | `signals` | wakes a receiver's thread: new events, and the stop |
//! | `webhook` | the thread of a webhook |
//! | `mqtt` | the thread of an MQTT broker: events, retained counts, discovery |
//! | `delivery` | all receivers of a host, and turns of the nodes of a fleet |
//!
//! The [`SessionStore`](rostro_sessions::SessionStore) is the one durable log of events. A receiver keeps numbers alone, and reads an event again before each attempt. Therefore
//! a deleted person is in no file of this crate, and their events are not sent after the deletion.
//!
//! Place in the host: rostro → api → service → {sessions, delivery}, and delivery → {sessions,
//! common}. It knows neither routes nor guests.

mod address;
mod backoff;
mod cursors;
mod delivery;
mod error;
mod message;
mod mqtt;
mod outbox;
mod receivers;
mod signals;
mod signature;
mod status;
#[cfg(test)]
mod tests;
mod tls;
mod webhook;

pub use delivery::{DELIVERIES, Delivery};
pub use error::DeliveryError;
pub use receivers::{Receivers, ReceiversError};
pub use status::{ReceiverKind, ReceiverState, ReceiverStatus};
