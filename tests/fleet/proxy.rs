//! TCP proxy between a node and its database, which can cut, delay and stall the connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What the proxy does with bytes and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Bytes pass at once.
    Open,
    /// Bytes pass after this time.
    Delayed(Duration),
    /// Bytes are held, and connections stay open.
    Stalled,
    /// Bytes of the database are held, so that it hears the node, but the node hears nothing.
    AnswersHeld,
    /// Connections are closed, with the bytes in them lost, and new ones are closed at once.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    ToDatabase,
    ToNode,
}

/// A listener that forwards every connection to one target. Dropping it closes all of them.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    link: Link,
    /// Number of cuts. A connection ends at the first cut after its start.
    cuts: u64,
    streams: Vec<TcpStream>,
    is_over: bool,
}

impl State {
    fn cut(&mut self) {
        self.cuts += 1;
        for stream in self.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Proxy {
    /// Starts a proxy in front of a target.
    pub(crate) fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                target,
                link: Link::Open,
                cuts: 0,
                streams: Vec::new(),
                is_over: false,
            }),
            changed: Condvar::new(),
        });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for node in listener.incoming().map_while(Result::ok) {
                if own.state.lock().unwrap().is_over {
                    return;
                }
                connect(&own, node);
            }
        });
        Self { address, shared }
    }

    /// Returns the address to connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens to bytes and connections.
    pub(crate) fn set(&self, link: Link) {
        let mut state = self.shared.state.lock().unwrap();
        state.link = link;
        if link == Link::Cut {
            state.cut();
        }
        self.shared.changed.notify_all();
    }

    /// Forwards later connections to another target, and ends those to the former one.
    pub(crate) fn retarget(&self, target: SocketAddr) {
        let mut state = self.shared.state.lock().unwrap();
        if state.target != target {
            state.target = target;
            state.cut();
            self.shared.changed.notify_all();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Ok(mut state) = self.shared.state.lock() {
            state.is_over = true;
            state.cut();
        }
        self.shared.changed.notify_all();
        // The thread that accepts connections sees the end at the next one.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    /// Waits until bytes of a connection may pass. Returns false if it was cut.
    fn admit(&self, direction: Direction, cuts: u64) -> bool {
        let mut state = self.state.lock().unwrap();
        loop {
            if state.cuts != cuts {
                return false;
            }
            match state.link {
                Link::Stalled => state = self.changed.wait(state).unwrap(),
                Link::AnswersHeld if direction == Direction::ToNode => {
                    state = self.changed.wait(state).unwrap();
                }
                Link::Delayed(time) => {
                    drop(state);
                    std::thread::sleep(time);
                    return self.state.lock().unwrap().cuts == cuts;
                }
                Link::Open | Link::AnswersHeld | Link::Cut => return true,
            }
        }
    }
}

/// Connects a node to the target. Without one, or while the link is cut, `node` is closed.
fn connect(shared: &Arc<Shared>, node: TcpStream) {
    let mut state = shared.state.lock().unwrap();
    if state.link == Link::Cut {
        return;
    }
    let Ok(database) = TcpStream::connect(state.target) else {
        return;
    };
    for stream in [&node, &database] {
        let _ = stream.set_nodelay(true);
    }
    let cuts = state.cuts;
    for (from, to, direction) in [
        (&node, &database, Direction::ToDatabase),
        (&database, &node, Direction::ToNode),
    ] {
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let shared = Arc::clone(shared);
        std::thread::spawn(move || forward(&shared, from, to, direction, cuts));
    }
    state.streams.extend([node, database]);
}

fn forward(shared: &Shared, mut from: TcpStream, mut to: TcpStream, way: Direction, cuts: u64) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let passes = shared.admit(way, cuts);
        if !passes
            || bytes
                .get(..count)
                .is_none_or(|bytes| to.write_all(bytes).is_err())
        {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longest wait for bytes that must not arrive.
    const SHORT: Duration = Duration::from_millis(100);

    /// Starts a server that sends every byte back.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
                });
            }
        });
        address
    }

    fn connected(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.address()).unwrap()
    }

    /// Reads the next byte, and waits up to `limit` for it.
    fn next(stream: &mut TcpStream, limit: Duration) -> Option<u8> {
        stream.set_read_timeout(Some(limit)).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    fn is_closed(stream: &mut TcpStream) -> bool {
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        match stream.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    #[test]
    fn stall_holds_bytes_until_healed() {
        for link in [Link::Stalled, Link::AnswersHeld] {
            let proxy = Proxy::start(echo());
            let mut stream = connected(&proxy);
            stream.write_all(b"a").unwrap();
            assert_eq!(next(&mut stream, Duration::from_secs(10)), Some(b'a'));
            proxy.set(link);
            stream.write_all(b"b").unwrap();
            assert_eq!(next(&mut stream, SHORT), None);
            proxy.set(Link::Open);
            assert_eq!(next(&mut stream, Duration::from_secs(10)), Some(b'b'));
        }
    }

    #[test]
    fn cut_closes_connections() {
        let proxy = Proxy::start(echo());
        let mut stream = connected(&proxy);
        proxy.set(Link::Stalled);
        stream.write_all(b"a").unwrap();
        proxy.set(Link::Cut);
        assert!(is_closed(&mut stream));
        assert!(is_closed(&mut connected(&proxy)));
        proxy.set(Link::Open);
        let mut stream = connected(&proxy);
        stream.write_all(b"b").unwrap();
        assert_eq!(next(&mut stream, Duration::from_secs(10)), Some(b'b'));
    }

    #[test]
    fn delay_slows_bytes() {
        let proxy = Proxy::start(echo());
        let mut stream = connected(&proxy);
        proxy.set(Link::Delayed(SHORT));
        stream.write_all(b"a").unwrap();
        let begun = std::time::Instant::now();
        assert_eq!(next(&mut stream, Duration::from_secs(10)), Some(b'a'));
        assert!(begun.elapsed() >= SHORT);
    }
}
