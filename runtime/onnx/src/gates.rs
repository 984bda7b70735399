//! The weights of an LSTM and a GRU in our layout and in ONNX's.
//!
//! Ours, with G gates: `W [F, GH]`, `U [H, GH]`, biases `[GH]`. ONNX's: `W [1, GH, F]`, `R [1, GH, H]`, and
//! `B [1, 2GH]`, which holds an input bias and a recurrent bias. The LSTM adds them, so ours has one; the GRU needs
//! both, and ours has them as b and c.
//!
//! | | gates of ours | gates of ONNX |
//! |---|---|---|
//! | LSTM | i, f, g, o | i, o, f, c (its c is our g) |
//! | GRU | r, z, n | z, r, h (its h is our n) |

/// The places of a layer's gates.
#[derive(Debug, PartialEq, Eq)]
pub struct Gates {
    /// Which of our gates stands at each of ONNX's places.
    pub ours_by_onnx: &'static [usize],
    /// Which of ONNX's gates stands at each of our places.
    pub onnx_by_ours: &'static [usize],
}

pub const LSTM: Gates = Gates { ours_by_onnx: &[0, 3, 1, 2], onnx_by_ours: &[0, 2, 3, 1] };
pub const GRU: Gates = Gates { ours_by_onnx: &[1, 0, 2], onnx_by_ours: &[1, 0, 2] };

impl Gates {
    /// How many there are: 4 or 3.
    pub fn count(&self) -> usize {
        self.ours_by_onnx.len()
    }

    /// `[rows, GH]` of ours to `[GH, rows]` of ONNX.
    pub fn matrix_to_onnx(&self, data: &[f32], rows: usize) -> Vec<f32> {
        let columns = data.len() / rows;
        let hidden = columns / self.count();
        let mut out = Vec::with_capacity(data.len());
        for gate in self.ours_by_onnx {
            for unit in 0..hidden {
                out.extend((0..rows).map(|row| data[row * columns + gate * hidden + unit]));
            }
        }
        out
    }

    /// `[GH, rows]` of ONNX to `[rows, GH]` of ours.
    pub fn matrix_from_onnx(&self, data: &[f32], rows: usize) -> Vec<f32> {
        let hidden = data.len() / rows / self.count();
        let mut out = Vec::with_capacity(data.len());
        for row in 0..rows {
            for gate in self.onnx_by_ours {
                out.extend((0..hidden).map(|unit| data[(gate * hidden + unit) * rows + row]));
            }
        }
        out
    }

    /// `[GH]` of ours to `[GH]` of ONNX.
    pub fn vector_to_onnx(&self, data: &[f32]) -> Vec<f32> {
        self.matrix_to_onnx(data, 1)
    }

    /// `[GH]` of ONNX to `[GH]` of ours.
    pub fn vector_from_onnx(&self, data: &[f32]) -> Vec<f32> {
        self.matrix_from_onnx(data, 1)
    }
}

/// An LSTM's `[4H]` of ours to `[8H]` of ONNX: the input bias, and zeros for the recurrent one.
pub fn lstm_bias_to_onnx(data: &[f32]) -> Vec<f32> {
    let mut out = LSTM.vector_to_onnx(data);
    out.resize(2 * data.len(), 0.0);
    out
}

/// An LSTM's `[8H]` of ONNX to `[4H]` of ours: the two biases' sum.
pub fn lstm_bias_from_onnx(data: &[f32]) -> Vec<f32> {
    let (input, recurrent) = data.split_at(data.len() / 2);
    let sums: Vec<f32> = input.iter().zip(recurrent).map(|(a, b)| a + b).collect();
    LSTM.vector_from_onnx(&sums)
}

/// A GRU's `[6H]` of ONNX to `[6H]`: b and then c of ours.
pub fn gru_bias_from_onnx(data: &[f32]) -> Vec<f32> {
    let (input, recurrent) = data.split_at(data.len() / 2);
    [GRU.vector_from_onnx(input), GRU.vector_from_onnx(recurrent)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_move_to_their_places() {
        // One row, two units a gate; the tens digit names our gate.
        let ours = [10.0, 11.0, 20.0, 21.0, 30.0, 31.0, 40.0, 41.0];
        let onnx = [10.0, 11.0, 40.0, 41.0, 20.0, 21.0, 30.0, 31.0];
        assert_eq!(LSTM.matrix_to_onnx(&ours, 1), onnx);
        assert_eq!(lstm_bias_to_onnx(&ours)[..8], onnx);
        assert_eq!(lstm_bias_to_onnx(&ours)[8..], [0.0; 8]);
        assert_eq!(GRU.vector_to_onnx(&ours[..6]), [20.0, 21.0, 10.0, 11.0, 30.0, 31.0]);
    }

    #[test]
    fn rows_become_columns() {
        // H = 1, two rows of i, f, g, o.
        let ours = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        assert_eq!(LSTM.matrix_to_onnx(&ours, 2), [1.0, 5.0, 4.0, 8.0, 2.0, 6.0, 3.0, 7.0]);
        // Two rows of r, z, n.
        assert_eq!(GRU.matrix_to_onnx(&ours[..6], 2), [2.0, 5.0, 1.0, 4.0, 3.0, 6.0]);
    }

    #[test]
    fn there_and_back_is_the_same() {
        let matrix: Vec<f32> = (0..5 * 12).map(|x| x as f32).collect();
        for gates in [LSTM, GRU] {
            assert_eq!(gates.matrix_from_onnx(&gates.matrix_to_onnx(&matrix, 5), 5), matrix);
        }
        let bias: Vec<f32> = (0..12).map(|x| x as f32).collect();
        assert_eq!(lstm_bias_from_onnx(&lstm_bias_to_onnx(&bias)), bias);
    }

    #[test]
    fn an_lstms_two_biases_are_added() {
        let onnx = [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0];
        assert_eq!(lstm_bias_from_onnx(&onnx), [11.0, 33.0, 44.0, 22.0]);
    }

    #[test]
    fn a_grus_two_biases_stay_apart() {
        let onnx = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
        assert_eq!(gru_bias_from_onnx(&onnx), [2.0, 1.0, 3.0, 20.0, 10.0, 30.0]);
    }
}
