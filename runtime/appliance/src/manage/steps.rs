//! Outcomes gathered by the time that they fell due at. A step is closed, and judged, when so many later ones have begun:
//! by then the outcomes of all symbols and most revisions are there. What comes for a closed step is too late.

use std::collections::BTreeMap;

use market::{Symbol, Timestamp};

/// Values that wait, over all steps; beyond it the oldest step is closed early.
const WAITING_MAX: usize = 1 << 20;

/// A bar of one timeframe: the prediction's.
pub type Bar = (Symbol, Timestamp);

#[derive(Clone, Debug)]
pub struct Steps<V> {
    /// By the time that they fall due at.
    waiting: BTreeMap<Timestamp, BTreeMap<Bar, V>>,
    values: usize,
    /// Steps that stay open.
    settle: usize,
    closed_until: Option<Timestamp>,
}

impl<V: Default> Steps<V> {
    /// `settle`: how many of the newest steps stay open. `closed_until`: where an earlier run stopped.
    pub fn new(settle: usize, closed_until: Option<Timestamp>) -> Self {
        Steps { waiting: BTreeMap::new(), values: 0, settle, closed_until }
    }

    /// The place of a bar's value; `None`: its step is closed.
    pub fn at(&mut self, due: Timestamp, bar: Bar) -> Option<&mut V> {
        if self.closed_until.is_some_and(|until| due <= until) {
            return None;
        }
        let step = self.waiting.entry(due).or_default();
        let values = &mut self.values;
        Some(step.entry(bar).or_insert_with(|| {
            *values += 1;
            V::default()
        }))
    }

    /// The oldest step that is to be closed now.
    pub fn close(&mut self) -> Option<(Timestamp, Vec<V>)> {
        let is_due = self.waiting.len() > self.settle || self.values > WAITING_MAX;
        if is_due { self.close_any() } else { None }
    }

    /// The oldest step, settled or not.
    pub fn close_any(&mut self) -> Option<(Timestamp, Vec<V>)> {
        let (due, step) = self.waiting.pop_first()?;
        self.values -= step.len();
        self.closed_until = Some(due);
        Some((due, step.into_values().collect()))
    }

    pub fn closed_until(&self) -> Option<Timestamp> {
        self.closed_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_close_in_order_behind_the_newest() {
        let bar = |name: &str| (Symbol::new(name).unwrap(), Timestamp(0));
        let mut steps: Steps<u32> = Steps::new(2, Some(Timestamp(4)));
        assert!(steps.at(Timestamp(4), bar("A")).is_none(), "of an earlier run");
        *steps.at(Timestamp(6), bar("B")).unwrap() = 2;
        *steps.at(Timestamp(5), bar("A")).unwrap() = 1;
        *steps.at(Timestamp(5), bar("B")).unwrap() = 7;
        assert_eq!(steps.close(), None);
        *steps.at(Timestamp(5), bar("B")).unwrap() = 3;
        *steps.at(Timestamp(7), bar("A")).unwrap() = 4;
        assert_eq!(steps.close(), Some((Timestamp(5), vec![1, 3])));
        assert_eq!((steps.close(), steps.closed_until()), (None, Some(Timestamp(5))));
        assert!(steps.at(Timestamp(5), bar("C")).is_none());
        assert_eq!(steps.close_any(), Some((Timestamp(6), vec![2])));
        assert_eq!(steps.close_any(), Some((Timestamp(7), vec![4])));
        assert_eq!((steps.close_any(), steps.values), (None, 0));
    }
}
