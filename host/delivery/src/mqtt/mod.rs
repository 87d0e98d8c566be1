//! Thread of an MQTT broker.
//!
//! A message counts as delivered after its PUBACK. Every connection has a new client without
//! messages of an earlier one, so that an event is read again before it is sent again.

mod retained;
mod topics;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rostro_sessions::{SessionPosition, SessionStoreError};
use rumqttc::{
    AsyncClient, ConnectionError, EventLoop, LastWill, MqttOptions, PublishOptions, QoS,
    TlsConfiguration, Transport,
};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::backoff::{BackoffLimits, RetryBackoff};
use crate::error::DeliveryError;
use crate::message;
use crate::outbox::Outbox;
use crate::receivers::MqttBroker;
use crate::signals::Signals;
use crate::status::Monitor;

use retained::RetainedTopics;
use topics::RetainedMessage;

/// Number of events of one session in a row, so that no session waits long for another.
const MAX_IN_ROW: usize = 16;

/// Interval at which counts are looked at, because some change without an event.
const COUNTS_INTERVAL: Duration = Duration::from_secs(5);

/// Interval at which the broker is told again that the service is online.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(30);

/// Time within which a broker acknowledges a message.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the last message after the stop.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Interval of pings, in seconds. A broker publishes the last will after one and a half of it.
const KEEP_ALIVE: u16 = 30;

/// Maximum size of a message in bytes, above every event.
const MAX_PACKET: usize = 1 << 20;

/// Delivers events to a broker.
#[derive(Debug)]
pub(crate) struct MqttWorker {
    broker: MqttBroker,
    outbox: Outbox,
    monitor: Arc<Monitor>,
    limits: BackoffLimits,
    /// Failed connections in a row.
    backoff: RetryBackoff,
    retained: RetainedTopics,
}

/// Reason why a connection ended.
#[derive(Debug, thiserror::Error)]
enum MqttFailure {
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    #[error("it did not acknowledge a message in {} s", ACK_TIMEOUT.as_secs())]
    Unacknowledged,
    #[error("the client refused a message: {0}")]
    Refused(String),
    #[error("cannot record its retained topics: {0}")]
    Disk(#[from] io::Error),
    #[error("{0}")]
    Sessions(#[from] SessionStoreError),
}

impl MqttWorker {
    /// Opens the files of a broker.
    ///
    /// # Errors
    ///
    /// If a file cannot be used.
    pub(crate) fn open(
        broker: MqttBroker,
        outbox: Outbox,
        monitor: Arc<Monitor>,
        limits: BackoffLimits,
        folder: &Path,
    ) -> Result<Self, DeliveryError> {
        let retained = match outbox.store().shared() {
            None => {
                let path = folder.join(format!("{}.topics.json", broker.name));
                RetainedTopics::open(&path)?
            }
            Some(shared) => RetainedTopics::of_rows(shared, &broker.name)?,
        };
        Ok(Self {
            retained,
            broker,
            outbox,
            monitor,
            limits,
            backoff: RetryBackoff::default(),
        })
    }

    /// Delivers until the stop.
    pub(crate) fn run(mut self, runtime: &Runtime, mut signals: Signals) {
        runtime.block_on(async {
            while !signals.is_stopped() {
                let Err(failure) = self.connect(&mut signals).await else {
                    return;
                };
                if signals.is_stopped() {
                    return;
                }
                let error = format!("cannot deliver to {}: {failure}", self.broker.address);
                self.monitor.failed(&error);
                let delay = self.backoff.fail(self.limits, None);
                signals.pause(Instant::now() + delay).await;
            }
        });
    }

    /// Delivers over one connection until it fails, or until the stop.
    async fn connect(&mut self, signals: &mut Signals) -> Result<(), MqttFailure> {
        let (client, mut events) = AsyncClient::builder(self.options())
            .capacity(1)
            .try_build()
            .map_err(|error| MqttFailure::Refused(error.to_string()))?;
        let mut stop = signals.clone();
        let stopped = async {
            stop.stopped().await;
            tokio::time::sleep(GOODBYE_TIMEOUT).await;
        };
        // The connection first, because its error is the cause of those of its messages.
        tokio::select! {
            biased;
            error = drive(&mut events) => Err(error.into()),
            served = self.serve(&client, signals) => served,
            () = stopped => Ok(()),
        }
    }

    fn options(&self) -> MqttOptions {
        let broker = &self.broker;
        let id = format!("rostro-{}-{:08x}", broker.name, fastrand::u32(..));
        let mut options = MqttOptions::new(id, (broker.address.host(), broker.address.port()));
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_session(true)
            .set_max_packet_size(MAX_PACKET, MAX_PACKET)
            .set_last_will(LastWill::new(
                topics::status(broker),
                "offline",
                QoS::AtLeastOnce,
                true,
            ));
        if let Some(tls) = &broker.tls {
            options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::clone(tls))));
        }
        if let Some(login) = &broker.login {
            match &login.password {
                Some(password) => {
                    options.set_credentials(login.username.clone(), password.clone());
                }
                None => {
                    options.set_username(login.username.clone());
                }
            }
        }
        options
    }

    /// Sends messages until the stop.
    async fn serve(
        &mut self,
        client: &AsyncClient,
        signals: &mut Signals,
    ) -> Result<(), MqttFailure> {
        let availability = topics::status(&self.broker);
        // Payloads that this connection has sent.
        let mut sent = HashMap::new();
        let mut announced: Option<Instant> = None;
        while !signals.is_stopped() {
            signals.mark_seen();
            // Again and again: the last will of another node may come late.
            if announced.is_none_or(|at| at.elapsed() >= ANNOUNCE_INTERVAL) {
                publish(client, &availability, "online", true).await?;
                announced = Some(Instant::now());
            }
            let sessions = self.outbox.sessions()?;
            self.monitor.set_waiting(self.outbox.waiting(&sessions));
            self.refresh(client, &sessions, &mut sent).await?;
            let is_more = self.pass(client, &sessions, signals).await?;
            self.backoff = RetryBackoff::default();
            if !self.outbox.is_failing() {
                self.monitor.recovered();
            }
            if !is_more {
                let counts = Instant::now() + COUNTS_INTERVAL;
                let until = self.outbox.next_retry().map_or(counts, |at| at.min(counts));
                signals.wait(Some(until)).await;
            }
        }
        publish(client, &availability, "offline", true).await?;
        // The connection ends after the client sent DISCONNECT.
        let _ = client.disconnect().await;
        std::future::pending().await
    }

    /// Sends retained messages that changed, and clears those of streams without sessions.
    async fn refresh(
        &mut self,
        client: &AsyncClient,
        sessions: &[SessionPosition],
        sent: &mut HashMap<String, String>,
    ) -> Result<(), MqttFailure> {
        let messages = retained::messages(&self.broker, self.outbox.store(), sessions)?;
        let stale = self.retained.stale(&messages);
        for topic in &stale {
            publish(client, topic, "", true).await?;
            sent.remove(topic);
        }
        self.retained.remove(&stale)?;
        self.retained.add(&messages)?;
        for RetainedMessage { topic, payload } in messages {
            if sent.get(&topic) != Some(&payload) {
                publish(client, &topic, payload.clone(), true).await?;
                sent.insert(topic, payload);
            }
        }
        Ok(())
    }

    /// Delivers at most [`MAX_IN_ROW`] events of each session. Returns true if more may wait.
    async fn pass(
        &mut self,
        client: &AsyncClient,
        sessions: &[SessionPosition],
        signals: &Signals,
    ) -> Result<bool, MqttFailure> {
        let mut is_more = false;
        for position in sessions {
            for count in 0.. {
                if signals.is_stopped() || !self.outbox.is_due(position, Instant::now()) {
                    break;
                }
                if count == MAX_IN_ROW {
                    is_more = true;
                    break;
                }
                if !self.deliver_next(client, position).await? {
                    break;
                }
            }
        }
        Ok(is_more)
    }

    /// Delivers the next event of a session. Returns false if there is none or it cannot be read.
    async fn deliver_next(
        &mut self,
        client: &AsyncClient,
        position: &SessionPosition,
    ) -> Result<bool, MqttFailure> {
        let event = match self.outbox.next_event(position.id) {
            Ok(Some(event)) => event,
            Ok(None) => {
                self.outbox.skip_removed(position);
                return Ok(false);
            }
            Err(SessionStoreError::Unknown(_)) => return Ok(false),
            Err(error) => {
                self.monitor.failed(&error.to_string());
                self.outbox.failed(position.id, Instant::now(), None);
                return Ok(false);
            }
        };
        let body = message::body(&event, position).map_err(io::Error::from)?;
        let topic = topics::events(&self.broker, &position.stream);
        publish(client, &topic, body, false).await?;
        self.outbox.delivered(event.id);
        self.monitor.delivered();
        Ok(true)
    }
}

/// Moves the packets of a connection until it fails.
async fn drive(events: &mut EventLoop) -> ConnectionError {
    loop {
        if let Err(error) = events.poll().await {
            return error;
        }
    }
}

/// Sends a message and waits for its PUBACK.
async fn publish(
    client: &AsyncClient,
    topic: &str,
    payload: impl Into<Vec<u8>>,
    is_retained: bool,
) -> Result<(), MqttFailure> {
    let options = PublishOptions::at_least_once().retain(is_retained);
    let refused = |error: String| MqttFailure::Refused(error);
    let acknowledged = async {
        let notice = client
            .publish_tracked(topic.to_owned(), payload.into(), options)
            .await
            .map_err(|error| refused(error.to_string()))?;
        notice
            .wait_completion_async()
            .await
            .map_err(|error| refused(error.to_string()))
    };
    timeout(ACK_TIMEOUT, acknowledged)
        .await
        .map_err(|_| MqttFailure::Unacknowledged)?
}
