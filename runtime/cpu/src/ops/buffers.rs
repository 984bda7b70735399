//! Output tensors that are used again once nobody holds them, from node to node and from run to run.

use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::*;

/// Every output that was handed out; one whose only holder is this list is free.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Arc<Tensor>>>);

impl Buffers {
    /// A tensor that nobody else holds. Its contents are unspecified.
    pub(crate) fn take(&self, shape: &[usize]) -> TractResult<Arc<Tensor>> {
        let len: usize = shape.iter().product();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = held.iter_mut().position(|t| t.len() == len && Arc::get_mut(t).is_some());
        let Some(free) = free else {
            return Ok(Arc::new(Tensor::zero::<f32>(shape)?));
        };
        let mut tensor = held.swap_remove(free);
        drop(held);
        if let Some(tensor) = Arc::get_mut(&mut tensor)
            && tensor.shape() != shape
        {
            tensor.set_shape(shape)?;
        }
        Ok(tensor)
    }

    /// Remembers a tensor that is now handed out.
    pub(crate) fn keep(&self, tensor: &Arc<Tensor>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(tensor.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_is_reused_only_when_nobody_holds_it() {
        let buffers = Buffers::default();
        let first = buffers.take(&[2, 3]).unwrap();
        let address = Arc::as_ptr(&first);
        buffers.keep(&first);
        let second = buffers.take(&[6]).unwrap();
        assert_ne!(Arc::as_ptr(&second), address, "still held");
        drop(first);
        assert!(buffers.take(&[7]).unwrap().len() == 7, "another length");
        let third = buffers.take(&[6]).unwrap();
        assert_eq!(Arc::as_ptr(&third), address);
        assert_eq!(third.shape(), &[6]);
    }
}
