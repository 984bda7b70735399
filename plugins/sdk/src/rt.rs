//! What the generated bindings need at run time: memory for the canonical ABI and exported resources.
//!
//! The names and contracts are those of `wit_bindgen::rt` 0.61 (Apache-2.0 or MIT), which this stands in for,
//! so that the SDK has no dependency and a plugin builds without a network.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc as reallocate};
use std::ptr::{self, NonNull};

/// Allocates and grows what the host writes arguments into. Exported as `cabi_realloc` by the `export_*`
/// macros.
///
/// # Safety
/// As the canonical ABI says: `old_ptr` came from here with `old_len` and `align`, or `old_len` is 0; `align`
/// is a power of two.
pub unsafe fn cabi_realloc(old_ptr: *mut u8, old_len: usize, align: usize, new_len: usize) -> *mut u8 {
    if new_len == 0 {
        return ptr::without_provenance_mut(align);
    }
    // SAFETY: the caller's contract, and the new length is not 0.
    let (fresh, layout) = unsafe {
        if old_len == 0 {
            let layout = Layout::from_size_align_unchecked(new_len, align);
            (alloc(layout), layout)
        } else {
            let layout = Layout::from_size_align_unchecked(old_len, align);
            (reallocate(old_ptr, layout, new_len), layout)
        }
    };
    if fresh.is_null() {
        handle_alloc_error(layout);
    }
    fresh
}

/// Referenced by the bindings; the export macros define the function itself.
pub fn maybe_link_cabi_realloc() {}

/// Runs static constructors before the first export, and never again.
#[cfg(target_arch = "wasm32")]
pub fn run_ctors_once() {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    static RAN: AtomicBool = AtomicBool::new(false);
    if !RAN.swap(true, Relaxed) {
        unsafe extern "C" {
            fn __wasm_call_ctors();
        }
        // SAFETY: the linker makes this function; calling it by hand stops it from wrapping every export in a
        // call.
        unsafe { __wasm_call_ctors() }
    }
}

/// A block handed to the host; freed on drop unless forgotten.
pub struct Cleanup {
    start: NonNull<u8>,
    layout: Layout,
}

impl Cleanup {
    /// A block of `layout`; null and `None` where its size is 0.
    pub fn new(layout: Layout) -> (*mut u8, Option<Cleanup>) {
        if layout.size() == 0 {
            return (ptr::null_mut(), None);
        }
        // SAFETY: the size is not 0.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        (start.as_ptr(), Some(Cleanup { start, layout }))
    }

    /// Leaves the block to its receiver.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// A type that a component exports as a resource.
pub trait Resource: Sized + 'static {
    type Rep: ResourceRep<Self>;
}

impl<T: 'static> Resource for T {
    type Rep = Option<T>;
}

/// How an exported resource lies in memory.
///
/// # Safety
/// The pointers given are to values made by [`rep_new`](ResourceRep::rep_new) that
/// [`rep_take`](ResourceRep::rep_take) hasn't emptied.
#[allow(clippy::missing_safety_doc)]
pub unsafe trait ResourceRep<T> {
    fn rep_new(inner: T) -> Self;
    unsafe fn rep_as_ref<'a>(rep: *const Self) -> &'a T;
    unsafe fn rep_as_mut<'a>(rep: *mut Self) -> &'a mut T;
    unsafe fn rep_take(rep: *mut Self) -> T;
}

// SAFETY: every pointer is used as what it is, an `Option<T>`.
unsafe impl<T> ResourceRep<T> for Option<T> {
    fn rep_new(inner: T) -> Option<T> {
        Some(inner)
    }
    unsafe fn rep_as_ref<'a>(rep: *const Option<T>) -> &'a T {
        // SAFETY: the trait's contract.
        unsafe { (*rep).as_ref() }.expect("a resource that was not taken")
    }
    unsafe fn rep_as_mut<'a>(rep: *mut Option<T>) -> &'a mut T {
        // SAFETY: the trait's contract.
        unsafe { (*rep).as_mut() }.expect("a resource that was not taken")
    }
    unsafe fn rep_take(rep: *mut Option<T>) -> T {
        // SAFETY: the trait's contract.
        unsafe { (*rep).take() }.expect("a resource that was not taken")
    }
}

/// The part of the `bitflags` crate that the bindings use.
macro_rules! bitflags {
    ($(#[$meta:meta])* pub struct $name:ident : $repr:ty { $(const $flag:ident = $value:expr;)* }) => {
        $(#[$meta])*
        pub struct $name($repr);

        impl $name {
            $(pub const $flag: Self = Self($value);)*

            pub const fn empty() -> Self {
                Self(0)
            }
            pub const fn bits(&self) -> $repr {
                self.0
            }
            pub const fn contains(&self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
        }

        impl core::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }
    };
}
pub(crate) use bitflags;
