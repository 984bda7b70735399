use graph::{Executor, GraphCodec, Initial, Tensor};

use super::*;

fn port(name: &str, element: &str, dims: &[Option<u64>]) -> Port {
    Port { name: name.into(), element: Some(element.into()), dims: Some(dims.to_vec()) }
}

fn about(inputs: Vec<Port>, outputs: Vec<Port>) -> About {
    About { producer: "a test".into(), opset: 17, inputs, outputs, operators: Vec::new() }
}

#[test]
fn a_binding_says_what_does_not_fit() {
    let y = || vec![port("y", "float32", &[None, Some(1)])];
    let x = |dims: &[Option<u64>]| vec![port("x", "float32", dims)];
    let find = |a: About, output| Binding::find(&a, output, 4, 3);
    let sequence = find(about(x(&[None, Some(4), Some(3)]), y()), None).unwrap();
    assert_eq!((sequence.layout, sequence.dims()), (Layout::Sequence, vec![4, 3]));
    let flat = find(about(x(&[Some(1), None]), y()), None).unwrap();
    assert_eq!((flat.layout, flat.dims()), (Layout::Flat, vec![12]));
    let refused = [
        (about(vec![], y()), None, "0 inputs"),
        (about([x(&[None, None]), x(&[None])].concat(), y()), None, "2 inputs"),
        (about(vec![port("x", "int64", &[None, None])], y()), None, "int64"),
        (about(x(&[None, Some(5), Some(3)]), y()), None, "[batch, 4, 3]"),
        (about(x(&[None, Some(13)]), y()), None, "[batch, 12]"),
        (about(x(&[None, None, None, None]), y()), None, "[batch, 4, 3]"),
        (about(vec![Port { dims: None, ..x(&[])[0].clone() }], y()), None, "isn't stated"),
        (about(x(&[None, None]), y()), Some("z"), "--output"),
        (about(x(&[None, None]), [y(), y()].concat()), None, "--output"),
        (about(x(&[None, None]), vec![port("y", "int64", &[None])]), None, "int64"),
    ];
    for (about, output, expected) in refused {
        let error = find(about, output).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

/// mean over a window's numbers, as a file of either layout.
fn file(dims: &[usize], weights: usize) -> Vec<u8> {
    let mut b = Builder::new();
    let x = b.input("x", Shape::batch(dims)).unwrap();
    let flat = b.reshape(x, Shape::batch(&[dims.iter().product()])).unwrap();
    let given = Tensor::new(vec![weights, 1], (0..weights).map(|i| i as f32 / 8.0).collect()).unwrap();
    let w = b.state("features", Shape::fixed(&[weights, 1]), Initial::Given(given), true).unwrap();
    let y = b.matmul(flat, w, false, false).unwrap();
    b.output("y", y).unwrap();
    onnx::Onnx.encode(&b.finish().unwrap()).unwrap()
}

#[test]
fn both_layouts_become_the_same_graph_of_windows() {
    let cpu = cpu::Cpu::new(cpu::CpuOptions { threads: 1, ..Default::default() }).unwrap();
    let windows = precision::made_up(12);
    let run = |dims: &[usize]| {
        let bytes = file(dims, 12);
        let about = About::read(&bytes).unwrap();
        let graph = Binding::find(&about, None, 4, 3).unwrap().graph(&bytes).unwrap();
        let mut runner = Runner::new(&cpu, &graph, 4, 3).unwrap();
        let mut values = Vec::new();
        runner.run(&windows, &mut values).unwrap();
        // By tract alone, the same numbers to rounding.
        let binding = Binding::find(&about, None, 4, 3).unwrap();
        let trial = try_file(&cpu, &bytes, &binding).unwrap();
        assert_eq!((trial.outputs, trial.batches.last()), (1, Some(&1)));
        let dims = binding.dims();
        let model = Foreign { bytes: &bytes, input: "x", output: 0, dims: &dims };
        let mut tract = Runner::foreign(&cpu, &model).unwrap();
        assert_eq!(&*tract.device, "cpu:tract");
        let mut again = Vec::new();
        tract.run(&windows, &mut again).unwrap();
        assert!(values.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-4), "{values:?} {again:?}");
        values
    };
    assert_eq!(run(&[4, 3]), run(&[12]));
}

#[test]
fn a_plan_of_a_file_checks_what_it_is_given() {
    let cpu = cpu::Cpu::new(cpu::CpuOptions { threads: 1, ..Default::default() }).unwrap();
    let bytes = file(&[12], 12);
    let prepare = |input: &str, output, dims: &[usize]| {
        cpu.prepare_foreign(&Foreign { bytes: &bytes, input, output, dims }, &[1, 8])
    };
    assert!(prepare("other", 0, &[12]).is_err());
    assert!(prepare("x", 1, &[12]).is_err());
    assert!(prepare("x", 0, &[11]).is_err());
    let mut prepared = prepare("x", 0, &[12]).unwrap();
    assert_eq!((prepared.outputs, prepared.batches.as_slice()), (1, &[1, 8][..]));
    let mut run = |batch, len| {
        let input = vec![0.5f32; len];
        prepared.plan.run(batch, &[&input], &mut [Vec::new()])
    };
    assert_eq!(run(8, 96), Ok(()));
    assert!(matches!(run(2, 24), Err(graph::RunError::Batch { batch: 2, .. })));
    assert!(matches!(run(1, 11), Err(graph::RunError::Argument(_))));
    assert!(prepared.plan.load(&[("w".into(), Tensor::scalar(1.0))]).is_err());
}
