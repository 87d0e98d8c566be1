//! Child processes that end with the program, also at a signal.

use std::io;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::serve::signals::{SignalKind, SignalStream};

/// Time that a child has to end by itself.
const GRACE: Duration = Duration::from_secs(1);
/// Interval at which a child is checked for its end.
const POLL: Duration = Duration::from_millis(5);
/// Exit code after SIGINT, as shells report it.
const INTERRUPTED: i32 = 128 + 2;
/// Exit code after SIGTERM, as shells report it.
const TERMINATED: i32 = 128 + 15;

/// The running child processes.
#[derive(Clone, Debug, Default)]
pub(super) struct Children(Arc<Mutex<Registry>>);

#[derive(Debug, Default)]
struct Registry {
    running: Vec<Arc<Mutex<Child>>>,
    is_closed: bool,
}

impl Children {
    /// Starts a child.
    ///
    /// # Errors
    ///
    /// If the program cannot be started, or this process is ending.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<SharedChild> {
        let mut registry = lock(&self.0);
        if registry.is_closed {
            return Err(io::Error::other("the program is ending"));
        }
        let child = Arc::new(Mutex::new(command.spawn()?));
        registry.running.push(Arc::clone(&child));
        Ok(SharedChild {
            child,
            registry: self.clone(),
        })
    }

    /// Ends all children and starts no more.
    pub(super) fn end_all(&self) {
        let mut registry = lock(&self.0);
        registry.is_closed = true;
        let running = std::mem::take(&mut registry.running);
        drop(registry);
        for child in &running {
            ask_to_end(&mut lock(child));
        }
        let deadline = Instant::now() + GRACE;
        for child in &running {
            end_by(child, deadline);
        }
    }

    /// Waits for the end of the process, if it is ending: a child that was ended is no failure.
    pub(super) fn wait_if_ending(&self) {
        // It never opens again. A thread may wake up without a reason.
        while lock(&self.0).is_closed {
            thread::park();
        }
    }

    /// Starts a thread that ends the children and the process at SIGINT and SIGTERM.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub(super) fn end_at_signals(&self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let [mut interrupt, mut terminate] = {
            let _entered = runtime.enter();
            [SignalKind::Interrupt, SignalKind::Terminate].map(SignalStream::new)
        };
        let children = self.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let code = runtime.block_on(async {
                    tokio::select! {
                        () = interrupt.next() => INTERRUPTED,
                        () = terminate.next() => TERMINATED,
                    }
                });
                children.end_all();
                rostro_common::shutdown::exit(code);
            })
            .map(|_| ())
    }

    fn remove(&self, child: &Arc<Mutex<Child>>) {
        lock(&self.0)
            .running
            .retain(|other| !Arc::ptr_eq(other, child));
    }
}

/// A child process. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct SharedChild {
    child: Arc<Mutex<Child>>,
    registry: Children,
}

impl SharedChild {
    /// Returns the pipes to and from the child, once.
    pub(super) fn take_pipes(
        &mut self,
    ) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        let mut child = lock(&self.child);
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    }

    /// Waits for the child, and ends it after `limit`. Returns true if it ended by itself and well.
    pub(super) fn wait_for(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            match lock(&self.child).try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) if Instant::now() < deadline => {}
                _ => break,
            }
            thread::sleep(POLL);
        }
        self.end();
        false
    }

    /// Ends the child: by a signal first, so that a camera is told.
    pub(super) fn end(&self) {
        ask_to_end(&mut lock(&self.child));
        end_by(&self.child, Instant::now() + GRACE);
    }
}

impl Drop for SharedChild {
    fn drop(&mut self) {
        self.end();
        self.registry.remove(&self.child);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks a child to end, unless it ended already: its number may belong to another process then.
fn ask_to_end(child: &mut Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    #[cfg(unix)]
    {
        use rustix::process::{Pid, Signal, kill_process};

        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    #[cfg(not(unix))]
    let _ = child.kill();
}

/// Waits for a child until a time, and kills it then.
fn end_by(child: &Mutex<Child>, deadline: Instant) {
    loop {
        let mut child = lock(child);
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        drop(child);
        thread::sleep(POLL);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn stubborn_child_is_killed() {
        let children = Children::default();
        let child = children
            .spawn(&mut shell("trap '' TERM; while true; do sleep 0.05; done"))
            .unwrap();
        children.end_all();
        assert!(!child.wait_for(Duration::ZERO));
        assert!(children.spawn(&mut shell("true")).is_err());
    }

    #[test]
    fn dropped_child_is_forgotten() {
        let children = Children::default();
        let child = children.spawn(&mut shell("exec sleep 60")).unwrap();
        drop(child);
        assert!(lock(&children.0).running.is_empty());
        let child = children.spawn(&mut shell("true")).unwrap();
        assert!(child.wait_for(Duration::from_secs(60)));
    }
}
