//! Connections to the first of several hosts that accepts writes.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::Connect;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Socket};

/// Connection and the task that reads and writes it.
type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'a>>;

/// Connects to one host after the other. The time for a host includes the login, because a frozen
/// server still accepts connections; tokio-postgres would wait for it and try no other one.
#[derive(Debug)]
pub(super) struct HostConnector<T> {
    hosts: Vec<Config>,
    /// Index of the host that connected last, which is the first to try.
    preferred: AtomicUsize,
    timeout: Duration,
    tls: T,
    /// Fires on a notification of the server, and when a connection ends.
    notified: Arc<Notify>,
}

impl<T> HostConnector<T> {
    pub(super) fn new(config: &Config, timeout: Duration, tls: T, notified: Arc<Notify>) -> Self {
        Self {
            hosts: each_host(config),
            preferred: AtomicUsize::new(0),
            timeout,
            tls,
            notified,
        }
    }
}

impl<T> Connect for HostConnector<T>
where
    T: MakeTlsConnect<Socket> + Clone + Sync + Send + 'static,
    T::Stream: Sync + Send,
    T::TlsConnect: Sync + Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let all = config.clone();
        Box::pin(async move {
            let first = self.preferred.load(Ordering::Relaxed);
            let hosts = self.hosts.iter().enumerate();
            let mut hosts = hosts.cycle().skip(first).take(self.hosts.len()).peekable();
            while let Some((index, host)) = hosts.next() {
                let connecting = connect(host, self.tls.clone(), &self.notified);
                // The pool limits the time for the last host, and reports it.
                let result = match hosts.peek() {
                    Some(_) => match tokio::time::timeout(self.timeout, connecting).await {
                        Ok(Ok(connected)) => Ok(connected),
                        _ => continue,
                    },
                    None => connecting.await,
                };
                if result.is_ok() {
                    self.preferred.store(index, Ordering::Relaxed);
                }
                return result;
            }
            connect(&all, self.tls.clone(), &self.notified).await
        })
    }
}

/// Returns true if one of the hosts is not a standby, although it may refuse writes.
pub(super) async fn has_primary<T>(config: &Config, timeout: Duration, tls: T) -> bool
where
    T: MakeTlsConnect<Socket> + Clone,
    T::Stream: Send + 'static,
{
    for mut host in each_host(config) {
        host.target_session_attrs(TargetSessionAttrs::Any);
        let answer = async {
            let (client, task) = connect(&host, tls.clone(), &Arc::default()).await?;
            let row = client.query_one("SELECT pg_is_in_recovery()", &[]).await;
            task.abort();
            row
        };
        if let Ok(Ok(row)) = tokio::time::timeout(timeout, answer).await
            && matches!(row.try_get(0), Ok(false))
        {
            return true;
        }
    }
    false
}

async fn connect<T>(
    config: &Config,
    tls: T,
    notified: &Arc<Notify>,
) -> Result<(Client, JoinHandle<()>), Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = config.connect(tls).await?;
    let notified = Arc::clone(notified);
    let task = tokio::spawn(async move {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(_))) => notified.notify_one(),
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::warn!("a connection to the database broke: {error}");
                    break;
                }
                None => break,
            }
        }
        drop(connection);
        notified.notify_one();
    });
    Ok((client, task))
}

/// Returns the configuration of each host alone.
fn each_host(config: &Config) -> Vec<Config> {
    let hosts = config.get_hosts().iter().enumerate();
    hosts
        .map(|(index, host)| {
            let mut one = without_hosts(config);
            match host {
                Host::Tcp(name) => one.host(name),
                #[cfg(unix)]
                Host::Unix(path) => one.host_path(path),
            };
            let ports = config.get_ports();
            if let Some(port) = ports.get(index).or(ports.first()) {
                one.port(*port);
            }
            if let Some(address) = config.get_hostaddrs().get(index) {
                one.hostaddr(*address);
            }
            one
        })
        .collect()
}

fn without_hosts(config: &Config) -> Config {
    let mut copy = Config::new();
    copy.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
    if let Some(user) = config.get_user() {
        copy.user(user);
    }
    if let Some(password) = config.get_password() {
        copy.password(password);
    }
    if let Some(name) = config.get_dbname() {
        copy.dbname(name);
    }
    if let Some(options) = config.get_options() {
        copy.options(options);
    }
    if let Some(name) = config.get_application_name() {
        copy.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        copy.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        copy.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        copy.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        copy.keepalives_retries(retries);
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_keep_other_parameters() {
        let query = "connect_timeout=3&tcp_user_timeout=4&keepalives=0&keepalives_idle=5\
                     &keepalives_interval=6&keepalives_retries=7&target_session_attrs=read-write\
                     &channel_binding=require&load_balance_hosts=random&sslmode=require\
                     &sslnegotiation=direct&options=-c%20a%3Db&application_name=c";
        let parse = |hosts: &str, query: &str| -> Config {
            format!("postgresql://owner:word@{hosts}/rostro?{query}")
                .parse()
                .unwrap()
        };
        for query in [
            query.to_owned(),
            format!("{query}&hostaddr=192.0.2.1,192.0.2.2"),
        ] {
            let both = parse("a:1,%2Fb:2", &query);
            let one = |host, address| {
                let query = query.replace("192.0.2.1,192.0.2.2", address);
                parse(host, &query)
            };
            assert_eq!(
                each_host(&both),
                [one("a:1", "192.0.2.1"), one("%2Fb:2", "192.0.2.2")]
            );
        }
    }

    #[test]
    fn one_port_serves_all_hosts() {
        let config: Config = "host=a,b port=7 dbname=c".parse().unwrap();
        let ports = each_host(&config)
            .into_iter()
            .map(|one| one.get_ports().to_vec());
        assert_eq!(ports.collect::<Vec<_>>(), [[7], [7]]);
    }
}
