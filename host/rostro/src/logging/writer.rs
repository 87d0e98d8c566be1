//! Log output that neither blocks nor fails its caller.
//!
//! Lines wait in a bounded queue for one thread, which writes them. A reader that stalls, a closed
//! pipe or a full disk costs log lines, which are counted, and never a request. `tracing-appender`
//! has such a thread as well, but it bounds lines and not bytes. It does not count failed writes,
//! and waits for a second at the end.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Upper bound of queued lines: some seconds of a busy service.
const MAX_LINES: usize = 4096;

/// Upper bound of queued bytes, because guests choose the length of some lines.
const MAX_BYTES: usize = 8 << 20;

/// Pause before a retry on a non-blocking descriptor, such as a terminal shared with another
/// program.
const RETRY: Duration = Duration::from_millis(10);

/// Accepts log lines and writes them on its own thread. Clones share the queue.
#[derive(Clone, Debug)]
pub(crate) struct LogWriter(Arc<WriterState>);

#[derive(Debug, Default)]
struct WriterState {
    queue: Mutex<LineQueue>,
    has_lines: Condvar,
    is_drained: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct LineQueue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    is_writing: bool,
}

impl LogWriter {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    ///
    /// If the operating system refuses the thread.
    pub(crate) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<WriterState>::default();
        let thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || thread.write_lines(output))?;
        Ok(Self(shared))
    }

    /// Queues a line, or drops and counts it if the queue is full.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut queue = self.0.lock();
        if queue.lines.len() >= MAX_LINES || queue.bytes + line.len() > MAX_BYTES {
            drop(queue);
            self.0.note_dropped();
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_vec());
        drop(queue);
        self.0.has_lines.notify_one();
    }

    /// Waits until every queued line is written, but no longer than `timeout`.
    pub(crate) fn flush(&self, timeout: Duration) {
        let is_busy = |queue: &mut LineQueue| queue.is_writing || !queue.lines.is_empty();
        let waited = self
            .0
            .is_drained
            .wait_timeout_while(self.0.lock(), timeout, is_busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Number of lines that were not written: the queue was full, or the write failed.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl WriterState {
    fn lock(&self) -> MutexGuard<'_, LineQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn write_lines(&self, mut output: impl Write) {
        let mut reported = 0;
        // A write that failed in the middle leaves a torn line, which the next one must not
        // continue.
        let mut is_torn = false;
        loop {
            let line = self.next_line();
            let written = if is_torn {
                write_all(&mut output, b"\n")
            } else {
                Ok(())
            };
            match written.and_then(|()| write_all(&mut output, &line)) {
                Ok(()) => {
                    is_torn = false;
                    let dropped = self.dropped.load(Ordering::Relaxed);
                    // In a full queue the line would be dropped itself.
                    if dropped > reported && self.lock().lines.len() < MAX_LINES / 2 {
                        tracing::warn!(
                            lines = dropped - reported,
                            "log lines were dropped because their reader was too slow or the write failed"
                        );
                        reported = dropped;
                    }
                }
                Err(_) => {
                    is_torn = true;
                    self.note_dropped();
                }
            }
        }
    }

    fn next_line(&self) -> Vec<u8> {
        let mut queue = self.lock();
        queue.is_writing = false;
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.is_writing = true;
                return line;
            }
            self.is_drained.notify_all();
            queue = self
                .has_lines
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Writes all bytes, also to a non-blocking descriptor.
fn write_all(output: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    output.flush()
}

/// Each write is one event: the formatter of `tracing-subscriber` hands over whole lines.
impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Output that returns the queued results, and blocks while the queue is empty.
    struct Output {
        written: Written,
        results: Receiver<io::Result<usize>>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self
                .results
                .recv()
                .unwrap_or(Ok(usize::MAX))?
                .min(bytes.len());
            self.written.lock().unwrap().extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Written = Arc<Mutex<Vec<u8>>>;

    fn started() -> (LogWriter, Written, Sender<io::Result<usize>>) {
        let (results, receiver) = channel();
        let written = Written::default();
        let writer = LogWriter::start(Output {
            written: Arc::clone(&written),
            results: receiver,
        })
        .unwrap();
        (writer, written, results)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn stalled_output_drops_beyond_lines() {
        let (writer, written, results) = started();
        for _ in 0..MAX_LINES + 11 {
            writer.push(b"line\n");
        }
        writer.flush(Duration::from_millis(50));
        // One line is with the output, unless the thread did not begin yet.
        assert!(
            (10..=11).contains(&writer.dropped()),
            "{}",
            writer.dropped()
        );
        drop(results);
        writer.flush(LONG);
        let kept = MAX_LINES + 11 - usize::try_from(writer.dropped()).unwrap();
        assert_eq!(written.lock().unwrap().len(), kept * b"line\n".len());
    }

    /// The warning about dropped lines is written once the queue has room for it, with their whole
    /// number.
    #[test]
    fn dropped_lines_are_reported() {
        let (writer, written, results) = started();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(writer.clone())
            .with_ansi(false)
            .finish();
        // The writing thread uses the global subscriber.
        let _ = tracing::subscriber::set_global_default(subscriber);
        for _ in 0..2 * MAX_LINES {
            writer.push(b"line\n");
        }
        drop(results);
        writer.flush(LONG);
        writer.push(b"last\n");
        writer.flush(LONG);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let reported: Vec<u64> = text
            .lines()
            .filter_map(|line| line.split_once("lines=")?.1.parse().ok())
            .collect();
        // Tests of the same process may have dropped lines as well.
        assert!(
            reported.contains(&writer.dropped()),
            "{}",
            text.lines()
                .filter(|line| *line != "line")
                .collect::<Vec<_>>()
                .join("\n")
        );
    }

    #[test]
    fn stalled_output_drops_beyond_bytes() {
        let (writer, _, _results) = started();
        for _ in 0..20 {
            writer.push(&[b'x'; 1 << 20]);
        }
        assert!(
            (11..=12).contains(&writer.dropped()),
            "{}",
            writer.dropped()
        );
    }

    #[test]
    fn failed_write_counts_and_recovers() {
        let (writer, written, results) = started();
        writer.push(b"first\n");
        results.send(Ok(2)).unwrap();
        results.send(Err(ErrorKind::StorageFull.into())).unwrap();
        results.send(Err(ErrorKind::WouldBlock.into())).unwrap();
        drop(results);
        writer.push(b"second\n");
        writer.flush(LONG);
        assert_eq!(
            (written.lock().unwrap().as_slice(), writer.dropped()),
            (b"fi\nsecond\n".as_slice(), 1)
        );
    }
}
