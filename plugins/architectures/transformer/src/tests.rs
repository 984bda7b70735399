use alphaplus_plugin::testing::{Built, build};

use super::*;

const SIZE: Dimensions = Dimensions { window: 60, features: 32, outputs: 2 };

fn transformer(d_model: u32, heads: u32, layers: u32, dropout: f64) -> Result<Built, String> {
    let hyper = format!(
        r#"{{"d_model": {d_model}, "heads": {heads}, "layers": {layers}, "ff": 48, "dropout": {dropout},
            "causal": false}}"#
    );
    build::<Transformer>(&hyper, SIZE)
}

#[test]
fn blocks_have_attention_and_a_feed_forward_part() {
    let built = transformer(16, 4, 3, 0.1).unwrap();
    assert_eq!((built.count("attention"), built.count("gelu"), built.count("layer-norm")), (3, 3, 7));
    assert_eq!(built.count("dropout"), 6);
    assert_eq!(transformer(16, 4, 3, 0.0).unwrap().count("dropout"), 0);
    let dense = |from: u64, to: u64| from * to + to;
    let block = 4 * dense(16, 16) + dense(16, 48) + dense(48, 16) + 4 * 16;
    assert_eq!(built.parameter_count(), dense(32, 16) + 3 * block + 2 * 16 + dense(16, 2));
    assert!(built.nodes.contains(&("block.2.attention: attention".into(), vec![-1, 60, 16])));
}

#[test]
fn the_last_blocks_weights_are_the_second_output() {
    let built = transformer(16, 4, 3, 0.1).unwrap();
    let expect = [("prediction".to_owned(), vec![-1, 2]), ("attention".to_owned(), vec![-1, 4, 60, 60])];
    assert_eq!(built.outputs, expect);
    assert_eq!(built.count("attention-weights"), 1, "of the last block alone");
}

#[test]
fn heads_must_share_the_columns() {
    assert_eq!(
        transformer(64, 3, 1, 0.0).unwrap_err(),
        "d_model is 64 and heads is 3; d_model must be a multiple of heads, such as 63 or 66"
    );
    assert!(transformer(2, 3, 1, 0.0).unwrap_err().ends_with("such as 3"));
    assert!(transformer(0, 3, 1, 0.0).is_err() && transformer(8, 0, 1, 0.0).is_err());
    assert!(transformer(8, 2, 0, 0.0).unwrap_err().contains("layers"));
    assert!(transformer(8, 2, 1, 1.0).unwrap_err().contains("dropout"));
    assert!(transformer(9, 3, 1, 0.0).is_ok(), "an odd number of columns");
}

#[test]
fn positions_are_the_papers() {
    let found = positions(3, 5);
    assert_eq!(found.len(), 15);
    assert_eq!(&found[..5], [0.0, 1.0, 0.0, 1.0, 0.0]);
    let second = 10_000f64.powf(-2.0 / 5.0);
    let fourth = 10_000f64.powf(-4.0 / 5.0);
    let expect = [2f64.sin(), 2f64.cos(), (2.0 * second).sin(), (2.0 * second).cos(), (2.0 * fourth).sin()];
    assert!(found[10..].iter().zip(expect).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-7), "{found:?}");
}
