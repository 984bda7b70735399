//! Models that come and go while the data path runs: its side of a hot swap, a few streams at a time and each part
//! between two steps.
//!
//! ```text
//! elsewhere: load, check -> install -> for some streams at a time: copy -> elsewhere: warm -> take over -> remove
//! ```
//!
//! A stream has the old model until it has the new one, warm and with an answer for the newest bar; what waits for its
//! outcome under the old one waits on.

use market::{Bar, FeatureError, StreamKey, Timestamp};
use store::{PredictionRecord, Record, SnapshotRecord};

use crate::deployment::{Deployment, HIDDEN, Seat};
use crate::feed;
use crate::live::{Fed, Live, Snapshot};
use crate::pipeline::{Pipeline, read_finite};
use crate::stream::{Served, Stream};
use crate::visible::{Answer, Shows};

/// New bars that a stream may have got since it was copied: they are fed as it goes over.
const CATCH_UP_BARS_MAX: u64 = 16;

/// A stream's bars, from which a model's state is made.
#[derive(Clone, Debug)]
pub struct Copied {
    pub key: StreamKey,
    /// The newest, oldest first.
    pub bars: Vec<Bar>,
    /// Bars seen since the stream's first.
    pub count: u64,
    /// By which it is seen whether another bar has come since.
    changes: u64,
    /// The stream holds too few bars for the model; the spool may have more.
    pub is_short: bool,
}

/// A stream under the new model, with its extractor's state on its way to the instance that will serve.
pub struct Warm {
    key: StreamKey,
    changes: u64,
    live: Live,
    /// The extractor's.
    state: Vec<u8>,
    snapshots: Vec<Snapshot>,
    /// For the newest bar, if the window is full.
    outputs: Option<Vec<f32>>,
    /// Bars before those that the stream holds, with where they stand in the spool.
    older: Vec<(u64, Bar)>,
}

/// The model's state over the stream's bars, made with `twin`, another instance of what will serve.
pub fn warm(
    twin: &mut Deployment,
    copied: Copied,
    older: Vec<(u64, Bar)>,
    keep_bars: usize,
) -> Result<Warm, String> {
    let Copied { key, bars, count, changes, .. } = copied;
    let bars: Vec<Bar> = older.iter().map(|(_, bar)| bar.clone()).chain(bars).collect();
    let mut live = Live::new(twin.empty_window.clone(), twin.warmup(), keep_bars);
    let made = make(twin, &mut live, &bars, count)
        .and_then(|(snapshots, outputs)| Ok((snapshots, outputs, live.hand_over(twin.features.as_mut())?)));
    let (snapshots, outputs, state) = match made {
        Ok(made) => made,
        Err(error) => {
            if error.kind.lost_streams() {
                // The next stream finds a new instance, or fails with this reason.
                twin.rebuild().map_err(|e| e.to_string())?;
            } else {
                live.close(twin.features.as_mut());
            }
            return Err(format!("{key}: {error}"));
        }
    };
    if live.fed() == Fed::Ready {
        let is_finite =
            |outputs: &[f32]| twin.about.terms.reading.values(outputs).iter().all(|v| v.is_finite());
        if !outputs.as_deref().is_some_and(is_finite) {
            return Err(format!("{key}: its output is not a finite number"));
        }
    }
    Ok(Warm { key, changes, live, state, snapshots, outputs, older })
}

impl Pipeline {
    /// A model that is to take over from another, or to serve beside them. It gets the streams that are new from now on.
    pub fn install(&mut self, deployment: Deployment, replaces: Option<usize>) -> usize {
        if let Some(old) = replaces.and_then(|old| self.deployments.get_mut(old)) {
            old.leaving = true;
        }
        self.known.insert(deployment.name().clone(), deployment.about.clone());
        self.deployments.insert(deployment)
    }

    /// The streams that belong there and aren't under the model of this number.
    pub fn lacking(&self, seat: &Seat, index: Option<usize>) -> Vec<StreamKey> {
        let lacks = |s: &Stream| index.is_none_or(|index| !s.is_under(index));
        let of = self.streams.iter().filter(|(key, s)| seat.covers(key) && lacks(s));
        of.map(|(key, _)| key.clone()).collect()
    }

    /// The streams that are under a model.
    pub fn served_by(&self, index: usize) -> Vec<StreamKey> {
        self.streams.iter().filter(|(_, s)| s.is_under(index)).map(|(key, _)| key.clone()).collect()
    }

    /// The newest `needed` bars of each.
    pub fn copy(&self, keys: &[StreamKey], needed: usize) -> Vec<Copied> {
        let of = |key: &StreamKey| {
            let Stream { history, changes, .. } = self.streams.get(key)?;
            let surplus = history.series.len().saturating_sub(needed);
            Some(Copied {
                key: key.clone(),
                bars: history.series.bars().skip(surplus).cloned().collect(),
                count: history.count,
                changes: *changes,
                is_short: needed > history.series.capacity() && history.count > history.series.len() as u64,
            })
        };
        keys.iter().filter_map(of).collect()
    }

    /// Streams go over to the model `new`, from `old` if there is one, and answer under it from now on. Those that have
    /// changed since they were copied, by more than a few new bars, don't, and are given back.
    pub fn take_over(
        &mut self,
        new: usize,
        old: Option<usize>,
        streams: Vec<Warm>,
    ) -> Result<Vec<StreamKey>, String> {
        let (mut ready, mut changed) = (Vec::new(), Vec::new());
        let capacity = self.deployments.get(new).map_or(1, |deployment| self.capacity_for(deployment));
        for warm in streams {
            let Some(stream) = self.streams.get_mut(&warm.key).filter(|s| !s.is_under(new)) else { continue };
            let bars = stream.history.count.saturating_sub(warm.live.count());
            // Anything but new bars, or a stream that was read back meanwhile.
            if stream.changes.checked_sub(warm.changes) != Some(bars) || bars > CATCH_UP_BARS_MAX {
                changed.push(warm.key);
                continue;
            }
            stream.deepen(&warm.older);
            stream.history.grow(capacity);
            let key = warm.key.clone();
            ready.push((key, catch_up(&mut self.deployments[new], stream, warm, bars as usize)));
        }
        self.answer_under(new, old, ready)?;
        Ok(changed)
    }

    /// Streams that change too often for [`take_over`](Pipeline::take_over) go over here and now, at the cost of a bar
    /// that waits for them.
    pub fn take_over_here(
        &mut self,
        new: usize,
        old: Option<usize>,
        keys: &[StreamKey],
    ) -> Result<(), String> {
        let keep_bars = self.options.keep_bars;
        let capacity = self.deployments.get(new).map_or(1, |deployment| self.capacity_for(deployment));
        let mut ready = Vec::new();
        for key in keys {
            let stream = self.streams.get_mut(key).filter(|stream| !stream.is_under(new));
            let (Some(stream), Some(deployment)) = (stream, self.deployments.get_mut(new)) else { continue };
            stream.history.grow(capacity);
            let mut live = Live::new(deployment.empty_window.clone(), deployment.warmup(), keep_bars);
            let count = stream.history.count;
            let made = make(deployment, &mut live, stream.history.series.as_slice(), count);
            ready.push((key.clone(), Ready::of(live, made)));
        }
        self.answer_under(new, old, ready)
    }

    fn answer_under(
        &mut self,
        new: usize,
        old: Option<usize>,
        ready: Vec<(StreamKey, Ready)>,
    ) -> Result<(), String> {
        let (mut records, mut answers, mut moved) = (vec![], vec![], vec![]);
        let first_seq = self.next_seq;
        for (key, ready) in ready {
            let Some(mut stream) = self.streams.remove(&key) else { continue };
            if let Some(old) = old {
                self.release_stream(&mut stream, old);
            }
            self.move_stream(new, &key, &mut stream, ready, &mut records, &mut answers);
            self.streams.insert(key.clone(), stream);
            moved.push(key);
        }
        if !records.is_empty() {
            let newest_seq = self.next_seq - 1;
            match self.spool.append(&records) {
                Ok(ticket) => {
                    let visible = self.visible.clone();
                    ticket.on_durable(move |durable| {
                        if durable.is_ok() {
                            visible.set_durable_seq(newest_seq);
                        }
                    });
                }
                Err(error) => {
                    // As after a step that wasn't written: what the spool holds, under the models that serve now.
                    self.next_seq = first_seq;
                    crate::recover::reload(self, &moved)?;
                    return Err(format!("its predictions were not written: {error}"));
                }
            }
        }
        self.visible.publish(answers);
        moved.iter().for_each(|key| self.later(key));
        Ok(())
    }

    /// The stream under the model; what is to be stored and shown of it.
    fn move_stream(
        &mut self,
        index: usize,
        key: &StreamKey,
        stream: &mut Stream,
        ready: Ready,
        records: &mut Vec<Record>,
        answers: &mut Vec<Shows>,
    ) {
        let Ready { live, snapshots, outputs } = ready;
        let deployment = &self.deployments[index];
        let mut resolver = stream.resolver(&deployment.about.terms, self.options.keep_bars);
        let bar_position = self.spool.next_position().saturating_sub(1);
        records.extend(snapshots.iter().map(|snapshot| {
            Record::Snapshot(SnapshotRecord {
                key: key.clone(),
                model: deployment.name().clone(),
                features_digest: deployment.features_digest,
                bar_position,
                state: snapshot.encode(),
            })
        }));
        // A bar that no model was to predict stays without a prediction.
        let newest = stream.history.newest().filter(|bar| self.visible.is_predicted(key, bar.open_time));
        match (&outputs, newest) {
            (Some(outputs), Some(bar)) => {
                let outcome = read_finite(deployment, Some(outputs));
                let uncertainty = match &outcome {
                    store::Outcome::Values(values) => resolver.uncertainty(values),
                    store::Outcome::Abstained { .. } => None,
                };
                let prediction = PredictionRecord {
                    seq: self.next_seq,
                    key: key.clone(),
                    model: deployment.name().clone(),
                    model_digest: deployment.about.terms.digest,
                    open_time: bar.open_time,
                    revision: bar.revision,
                    made_at: Timestamp::now(),
                    outcome,
                    recovered: true,
                    revised: false,
                    shadow: deployment.seat.rank(key) >= HIDDEN,
                    device: deployment.runner.device.to_string(),
                    uncertainty,
                };
                self.next_seq += 1;
                resolver.prediction(&prediction);
                let (about, seat) = (deployment.about.clone(), Some(deployment.seat.clone()));
                answers.push(self.show(&about, seat, &prediction, bar, resolver.tally()));
                records.push(Record::Prediction(prediction));
            }
            (Some(_), None) => {
                let need = deployment.need();
                answers.push(deployment.says(key, Answer::Warming { have: need, need }));
            }
            (None, _) => {
                if let Fed::Warming { have, need } = live.fed() {
                    answers.push(deployment.says(key, Answer::Warming { have, need }));
                }
            }
        }
        let epoch = deployment.epoch;
        stream.served.push(Served { deployment: index, epoch, live, place: None, resolver });
        // The order of the table.
        stream.served.sort_by_key(|served| self.deployments.get(served.deployment).map(|d| d.seat.row));
    }

    /// Streams leave a model, whose resolvers stay until what waits has its outcome.
    pub fn release(&mut self, index: usize, keys: &[StreamKey]) {
        for key in keys {
            if let Some(mut stream) = self.streams.remove(key) {
                self.release_stream(&mut stream, index);
                self.streams.insert(key.clone(), stream);
            }
        }
    }

    fn release_stream(&mut self, stream: &mut Stream, index: usize) {
        let Some(at) = stream.served.iter().position(|served| served.deployment == index) else { return };
        let Served { mut live, place, epoch, mut resolver, .. } = stream.served.remove(at);
        if let Some(deployment) = self.deployments.get_mut(index) {
            if epoch == deployment.epoch {
                live.close(deployment.features.as_mut());
            }
            if let (Some(slides), Some(place)) = (&mut deployment.runner.slides, place) {
                slides.give_back(place);
            }
        }
        resolver.rest();
        stream.retired.push(resolver);
    }

    /// The model, once no stream is under it; to be dropped by whoever asked.
    pub fn remove(&mut self, index: usize) -> Option<Deployment> {
        self.streams
            .values()
            .all(|s| !s.is_under(index))
            .then(|| self.deployments.try_remove(index))
            .flatten()
    }

    /// Two models change their places in the table: each answers where the other did.
    pub fn exchange(&mut self, one: usize, other: usize) {
        let (Some(a), Some(b)) = (self.deployments.get(one), self.deployments.get(other)) else { return };
        let (first, second) = (a.seat.clone(), b.seat.clone());
        self.deployments[one].seat = second.clone();
        self.deployments[other].seat = first.clone();
        self.visible.exchange(&first, &second);
    }
}

/// A stream under the new model, in the instance that serves it.
struct Ready {
    live: Live,
    snapshots: Vec<Snapshot>,
    outputs: Option<Vec<f32>>,
}

/// Snapshots to be stored, and the outputs for the newest bar if the window is full.
type Made = (Vec<Snapshot>, Option<Vec<f32>>);

impl Ready {
    /// After a failure the next bar opens the stream again from what it holds.
    fn of(mut live: Live, made: Result<Made, FeatureError>) -> Ready {
        let (snapshots, outputs) = made.unwrap_or_else(|error| {
            tracing::warn!(%error, "a stream can't be taken over yet");
            live.lost();
            (Vec::new(), None)
        });
        Ready { live, snapshots, outputs }
    }
}

/// The stream in the instance that serves it, with the bars that have come since it was copied.
fn catch_up(deployment: &mut Deployment, stream: &mut Stream, warm: Warm, bars: usize) -> Ready {
    let Warm { mut live, state, mut snapshots, outputs, .. } = warm;
    let held = stream.history.series.as_slice();
    let missing = &held[held.len() - bars.min(held.len())..];
    let normaliser = deployment.normaliser.clone();
    let apply = |row: &mut [f32]| normaliser.apply(row);
    let features = deployment.features.as_mut();
    let fed = live.take_over(features, &state).and_then(|()| {
        for bar in missing {
            snapshots.extend(live.push(features, &apply, bar)?.1);
        }
        Ok(())
    });
    let outputs = if missing.is_empty() { outputs } else { compute(deployment, &live) };
    Ready::of(live, fed.map(|()| (snapshots, outputs)))
}

/// The model's state over these bars, the newest of a stream that has seen `count`.
fn make(
    deployment: &mut Deployment,
    live: &mut Live,
    bars: &[Bar],
    count: u64,
) -> Result<Made, FeatureError> {
    let normaliser = deployment.normaliser.clone();
    let apply = |row: &mut [f32]| normaliser.apply(row);
    let (_, snapshots) = feed::reopen(live, deployment.features.as_mut(), &apply, bars, count, u64::MAX)?;
    Ok((snapshots, compute(deployment, live)))
}

/// `None`: the window isn't full, or the plan failed.
fn compute(deployment: &mut Deployment, live: &Live) -> Option<Vec<f32>> {
    let mut outputs = Vec::new();
    match deployment.runner.run(live.window()?, &mut outputs) {
        Ok(()) => Some(outputs),
        Err(error) => {
            tracing::error!(model = %deployment.about.model, %error, "the plan failed");
            None
        }
    }
}

impl Stream {
    /// Bars before those that it holds.
    fn deepen(&mut self, older: &[(u64, Bar)]) {
        let front = self.history.series.bars().next().map(|bar| bar.open_time);
        let older = older.iter().filter(|(_, bar)| front.is_none_or(|front| bar.open_time < front));
        let (positions, bars): (Vec<u64>, Vec<Bar>) = older.cloned().unzip();
        positions.iter().rev().for_each(|&position| self.positions.push_front(position));
        self.history.deepen(bars);
    }
}
