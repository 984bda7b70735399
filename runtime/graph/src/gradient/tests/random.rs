//! Graphs made at random: the rules together, where values are used many times and shapes vary.

use proptest::prelude::*;

use super::*;
use crate::testing::{property_config, random_graph};

proptest! {
    #![proptest_config(property_config(64))]

    #[test]
    fn random_graphs_agree_with_differences(choices in proptest::collection::vec(any::<u16>(), 4..60)) {
        let graph = random_graph(&choices, true);
        let loss = graph.output("loss").unwrap();
        let (wrt, data): (Vec<Value>, Vec<Vec<f64>>) = graph
            .inputs()
            .map(|(_, node, shape)| {
                let values = PLAIN.iter().copied().cycle().skip(node.0 as usize);
                (Value { node, slot: 0 }, values.take(shape.elements(BATCH).unwrap()).collect())
            })
            .unzip();
        compare("random", &graph, loss, &wrt, &vec![true; wrt.len()], &data);
    }
}
