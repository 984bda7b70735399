//! Feature plugins as `market::Features`: one instance, many streams in it.

mod instance;
mod spec;

use std::fmt;

use market::{Bar, Book, FeatureError, FeatureErrorKind, FeatureSpec, Features, Side, StreamId, Text, Trade};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use wasmtime::Store;
use wasmtime::component::ResourceAny;

use self::instance::{Found, Instance, SLOT_BITS, SLOTS_MAX, Stream, error, find, gone, linked};
use self::spec::checked_spec;
use crate::bindings::features as bindings;
use crate::bindings::features::alphaplus::plugin::types as wit;
use crate::bindings::features::exports::alphaplus::plugin::feature_set::Guest as FeatureSet;
use crate::guest::Guest;
use crate::host::{Component, FUEL};
use crate::limits::PluginLimits;
use crate::rows::{self, Shape};
use crate::schema::Schema;
use crate::state::{self, Owner};

/// A feature set with its options.
pub struct FeaturePlugin {
    component: Component,
    pre: bindings::FeaturesPre<Guest>,
    schema: Schema,
    options: String,
    owner: Owner,
    spec: FeatureSpec,
    /// `None` from a failure that lost it until `rebuild`.
    instance: Option<Instance>,
    /// Why it was lost.
    lost: String,
    serial: usize,
    batch: Vec<wit::Bar>,
}

impl FeaturePlugin {
    /// Instantiates the component, checks `options` against its schema, fills in the defaults and reads its spec.
    pub fn new(component: &Component, options: &Map<String, Value>) -> Result<Self, FeatureError> {
        let error = |kind, message: String| error(component, kind, message);
        let pre = linked(component)?;
        let mut instance = Instance::start(component, &pre)?;
        let schema = instance.schema(component)?;
        let options = schema.fill(options).map_err(|e| error(FeatureErrorKind::Refused, e.to_string()))?;
        let options = Value::Object(options).to_string();
        let spec = instance.spec(component, &options)?;
        let spec = checked_spec(component, spec)
            .map_err(|e| error(FeatureErrorKind::Instantiate, format!("its spec is wrong: {e}")))?;
        let owner = Owner {
            component: digest_bytes(component.digest()),
            options: Sha256::digest(options.as_bytes()).into(),
        };
        Ok(FeaturePlugin {
            component: component.clone(),
            pre,
            schema,
            options,
            owner,
            spec,
            instance: Some(instance),
            lost: String::new(),
            serial: 0,
            batch: Vec::new(),
        })
    }

    /// What options the component takes.
    pub fn schema_of(component: &Component) -> Result<Schema, FeatureError> {
        Instance::start(component, &linked(component)?)?.schema(component)
    }

    pub fn component(&self) -> &Component {
        &self.component
    }

    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// All options with their values, as a JSON object.
    pub fn options(&self) -> &str {
        &self.options
    }

    /// A bar of another symbol; `peer` is below the spec's `peers`.
    pub fn on_peer_bar(&mut self, stream: StreamId, peer: usize, bar: &Bar) -> Result<(), FeatureError> {
        if peer >= self.spec.peers {
            let message = format!("there is no peer {peer}; it wants {}", self.spec.peers);
            return Err(error(&self.component, FeatureErrorKind::Refused, message));
        }
        let bar = wit_bar(bar);
        let deadline_ms = self.limits().event_deadline_ms;
        self.call(stream, "on-peer-bar", deadline_ms, |guest, store, handle| {
            guest.extractor().call_on_peer_bar(store, handle, peer as u32, bar)
        })
    }

    /// The most linear memory that the instance has had.
    pub fn memory_bytes_peak(&self) -> usize {
        self.instance.as_ref().map_or(0, |i| i.store.data().meter.memory_bytes_peak)
    }

    /// Instructions of the last call, on a metered host.
    pub(crate) fn fuel_used(&self) -> u64 {
        self.instance.as_ref().and_then(|i| i.store.get_fuel().ok()).map_or(0, |left| FUEL - left)
    }

    fn limits(&self) -> &PluginLimits {
        self.component.limits()
    }

    fn find(&mut self, stream: StreamId) -> Result<Found<'_>, FeatureError> {
        find(&self.component, &mut self.instance, &self.lost, stream)
    }

    /// One call on a stream. When the guest fails in it, the instance is dropped.
    fn call<T>(
        &mut self,
        stream: StreamId,
        name: &'static str,
        deadline_ms: u64,
        call: impl FnOnce(&FeatureSet, &mut Store<Guest>, ResourceAny) -> wasmtime::Result<Result<T, String>>,
    ) -> Result<T, FeatureError> {
        let Found { instance, handle, .. } = find(&self.component, &mut self.instance, &self.lost, stream)?;
        let result =
            instance.call(&self.component, name, deadline_ms, |guest, store| call(guest, store, handle));
        self.lose_after(result)
    }

    fn lose_after<T>(&mut self, result: Result<T, FeatureError>) -> Result<T, FeatureError> {
        if let Err(e) = &result
            && e.kind.lost_streams()
        {
            self.instance = None;
            self.lost = e.message.clone();
        }
        result
    }

    fn add(&mut self, handle: ResourceAny, rows: u64) -> StreamId {
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial << SLOT_BITS;
        let Some(instance) = &mut self.instance else { return StreamId(serial) };
        let slot = instance.free.pop().unwrap_or_else(|| {
            instance.streams.push(None);
            instance.streams.len() - 1
        });
        let id = StreamId(serial | slot);
        instance.streams[slot] = Some(Stream { id, handle, rows });
        id
    }

    /// Opens by `call`, within the limit on streams.
    fn start(
        &mut self,
        name: &'static str,
        rows: u64,
        call: impl FnOnce(&FeatureSet, &mut Store<Guest>, &str) -> wasmtime::Result<Result<ResourceAny, String>>,
    ) -> Result<StreamId, FeatureError> {
        let limits = self.component.limits();
        let (deadline_ms, streams_max) = (limits.open_deadline_ms, limits.streams_max.min(SLOTS_MAX));
        let Some(instance) = &mut self.instance else { return Err(gone(&self.component, &self.lost)) };
        if instance.streams.len() - instance.free.len() >= streams_max {
            let message = format!("{streams_max} streams are open; no more go (streams_max)");
            return Err(error(&self.component, FeatureErrorKind::Refused, message));
        }
        let options = &self.options;
        let result =
            instance.call(&self.component, name, deadline_ms, |guest, store| call(guest, store, options));
        let handle = self.lose_after(result)?;
        Ok(self.add(handle, rows))
    }

    /// Counts the rows of a call and checks them.
    fn accept(&mut self, stream: StreamId, bars: usize, values: &mut [f32]) -> Result<(), FeatureError> {
        let shape = Shape { columns: self.spec.names.len(), warmup: self.spec.warmup };
        let Found { instance, slot, rows: before, .. } = self.find(stream)?;
        if let Some(found) = &mut instance.streams[slot] {
            found.rows += bars as u64;
        }
        rows::check(&shape, &self.spec.names, before, bars, values)
            .map_err(|e| error(&self.component, e.kind(), e.to_string()))
    }

    fn on_batch(&mut self, stream: StreamId, bars: &[Bar], rows: &mut Vec<f32>) -> Result<(), FeatureError> {
        let deadline_ms = self.limits().batch_deadline_ms;
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        batch.extend(bars.iter().map(wit_bar));
        let result = self.call(stream, "on-bars", deadline_ms, |guest, store, handle| {
            guest.extractor().call_on_bars(store, handle, &batch)
        });
        self.batch = batch;
        let mut values = result?;
        self.accept(stream, bars.len(), &mut values)?;
        rows.extend_from_slice(&values);
        Ok(())
    }
}

impl Features for FeaturePlugin {
    fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    fn open(&mut self) -> Result<StreamId, FeatureError> {
        self.start("open", 0, |guest, store, options| guest.extractor().call_open(store, options))
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<StreamId, FeatureError> {
        let (rows, state) = state::open(&self.owner, bytes)
            .map_err(|e| error(&self.component, FeatureErrorKind::Refused, e.to_string()))?;
        self.start("restore", rows, |guest, store, options| {
            guest.extractor().call_restore(store, options, state)
        })
    }

    fn snapshot(&mut self, stream: StreamId) -> Result<Vec<u8>, FeatureError> {
        let (deadline_ms, limit) = (self.limits().open_deadline_ms, self.limits().state_bytes_max);
        let state = self.call(stream, "snapshot", deadline_ms, |guest, store, handle| {
            guest.extractor().call_snapshot(store, handle).map(Ok)
        })?;
        if state.len() > limit {
            let message =
                format!("its snapshot has {} bytes; at most {limit} go (state_bytes_max)", state.len());
            return Err(error(&self.component, FeatureErrorKind::Refused, message));
        }
        let rows = self.find(stream)?.rows;
        Ok(state::seal(&self.owner, rows, &state))
    }

    /// A guest that fails in its destructor loses its instance, as the next call then says.
    fn close(&mut self, stream: StreamId) {
        let found = find(&self.component, &mut self.instance, &self.lost, stream);
        let Ok(Found { instance, slot, handle, .. }) = found else { return };
        instance.streams[slot] = None;
        instance.free.push(slot);
        let deadline_ms = self.component.limits().open_deadline_ms;
        let result = instance
            .call(&self.component, "drop", deadline_ms, |_, store| handle.resource_drop(store).map(Ok));
        let _ = self.lose_after(result);
    }

    fn on_bar(&mut self, stream: StreamId, bar: &Bar, row: &mut Vec<f32>) -> Result<(), FeatureError> {
        let bar = wit_bar(bar);
        let deadline_ms = self.limits().event_deadline_ms;
        let mut values = self.call(stream, "on-bar", deadline_ms, |guest, store, handle| {
            guest.extractor().call_on_bar(store, handle, bar)
        })?;
        self.accept(stream, 1, &mut values)?;
        *row = values;
        Ok(())
    }

    fn on_bars(&mut self, stream: StreamId, bars: &[Bar], rows: &mut Vec<f32>) -> Result<(), FeatureError> {
        let length = rows.len();
        let bars_max = batch_bars(self.limits(), self.spec.names.len());
        for batch in bars.chunks(bars_max) {
            if let Err(e) = self.on_batch(stream, batch, rows) {
                rows.truncate(length);
                return Err(e);
            }
        }
        Ok(())
    }

    fn on_trade(&mut self, stream: StreamId, trade: &Trade) -> Result<(), FeatureError> {
        let side = match trade.side {
            Side::Buy => wit::Side::Buy,
            Side::Sell => wit::Side::Sell,
            Side::Unknown => wit::Side::Unknown,
        };
        let trade = wit::Trade { time_ns: trade.time.0, price: trade.price, size: trade.size, side };
        let deadline_ms = self.limits().event_deadline_ms;
        self.call(stream, "on-trade", deadline_ms, |guest, store, handle| {
            guest.extractor().call_on_trade(store, handle, trade)
        })
    }

    fn on_book(&mut self, stream: StreamId, book: &Book) -> Result<(), FeatureError> {
        let levels = |levels: &[market::Level]| {
            levels.iter().map(|l| wit::Level { price: l.price, size: l.size }).collect()
        };
        let book = wit::Book { time_ns: book.time.0, bids: levels(&book.bids), asks: levels(&book.asks) };
        let deadline_ms = self.limits().event_deadline_ms;
        self.call(stream, "on-book", deadline_ms, |guest, store, handle| {
            guest.extractor().call_on_book(store, handle, &book)
        })
    }

    fn on_text(&mut self, stream: StreamId, text: &Text) -> Result<(), FeatureError> {
        let text = wit::Text {
            received_ns: text.received_at.0,
            source: text.source.clone(),
            text: text.text.clone(),
        };
        let deadline_ms = self.limits().event_deadline_ms;
        self.call(stream, "on-text", deadline_ms, |guest, store, handle| {
            guest.extractor().call_on_text(store, handle, &text)
        })
    }

    fn rebuild(&mut self) -> Result<(), FeatureError> {
        self.instance = None;
        let result = Instance::start(&self.component, &self.pre)
            .and_then(|mut instance| Ok((instance.spec(&self.component, &self.options)?, instance)));
        let (spec, instance) = self.lose_after(result)?;
        if checked_spec(&self.component, spec).as_ref() != Ok(&self.spec) {
            self.lost = "its spec changed".into();
            let message = "its spec is not the one that it gave before".to_string();
            return Err(error(&self.component, FeatureErrorKind::Instantiate, message));
        }
        self.instance = Some(instance);
        Ok(())
    }
}

impl fmt::Debug for FeaturePlugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeaturePlugin").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// So many bars at most in one call: their rows must fit into what one call may hand over.
fn batch_bars(limits: &PluginLimits, columns: usize) -> usize {
    const ROW_BYTES_MAX: usize = 8 << 20;
    limits.batch_bars_max.min(ROW_BYTES_MAX / (4 * columns.max(1))).max(1)
}

fn wit_bar(bar: &Bar) -> wit::Bar {
    wit::Bar {
        open_time_ns: bar.open_time.0,
        open: bar.open,
        high: bar.high,
        low: bar.low,
        close: bar.close,
        volume: bar.volume,
    }
}

fn digest_bytes(hex: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok()).unwrap_or(0);
    }
    bytes
}
