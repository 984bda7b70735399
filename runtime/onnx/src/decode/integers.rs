//! Integers of the file: constants, and multiples of the batch size that exporters compute from shapes.

use graph::{Dim, Shape};

use crate::tensor::INTEGERS_MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integer {
    Fixed(i64),
    /// So many times the batch size.
    Batch(i64),
}

/// A scalar or a list, at most [`INTEGERS_MAX`] long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integers {
    pub scalar: bool,
    pub values: Vec<Integer>,
}

impl Integers {
    pub fn list(values: Vec<Integer>) -> Result<Self, String> {
        if values.len() > INTEGERS_MAX {
            return Err(format!("a list of integers has more than {INTEGERS_MAX} elements"));
        }
        Ok(Integers { scalar: false, values })
    }

    /// The numbers, if none depends on the batch.
    pub fn fixed(&self) -> Option<Vec<i64>> {
        let fixed = self.values.iter().map(|x| match x {
            Integer::Fixed(n) => Some(*n),
            Integer::Batch(_) => None,
        });
        fixed.collect()
    }

    /// The list as a shape whose dimensions are all given.
    pub fn shape(&self) -> Result<Shape, String> {
        let dims: Result<Vec<Dim>, String> = self.values.iter().map(|x| x.dim()).collect();
        Ok(Shape::new(dims?))
    }

    /// Element by element; a scalar or a list of one goes with every element of the other.
    pub fn combine(
        &self,
        other: &Integers,
        combine: impl Fn(Integer, Integer) -> Option<Integer>,
    ) -> Result<Integers, String> {
        let length = match (self.values.len(), other.values.len()) {
            (a, b) if a == b => a,
            (1, n) | (n, 1) => n,
            (a, b) => return Err(format!("lists of {a} and {b} integers don't go together")),
        };
        let at = |list: &Integers, i: usize| list.values[if list.values.len() == 1 { 0 } else { i }];
        let values = (0..length).map(|i| combine(at(self, i), at(other, i)));
        match values.collect() {
            Some(values) => Ok(Integers { scalar: self.scalar && other.scalar, values }),
            None => Err("this arithmetic on integers gives no whole multiple of the batch".into()),
        }
    }
}

impl Integer {
    pub fn of(dim: Dim) -> Option<Integer> {
        match dim {
            Dim::Fixed(n) => i64::try_from(n).ok().map(Integer::Fixed),
            Dim::Batch(n) => i64::try_from(n).ok().map(Integer::Batch),
        }
    }

    fn dim(self) -> Result<Dim, String> {
        match self {
            Integer::Fixed(n) if n > 0 => Ok(Dim::Fixed(n as usize)),
            Integer::Batch(n) if n > 0 => Ok(Dim::Batch(n as usize)),
            Integer::Fixed(n) | Integer::Batch(n) => Err(format!("{n} is not a size above 0")),
        }
    }

    pub fn add(self, other: Integer) -> Option<Integer> {
        match (self, other) {
            (Integer::Fixed(a), Integer::Fixed(b)) => a.checked_add(b).map(Integer::Fixed),
            (Integer::Batch(a), Integer::Batch(b)) => a.checked_add(b).map(Integer::Batch),
            (x, Integer::Fixed(0)) | (Integer::Fixed(0), x) => Some(x),
            _ => None,
        }
    }

    pub fn sub(self, other: Integer) -> Option<Integer> {
        let negated = match other {
            Integer::Fixed(n) => Integer::Fixed(n.checked_neg()?),
            Integer::Batch(n) => Integer::Batch(n.checked_neg()?),
        };
        self.add(negated)
    }

    pub fn mul(self, other: Integer) -> Option<Integer> {
        match (self, other) {
            (Integer::Fixed(a), Integer::Fixed(b)) => a.checked_mul(b).map(Integer::Fixed),
            (Integer::Batch(a), Integer::Fixed(b)) | (Integer::Fixed(a), Integer::Batch(b)) => {
                a.checked_mul(b).map(Integer::Batch)
            }
            (Integer::Batch(_), Integer::Batch(_)) => None,
        }
    }

    /// Towards zero for fixed numbers, as ONNX has it; exact where the batch is in it.
    pub fn div(self, other: Integer) -> Option<Integer> {
        let exact = |a: i64, b: i64| (a.checked_rem(b)? == 0).then(|| a / b);
        match (self, other) {
            (Integer::Fixed(a), Integer::Fixed(b)) => a.checked_div(b).map(Integer::Fixed),
            (Integer::Batch(a), Integer::Fixed(b)) => exact(a, b).map(Integer::Batch),
            (Integer::Batch(a), Integer::Batch(b)) => exact(a, b).map(Integer::Fixed),
            (Integer::Fixed(_), Integer::Batch(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Integer::{Batch, Fixed};
    use super::*;

    #[test]
    fn arithmetic_stays_a_multiple_of_the_batch_or_fails() {
        assert_eq!(Batch(2).mul(Fixed(3)), Some(Batch(6)));
        assert_eq!(Batch(6).div(Fixed(3)), Some(Batch(2)));
        assert_eq!(Batch(6).div(Batch(3)), Some(Fixed(2)));
        assert_eq!(Batch(5).div(Fixed(2)), None);
        assert_eq!(Batch(1).mul(Batch(1)), None);
        assert_eq!(Batch(1).add(Fixed(1)), None);
        assert_eq!(Batch(3).sub(Batch(1)), Some(Batch(2)));
        assert_eq!(Fixed(i64::MIN).div(Fixed(-1)), None);
        assert_eq!(Fixed(1).div(Fixed(0)), None);
        assert_eq!(Fixed(0).sub(Fixed(i64::MIN)), None);
    }

    #[test]
    fn a_list_of_one_goes_with_every_element() {
        let one = Integers { scalar: true, values: vec![Fixed(2)] };
        let two = Integers { scalar: false, values: vec![Batch(1), Fixed(5)] };
        let product = two.combine(&one, Integer::mul).unwrap();
        assert_eq!(product, Integers { scalar: false, values: vec![Batch(2), Fixed(10)] });
        let three = Integers { scalar: false, values: vec![Fixed(1); 3] };
        assert!(two.combine(&three, Integer::mul).is_err());
    }
}
