//! The open connections. At the limit a new one pushes out one that is idle: first those that never asked for
//! anything, then the one that has been idle longest, so that a flood of idle connections can't keep a trading
//! server out.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
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
    /// Whether it ever was busy.
    asked: AtomicBool,
    /// Nanoseconds since the server's start: many connections come within a millisecond.
    last_ns: AtomicU64,
    /// 0, or a [`Told`].
    told: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// What a connection is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Make room at once.
    Leave = 1,
    /// End after the open request: the server stops.
    Finish = 2,
}

/// Held by the connection's task; gives its place back when dropped.
pub struct Place {
    id: u64,
    activity: Arc<Activity>,
    connections: Arc<Connections>,
    /// The task that `activity` wakes.
    registered: Option<Waker>,
}

impl Connections {
    pub fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        Connections { limit, started: Instant::now(), open: Mutex::default(), closed: Notify::new(), metrics }
    }

    pub fn open(self: &Arc<Self>) -> Place {
        let activity = Arc::new(Activity {
            started: self.started,
            busy: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            last_ns: AtomicU64::new(self.started.elapsed().as_nanos() as u64),
            told: AtomicU8::new(0),
            waker: Mutex::default(),
        });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.1.len() >= self.limit {
            let idle = open.1.iter().filter(|(_, a)| !a.busy.load(Ordering::Acquire));
            // All busy: the new one itself has to go.
            let worth = |a: &Activity| (a.asked.load(Ordering::Acquire), a.last_ns.load(Ordering::Acquire));
            let victim = idle.min_by_key(|(_, a)| worth(a)).map(|(&id, a)| (id, a.clone()));
            match victim {
                Some((id, victim)) => {
                    open.1.remove(&id);
                    victim.tell(Told::Leave);
                }
                None => activity.tell(Told::Leave),
            }
            self.metrics.connections_closed.inc();
        }
        open.0 += 1;
        let id = open.0;
        open.1.insert(id, activity.clone());
        self.metrics.connections.set(open.1.len() as i64);
        Place { id, activity, connections: self.clone(), registered: None }
    }

    /// Each ends after its open request.
    pub fn finish(&self) {
        for activity in self.open.lock().unwrap_or_else(PoisonError::into_inner).1.values() {
            activity.tell(Told::Finish);
        }
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

    /// Cheap: it is asked each time the connection's task runs.
    pub fn poll_told(&mut self, context: &mut Context<'_>) -> Poll<Told> {
        if !self.registered.as_ref().is_some_and(|w| w.will_wake(context.waker())) {
            self.registered = Some(context.waker().clone());
            let mut waker = self.activity.waker.lock().unwrap_or_else(PoisonError::into_inner);
            waker.clone_from(&self.registered);
        }
        match self.activity.told.load(Ordering::Acquire) {
            0 => Poll::Pending,
            n if n == Told::Leave as u8 => Poll::Ready(Told::Leave),
            _ => Poll::Ready(Told::Finish),
        }
    }

    pub async fn told(&mut self) -> Told {
        poll_fn(|context| self.poll_told(context)).await
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
pub struct Busy<'a>(&'a Activity);

impl Activity {
    fn tell(&self, told: Told) {
        self.told.store(told as u8, Ordering::Release);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn busy(&self) -> Busy<'_> {
        self.busy.store(true, Ordering::Release);
        self.asked.store(true, Ordering::Release);
        Busy(self)
    }
}

impl Busy<'_> {
    /// Idle since then.
    pub fn until(self, now: Instant) {
        let ns = now.saturating_duration_since(self.0.started).as_nanos() as u64;
        self.0.last_ns.store(ns, Ordering::Release);
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_that_never_asked_go_first() {
        let connections = Arc::new(Connections::new(3, Arc::new(Metrics::default())));
        let mut working = connections.open();
        drop(working.activity().busy());
        let (mut silent, mut newer) = (connections.open(), connections.open());
        let (_fourth, _fifth) = (connections.open(), connections.open());
        assert_eq!((silent.told().await, newer.told().await), (Told::Leave, Told::Leave));
        let wait = std::time::Duration::from_millis(20);
        assert!(
            tokio::time::timeout(wait, working.told()).await.is_err(),
            "idle for longest, but it has worked"
        );
    }

    #[tokio::test]
    async fn the_longest_idle_makes_room_and_a_busy_one_stays() {
        let connections = Arc::new(Connections::new(2, Arc::new(Metrics::default())));
        let mut first = connections.open();
        let activity = first.activity();
        let busy = activity.busy();
        let mut second = connections.open();
        let third = connections.open();
        assert_eq!(second.told().await, Told::Leave);
        busy.until(Instant::now());
        let wait = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(wait, first.told()).await.is_err(), "the busy one stays");
        let told = tokio::spawn(async move { (first.told().await, first) });
        tokio::task::yield_now().await;
        connections.finish();
        let (told, first) = told.await.unwrap();
        assert_eq!(told, Told::Finish);
        drop((first, second, third));
        connections.all_closed().await;
    }
}
