use super::*;
use crate::shape::Dim;

fn message<T: fmt::Debug>(result: Result<T, BuildError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn an_error_names_op_scope_and_shapes() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[3])).unwrap();
    let w = b.state("w", Shape::fixed(&[4, 2]), Initial::Glorot, true).unwrap();
    b.scope("head");
    assert_eq!(
        message(b.matmul(x, w, false, false)),
        "matmul in head of [B, 3], [4, 2]: [B, 3] times [4, 2]: the inner dimensions 3 and 4 differ"
    );
    b.scope("");
    let stray = Value { node: NodeId(9), slot: 0 };
    assert_eq!(message(b.add(x, stray)), "add: input 9:0 isn't a value of this graph");
    assert_eq!(message(b.output("y", stray)), "output: 9:0 isn't a value of this graph");
}

#[test]
fn a_refused_node_leaves_the_graph_as_it_was() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[3])).unwrap();
    let before = b.graph().clone();
    assert!(b.slice(x, 1, 2, 9).is_err());
    assert!(b.dropout(x, 1.5).is_err());
    assert!(b.state("s", Shape::batch(&[1]), Initial::Zeros, true).is_err());
    assert!(b.state("s", Shape::fixed(&[6]), Initial::LstmBias, true).is_err());
    assert!(b.input("", Shape::scalar()).is_err());
    assert!(b.input("y", Shape::fixed(&[0])).is_err());
    assert!(b.push(Op::Input { name: "z".into() }, &[]).is_err());
    assert!(b.push(Op::Concat { axis: 1 }, &[x; 5000]).is_err());
    assert_eq!(*b.graph(), before);
}

#[test]
fn recurrent_layers_give_the_last_step_or_all() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[5, 3])).unwrap();
    let mut state =
        |name: &str, dims: &[usize]| b.state(name, Shape::fixed(dims), Initial::Glorot, true).unwrap();
    let (w, u, bias) = (state("w", &[3, 12]), state("u", &[4, 12]), state("b", &[12]));
    let all = b.gru(x, w, u, bias, bias, Keep::Sequence).unwrap();
    assert_eq!(b.shape(all), &Shape::batch(&[5, 4]));
    let last = b.gru(x, w, u, bias, bias, Keep::Last).unwrap();
    assert_eq!(b.shape(last), &Shape::batch(&[4]));
    assert!(message(b.lstm(x, w, u, bias, Keep::Last)).contains("U is [4, 12], not [H, 4H]"));
}

#[test]
fn names_are_unique() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[3])).unwrap();
    assert!(message(b.state("x", Shape::scalar(), Initial::Zeros, true)).contains("\"x\" is taken"));
    b.output("y", x).unwrap();
    assert!(message(b.output("y", x)).contains("\"y\" is taken"));
    let mut b = Builder::from_graph(b.finish().unwrap());
    assert!(message(b.input("x", Shape::scalar())).contains("\"x\" is taken"));
}

#[test]
fn updates_are_checked() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::fixed(&[3])).unwrap();
    let s = b.state("s", Shape::fixed(&[3]), Initial::Zeros, true).unwrap();
    let scalar = b.scalar(1.0).unwrap();
    assert!(message(b.update(x, x)).contains("isn't a state"));
    assert!(message(b.update(s, scalar)).contains("another shape"));
    b.update(s, x).unwrap();
    assert!(message(b.update(s, x)).contains("already updated"));
    assert_eq!(b.finish().unwrap().updates.len(), 1);
}

#[test]
fn dropouts_share_a_seed_and_differ_in_salt() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[3])).unwrap();
    let first = b.dropout(x, 0.5).unwrap();
    b.output("y", first).unwrap();
    let mut b = Builder::from_graph(b.finish().unwrap());
    b.dropout(first, 0.5).unwrap();
    let graph = b.finish().unwrap();
    assert_eq!(graph.inputs().filter(|(name, ..)| *name == DROPOUT_SEED).count(), 1);
    let salts: Vec<u32> = graph
        .nodes
        .iter()
        .filter_map(|node| if let Op::Dropout { salt, .. } = node.op { Some(salt) } else { None })
        .collect();
    assert_eq!(salts, [0, 1]);
}

#[test]
fn limits_stop_a_flood_at_the_call() {
    let limits = Limits { nodes_max: 3, batch: 2, elements_max: 10, ..Limits::default() };
    let mut b = Builder::with_limits(limits);
    let x = b.input("x", Shape::batch(&[5])).unwrap();
    assert!(message(b.pad(x, 1, 0, 1)).contains("more than 10 elements at batch 2"));
    b.unary(UnaryOp::Neg, x).unwrap();
    b.unary(UnaryOp::Neg, x).unwrap();
    assert!(message(b.unary(UnaryOp::Neg, x)).contains("more than 3 nodes"));
}

#[test]
fn a_graph_can_be_extended() {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[3])).unwrap();
    let graph = b.finish().unwrap();
    let mut b = Builder::from_graph(graph.clone());
    let y = b.unary(UnaryOp::Exp, x).unwrap();
    b.output("y", y).unwrap();
    assert_eq!(b.shape(y), &Shape::new([Dim::Batch(1), Dim::Fixed(3)]));
    let extended = b.finish().unwrap();
    assert_eq!(extended.nodes[..1], graph.nodes[..]);
    let mut broken = graph;
    broken.nodes[0].inputs.push(x);
    assert!(Builder::from_graph(broken).finish().is_err());
}

#[test]
fn attention_weights_are_what_attention_mixes_with() {
    for (causal, places) in [(false, 5), (true, 4), (false, 4)] {
        let mut b = Builder::new();
        let q = b.input("q", Shape::batch(&[4, 6])).unwrap();
        let k = b.input("k", Shape::batch(&[places, 6])).unwrap();
        let v = b.input("v", Shape::batch(&[places, 6])).unwrap();
        let y = b.attention(q, k, v, 2, causal).unwrap();
        let weights = b.attention_weights(q, k, 2, causal).unwrap();
        assert_eq!(*b.shape(weights), Shape::batch(&[2, 4, places]));
        let by_head = b.reshape(v, Shape::batch(&[places, 2, 3])).unwrap();
        let by_head = b.transpose(by_head, &[0, 2, 1, 3]).unwrap();
        let mixed = b.matmul(weights, by_head, false, false).unwrap();
        let mixed = b.transpose(mixed, &[0, 2, 1, 3]).unwrap();
        let mixed = b.reshape(mixed, Shape::batch(&[4, 6])).unwrap();
        b.output("y", y).unwrap();
        b.output("mixed", mixed).unwrap();
        let graph = b.finish().unwrap();
        let noise =
            |n: usize, salt: usize| (0..n).map(|i| ((i * 7 + salt) % 11) as f64 / 4.0 - 1.2).collect();
        let inputs = [noise(2 * 24, 0), noise(2 * 6 * places, 3), noise(2 * 6 * places, 5)];
        let outputs = crate::reference::run(&graph, 2, &inputs, &mut []).unwrap();
        for (y, mixed) in outputs[0].iter().zip(&outputs[1]) {
            assert!((y - mixed).abs() < 1e-7, "{y} and {mixed}");
        }
    }
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(&[4, 6])).unwrap();
    let stray = Value { node: NodeId(9), slot: 0 };
    assert!(b.attention_weights(x, x, 4, false).unwrap_err().message.contains("4 heads"));
    assert!(b.attention_weights(x, stray, 2, false).unwrap_err().message.contains("isn't a value"));
}
