//! Gradient rules of the elementwise ops.

use super::{Rule, Walk};
use crate::graph::Value;
use crate::op::{BinaryOp, UnaryOp};

impl Walk {
    /// y = f(x).
    pub(super) fn unary(&mut self, op: UnaryOp, x: Value, y: Value, dy: Value) -> Rule {
        let dx = match op {
            UnaryOp::Neg => self.builder.unary(UnaryOp::Neg, dy)?,
            UnaryOp::Abs => {
                let sign = self.builder.unary(UnaryOp::Sign, x)?;
                self.builder.mul(dy, sign)?
            }
            UnaryOp::Sign => return Ok(()),
            UnaryOp::Square => self.scaled(2.0, x, dy)?,
            UnaryOp::Sqrt => {
                let half = self.scalar(0.5)?;
                let half_dy = self.builder.mul(dy, half)?;
                self.builder.div(half_dy, y)?
            }
            UnaryOp::Reciprocal => {
                let square = self.builder.unary(UnaryOp::Square, y)?;
                self.scaled(-1.0, square, dy)?
            }
            UnaryOp::Exp => self.builder.mul(dy, y)?,
            UnaryOp::Log => self.builder.div(dy, x)?,
            UnaryOp::Tanh => {
                let one = self.scalar(1.0)?;
                let square = self.builder.unary(UnaryOp::Square, y)?;
                let slope = self.builder.sub(one, square)?;
                self.builder.mul(dy, slope)?
            }
            UnaryOp::Sigmoid => {
                let one = self.scalar(1.0)?;
                let rest = self.builder.sub(one, y)?;
                let slope = self.builder.mul(y, rest)?;
                self.builder.mul(dy, slope)?
            }
            UnaryOp::Relu => {
                // Of y, which is above 0 where x is: nothing else then needs x, and its op can write y alone.
                let zero = self.scalar(0.0)?;
                let positive = self.builder.binary(BinaryOp::Less, zero, y)?;
                self.builder.select(positive, dy, zero)?
            }
            UnaryOp::Gelu => {
                let slope = self.gelu_slope(x)?;
                self.builder.mul(dy, slope)?
            }
            UnaryOp::Erf => {
                let bell = self.bell(1.0, x)?;
                self.scaled(std::f32::consts::FRAC_2_SQRT_PI, bell, dy)?
            }
            UnaryOp::Softplus => {
                let slope = self.builder.unary(UnaryOp::Sigmoid, x)?;
                self.builder.mul(dy, slope)?
            }
        };
        self.give(x, dx)
    }

    /// y = f(a, b), broadcast.
    pub(super) fn binary(&mut self, op: BinaryOp, a: Value, b: Value, y: Value, dy: Value) -> Rule {
        match op {
            BinaryOp::Add => {
                self.give_summed(a, dy)?;
                self.give_summed(b, dy)
            }
            BinaryOp::Sub => {
                self.give_summed(a, dy)?;
                let db = self.builder.unary(UnaryOp::Neg, dy)?;
                self.give_summed(b, db)
            }
            BinaryOp::Mul => {
                if self.wants(a) {
                    let da = self.builder.mul(dy, b)?;
                    self.give_summed(a, da)?;
                }
                if self.wants(b) {
                    let db = self.builder.mul(dy, a)?;
                    self.give_summed(b, db)?;
                }
                Ok(())
            }
            BinaryOp::Div => {
                let da = self.builder.div(dy, b)?;
                self.give_summed(a, da)?;
                if self.wants(b) {
                    let product = self.builder.mul(da, y)?;
                    let db = self.builder.unary(UnaryOp::Neg, product)?;
                    self.give_summed(b, db)?;
                }
                Ok(())
            }
            BinaryOp::Max => self.choice([a, b], [a, b], dy),
            BinaryOp::Min => self.choice([a, b], [b, a], dy),
            BinaryOp::Less => Ok(()),
        }
    }

    /// c, a, b: `dy` goes where the value came from.
    pub(super) fn select(&mut self, inputs: &[Value], dy: Value) -> Rule {
        let zero = self.scalar(0.0)?;
        let da = self.builder.select(inputs[0], dy, zero)?;
        self.give_summed(inputs[1], da)?;
        let db = self.builder.select(inputs[0], zero, dy)?;
        self.give_summed(inputs[2], db)
    }

    /// `dy` goes to the second operand where `less[0] < less[1]`, else to the first.
    fn choice(&mut self, operands: [Value; 2], less: [Value; 2], dy: Value) -> Rule {
        let zero = self.scalar(0.0)?;
        let second = self.builder.binary(BinaryOp::Less, less[0], less[1])?;
        let da = self.builder.select(second, zero, dy)?;
        self.give_summed(operands[0], da)?;
        let db = self.builder.select(second, dy, zero)?;
        self.give_summed(operands[1], db)
    }

    /// factor · x · dy.
    fn scaled(&mut self, factor: f32, x: Value, dy: Value) -> Result<Value, super::GradientError> {
        let factor = self.scalar(factor)?;
        let slope = self.builder.mul(x, factor)?;
        Ok(self.builder.mul(dy, slope)?)
    }

    /// exp(−factor · x²).
    fn bell(&mut self, factor: f32, x: Value) -> Result<Value, super::GradientError> {
        let square = self.builder.unary(UnaryOp::Square, x)?;
        let factor = self.scalar(-factor)?;
        let exponent = self.builder.mul(square, factor)?;
        Ok(self.builder.unary(UnaryOp::Exp, exponent)?)
    }

    /// Φ(x) + x · φ(x), with Φ(x) = (1 + erf(x/√2)) / 2 and φ(x) = exp(−x²/2) / √(2π).
    fn gelu_slope(&mut self, x: Value) -> Result<Value, super::GradientError> {
        let root = self.scalar(std::f32::consts::FRAC_1_SQRT_2)?;
        let (half, one) = (self.scalar(0.5)?, self.scalar(1.0)?);
        let argument = self.builder.mul(x, root)?;
        let erf = self.builder.unary(UnaryOp::Erf, argument)?;
        let sum = self.builder.add(erf, one)?;
        let cumulative = self.builder.mul(sum, half)?;
        let bell = self.bell(0.5, x)?;
        let density =
            self.scalar(0.5 * std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2)?;
        let scaled = self.builder.mul(bell, density)?;
        let rest = self.builder.mul(x, scaled)?;
        Ok(self.builder.add(cumulative, rest)?)
    }
}
