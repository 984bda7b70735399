//! The open connections. At the limit a new one pushes out the one that has been idle longest, so that a
//! flood of idle connections can't keep a trading server out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::metrics::Metrics;

pub struct Connections {
    limit: usize,
    started: Instant,
    open: Mutex<(u64, HashMap<u64, Arc<Activity>>)>,
    closed: Notify,
    metrics: Arc<Metrics>,
}

/// What one connection is doing.
pub struct Activity {
    started: Instant,
    busy: AtomicBool,
    /// Milliseconds since the server's start.
    last_ms: AtomicU64,
    evict: Notify,
}

/// Held by the connection's task; gives its place back when dropped.
pub struct Place {
    id: u64,
    activity: Arc<Activity>,
    connections: Arc<Connections>,
}

impl Connections {
    pub fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        Connections { limit, started: Instant::now(), open: Mutex::default(), closed: Notify::new(), metrics }
    }

    pub fn open(self: &Arc<Self>) -> Place {
        let activity = Arc::new(Activity {
            started: self.started,
            busy: AtomicBool::new(false),
            last_ms: AtomicU64::new(self.started.elapsed().as_millis() as u64),
            evict: Notify::new(),
        });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.1.len() >= self.limit {
            let idle = open.1.iter().filter(|(_, a)| !a.busy.load(Ordering::Acquire));
            // All busy: the new one itself has to go.
            let victim =
                idle.min_by_key(|(_, a)| a.last_ms.load(Ordering::Acquire)).map(|(&id, a)| (id, a.clone()));
            match victim {
                Some((id, victim)) => {
                    open.1.remove(&id);
                    victim.evict.notify_one();
                }
                None => activity.evict.notify_one(),
            }
            self.metrics.connections_closed.inc();
        }
        open.0 += 1;
        let id = open.0;
        open.1.insert(id, activity.clone());
        self.metrics.connections.set(open.1.len() as i64);
        Place { id, activity, connections: self.clone() }
    }

    /// Resolves once none is open.
    pub async fn all_closed(&self) {
        loop {
            let closed = self.closed.notified();
            if self.open.lock().unwrap_or_else(PoisonError::into_inner).1.is_empty() {
                return;
            }
            closed.await;
        }
    }
}

impl Place {
    pub fn activity(&self) -> Arc<Activity> {
        self.activity.clone()
    }

    /// Resolves when this connection has to make room.
    pub async fn evicted(&self) {
        self.activity.evict.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.1.remove(&self.id);
        self.connections.metrics.connections.set(open.1.len() as i64);
        self.connections.closed.notify_waiters();
    }
}

/// While it lives, the connection isn't idle.
pub struct Busy(Arc<Activity>);

impl Activity {
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.busy.store(true, Ordering::Release);
        Busy(self.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.last_ms.store(self.0.started.elapsed().as_millis() as u64, Ordering::Release);
        self.0.busy.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_idle_makes_room_and_a_busy_one_stays() {
        let connections = Arc::new(Connections::new(2, Arc::new(Metrics::default())));
        let first = connections.open();
        let busy = first.activity().busy();
        let second = connections.open();
        let third = connections.open();
        second.evicted().await;
        drop(busy);
        let none = tokio::time::timeout(std::time::Duration::from_millis(20), first.evicted()).await;
        assert!(none.is_err(), "the busy one stays");
        drop((first, second, third));
        connections.all_closed().await;
    }
}
