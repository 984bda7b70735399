//! One instance of a feature set: its streams, calls into it, and what their failures are called.

use market::{FeatureError, FeatureErrorKind, StreamId};
use wasmtime::Store;
use wasmtime::component::ResourceAny;

use crate::bindings::features as bindings;
use crate::bindings::features::exports::alphaplus::plugin::feature_set::{Guest as FeatureSet, Spec};
use crate::guest::{Guest, GuestFailureKind, failure};
use crate::host::Component;
use crate::log::clean;
use crate::schema::Schema;
use crate::survey::World;

const MESSAGE_BYTES_MAX: usize = 1 << 10;
/// The low bits of a stream's id are its slot, the high ones a serial number.
pub(super) const SLOT_BITS: u32 = 20;
pub(super) const SLOTS_MAX: usize = 1 << SLOT_BITS;

/// Lost as a whole when one call of it fails.
pub(super) struct Instance {
    pub(super) store: Store<Guest>,
    pub(super) guest: bindings::Features,
    pub(super) streams: Vec<Option<Stream>>,
    pub(super) free: Vec<usize>,
}

#[derive(Clone, Copy)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) handle: ResourceAny,
    /// How many rows it has given.
    pub(super) rows: u64,
}

/// An open stream.
pub(super) struct Found<'a> {
    pub(super) instance: &'a mut Instance,
    pub(super) slot: usize,
    pub(super) handle: ResourceAny,
    pub(super) rows: u64,
}

pub(super) fn find<'a>(
    component: &Component,
    instance: &'a mut Option<Instance>,
    lost: &str,
    stream: StreamId,
) -> Result<Found<'a>, FeatureError> {
    let Some(instance) = instance else { return Err(gone(component, lost)) };
    let slot = stream.0 % SLOTS_MAX;
    match instance.streams.get(slot) {
        Some(&Some(Stream { id, handle, rows })) if id == stream => {
            Ok(Found { instance, slot, handle, rows })
        }
        _ => Err(error(component, FeatureErrorKind::NoStream, "there is no such stream".into())),
    }
}

pub(super) fn gone(component: &Component, lost: &str) -> FeatureError {
    error(component, FeatureErrorKind::Instantiate, format!("its instance is gone ({lost}); rebuild it"))
}

impl Instance {
    pub(super) fn start(
        component: &Component,
        pre: &bindings::FeaturesPre<Guest>,
    ) -> Result<Self, FeatureError> {
        let limits = component.limits();
        let mut store = component.store(limits.features_memory_bytes_max);
        component.arm(&mut store, limits.open_deadline_ms);
        match pre.instantiate(&mut store) {
            Ok(guest) => Ok(Instance { store, guest, streams: Vec::new(), free: Vec::new() }),
            Err(e) => Err(failed(component, &store, &e, "instantiation", limits.open_deadline_ms)),
        }
    }

    pub(super) fn call<T>(
        &mut self,
        component: &Component,
        name: &'static str,
        deadline_ms: u64,
        call: impl FnOnce(&FeatureSet, &mut Store<Guest>) -> wasmtime::Result<Result<T, String>>,
    ) -> Result<T, FeatureError> {
        component.arm(&mut self.store, deadline_ms);
        match call(self.guest.alphaplus_plugin_feature_set(), &mut self.store) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(message)) => {
                let message = format!("{name} refused: {}", clean(&message, MESSAGE_BYTES_MAX));
                Err(error(component, FeatureErrorKind::Refused, message))
            }
            Err(e) => Err(failed(component, &self.store, &e, name, deadline_ms)),
        }
    }

    pub(super) fn schema(&mut self, component: &Component) -> Result<Schema, FeatureError> {
        let deadline_ms = component.limits().open_deadline_ms;
        let text =
            self.call(component, "schema", deadline_ms, |guest, store| guest.call_schema(store).map(Ok))?;
        Schema::parse(&text)
            .map_err(|e| error(component, FeatureErrorKind::Instantiate, format!("its schema is wrong: {e}")))
    }

    /// Opens a stream to ask it.
    pub(super) fn spec(&mut self, component: &Component, options: &str) -> Result<Spec, FeatureError> {
        let deadline_ms = component.limits().open_deadline_ms;
        let handle = self.call(component, "open", deadline_ms, |guest, store| {
            guest.extractor().call_open(store, options)
        })?;
        let spec = self.call(component, "spec", deadline_ms, |guest, store| {
            guest.extractor().call_spec(store, handle).map(Ok)
        })?;
        self.call(component, "drop", deadline_ms, |_, store| handle.resource_drop(store).map(Ok))?;
        Ok(spec)
    }
}

pub(super) fn linked(component: &Component) -> Result<bindings::FeaturesPre<Guest>, FeatureError> {
    if component.world() != World::Features {
        let message = "it is an architecture, not a feature set".to_string();
        return Err(error(component, FeatureErrorKind::Instantiate, message));
    }
    component.features_pre().map_err(|e| {
        let message = format!("it can't be linked: {}", clean(&format!("{e:#}"), MESSAGE_BYTES_MAX));
        error(component, FeatureErrorKind::Instantiate, message)
    })
}

pub(super) fn error(component: &Component, kind: FeatureErrorKind, message: String) -> FeatureError {
    FeatureError { kind, plugin: component.id().to_string(), place: None, message }
}

fn failed(
    component: &Component,
    store: &Store<Guest>,
    e: &wasmtime::Error,
    call: &str,
    deadline_ms: u64,
) -> FeatureError {
    let failure = failure(store.data(), e, call, deadline_ms);
    let kind = match failure.kind {
        GuestFailureKind::Trap => FeatureErrorKind::Trap,
        GuestFailureKind::Timeout => FeatureErrorKind::Timeout,
        GuestFailureKind::Memory => FeatureErrorKind::Memory,
    };
    FeatureError { kind, plugin: component.id().to_string(), place: failure.place, message: failure.message }
}
