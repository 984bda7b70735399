//! An LSTM's weights in our layout and in ONNX's.
//!
//! Ours: gates i, f, g, o; `W [F, 4H]`, `U [H, 4H]`, `b [4H]`. ONNX's: gates i, o, f, c (its c is our g);
//! `W [1, 4H, F]`, `R [1, 4H, H]`, `B [1, 8H]`, which holds an input bias and a recurrent bias that are added.

/// Which of our gates stands at each of ONNX's places.
pub const OURS_BY_ONNX: [usize; 4] = [0, 3, 1, 2];
/// Which of ONNX's gates stands at each of our places.
pub const ONNX_BY_OURS: [usize; 4] = [0, 2, 3, 1];

/// `[rows, 4H]` of ours to `[4H, rows]` of ONNX.
pub fn matrix_to_onnx(data: &[f32], rows: usize) -> Vec<f32> {
    let columns = data.len() / rows;
    let hidden = columns / 4;
    let mut out = Vec::with_capacity(data.len());
    for gate in OURS_BY_ONNX {
        for unit in 0..hidden {
            out.extend((0..rows).map(|row| data[row * columns + gate * hidden + unit]));
        }
    }
    out
}

/// `[4H, rows]` of ONNX to `[rows, 4H]` of ours.
pub fn matrix_from_onnx(data: &[f32], rows: usize) -> Vec<f32> {
    let hidden = data.len() / rows / 4;
    let mut out = Vec::with_capacity(data.len());
    for row in 0..rows {
        for gate in ONNX_BY_OURS {
            out.extend((0..hidden).map(|unit| data[(gate * hidden + unit) * rows + row]));
        }
    }
    out
}

/// `[4H]` of ours to `[8H]` of ONNX: the input bias, and zeros for the recurrent one.
pub fn bias_to_onnx(data: &[f32]) -> Vec<f32> {
    let hidden = data.len() / 4;
    let mut out: Vec<f32> =
        OURS_BY_ONNX.iter().flat_map(|g| &data[g * hidden..(g + 1) * hidden]).copied().collect();
    out.resize(8 * hidden, 0.0);
    out
}

/// `[8H]` of ONNX to `[4H]` of ours: the two biases' sum.
pub fn bias_from_onnx(data: &[f32]) -> Vec<f32> {
    let hidden = data.len() / 8;
    let (input, recurrent) = data.split_at(4 * hidden);
    let units = ONNX_BY_OURS.iter().flat_map(|g| g * hidden..(g + 1) * hidden);
    units.map(|i| input[i] + recurrent[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_move_to_their_places() {
        // One row, two units a gate; the tens digit names our gate.
        let ours = [10.0, 11.0, 20.0, 21.0, 30.0, 31.0, 40.0, 41.0];
        let onnx = [10.0, 11.0, 40.0, 41.0, 20.0, 21.0, 30.0, 31.0];
        assert_eq!(matrix_to_onnx(&ours, 1), onnx);
        assert_eq!(bias_to_onnx(&ours)[..8], onnx);
        assert_eq!(bias_to_onnx(&ours)[8..], [0.0; 8]);
    }

    #[test]
    fn rows_become_columns() {
        // H = 1, two rows of i, f, g, o.
        let ours = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        assert_eq!(matrix_to_onnx(&ours, 2), [1.0, 5.0, 4.0, 8.0, 2.0, 6.0, 3.0, 7.0]);
    }

    #[test]
    fn there_and_back_is_the_same() {
        let matrix: Vec<f32> = (0..5 * 12).map(|x| x as f32).collect();
        assert_eq!(matrix_from_onnx(&matrix_to_onnx(&matrix, 5), 5), matrix);
        let bias: Vec<f32> = (0..12).map(|x| x as f32).collect();
        assert_eq!(bias_from_onnx(&bias_to_onnx(&bias)), bias);
    }

    #[test]
    fn the_two_biases_are_added() {
        let onnx = [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0];
        assert_eq!(bias_from_onnx(&onnx), [11.0, 33.0, 44.0, 22.0]);
    }
}
