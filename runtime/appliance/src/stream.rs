//! A stream as the data path has it: its bars, and its state under each model that serves it.

use std::collections::VecDeque;
use std::sync::Arc;

use market::{StreamKey, Timestamp};
use store::RealisedRecord;

use crate::history::History;
use crate::live::Live;
use crate::resolve::{Close, Resolver, Terms};
use crate::slide::Place;

/// A stream and its state under each model that covers it.
pub struct Stream {
    pub history: History,
    /// Of the bars held, in the spool.
    pub positions: VecDeque<u64>,
    /// Whether it waits in [`Pipeline::unprepared`].
    pub unprepared: bool,
    pub served: Vec<Served>,
    /// Of models that serve it no more: predictions of theirs fall due yet, and what is counted goes on should they
    /// come back.
    pub retired: Vec<Resolver>,
    /// Bars that the resolvers haven't seen yet.
    pub unresolved: Vec<Close>,
    /// Counts the bars that changed it.
    pub changes: u64,
}

/// A stream under one model.
pub struct Served {
    /// The deployment's index.
    pub deployment: usize,
    /// The instance that the extractor's state lives in.
    pub epoch: u64,
    pub live: Live,
    pub place: Option<Place>,
    pub resolver: Resolver,
}

impl Stream {
    /// The outcomes of what fell due with the bars that the resolvers haven't seen.
    pub fn resolve(&mut self, key: &StreamKey, written_at: Timestamp, records: &mut Vec<RealisedRecord>) {
        if self.unresolved.is_empty() {
            return;
        }
        let served = self.served.iter_mut().map(|served| &mut served.resolver);
        for resolver in served.chain(self.retired.iter_mut().filter(|resolver| !resolver.is_idle())) {
            self.unresolved.iter().for_each(|&close| resolver.bar(close));
            resolver.resolve(key, Timestamp(i64::MAX), written_at, records);
        }
        self.retired.iter_mut().for_each(Resolver::rest);
        self.unresolved.clear();
    }

    /// The model's resolver, if it served the stream before; else a new one that knows the bars at hand.
    pub fn resolver(&mut self, terms: &Arc<Terms>, keep_bars: usize) -> Resolver {
        let same = |resolver: &Resolver| resolver.is_of(terms);
        match self.retired.iter().position(same) {
            Some(at) => {
                let mut resolver = self.retired.swap_remove(at);
                if resolver.is_idle() {
                    self.history.series.bars().for_each(|bar| resolver.bar(Close::from(bar)));
                }
                resolver
            }
            None => {
                let mut resolver = Resolver::new(terms.clone(), keep_bars);
                self.history.series.bars().for_each(|bar| resolver.bar(Close::from(bar)));
                resolver
            }
        }
    }

    pub fn is_under(&self, deployment: usize) -> bool {
        self.served.iter().any(|served| served.deployment == deployment)
    }

    pub fn note_position(&mut self, position: u64) {
        if self.positions.len() >= self.history.series.len() {
            self.positions.pop_front();
        }
        self.positions.push_back(position);
    }
}
