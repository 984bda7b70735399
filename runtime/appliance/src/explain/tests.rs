use market::{StreamKey, Symbol, Timeframe};
use store::Outcome;

use super::*;

fn prediction(symbol: &str, bar: i64) -> PredictionRecord {
    PredictionRecord {
        seq: bar as u64,
        key: StreamKey { symbol: Symbol::new(symbol).unwrap(), timeframe: Timeframe::parse("1h").unwrap() },
        model: ModelName { name: "m".into(), version: "1".into() },
        model_digest: [0; 32],
        open_time: Timestamp::from_seconds(3600 * bar),
        revision: 0,
        made_at: Timestamp(0),
        outcome: Outcome::Values(vec![0.0]),
        recovered: false,
        revised: false,
        shadow: false,
        device: "cpu".into(),
        uncertainty: None,
    }
}

fn explaining(every: u64, tasks: usize) -> (Explaining, Receiver<Message>, Sender<ExplanationRecord>) {
    let (sender, receiver) = sync_channel(tasks);
    let (finished, done) = channel();
    let ours = Explaining {
        every,
        sender,
        numbers: Arc::new(AtomicUsize::new(0)),
        done,
        metrics: Arc::new(Metrics::default()),
    };
    (ours, receiver, finished)
}

fn dropped(explaining: &Explaining) -> u64 {
    explaining.metrics.explanations.get_or_create(&metrics::Outcome { outcome: "dropped" }).get()
}

/// Each n-th bar of each stream, also before 1970, and not all streams at one bar.
#[test]
fn every_nth_bar_of_a_stream_is_wanted() {
    let (explaining, ..) = explaining(5, 1);
    for symbol in ["A", "B", "BTCUSDT"] {
        let wanted: Vec<i64> = (-10..10).filter(|&bar| explaining.wants(&prediction(symbol, bar))).collect();
        assert_eq!(wanted.len(), 4, "{symbol}: {wanted:?}");
        assert!(wanted.windows(2).all(|w| w[1] - w[0] == 5), "{symbol}: {wanted:?}");
    }
    let at_once = ["A", "B", "C", "D", "E"].iter().filter(|s| explaining.wants(&prediction(s, 0))).count();
    assert_eq!(at_once, 1);
}

/// What doesn't fit is dropped at once and counted, and room comes back.
#[test]
fn the_queue_is_bounded_in_windows_and_in_numbers() {
    let (ours, receiver, _done) = explaining(1, 2);
    for _ in 0..3 {
        ours.offer(&prediction("A", 1), &[0.0; 4]);
    }
    assert_eq!(dropped(&ours), 1);
    assert_eq!(ours.numbers.load(Ordering::Acquire), 8);
    assert_eq!(receiver.try_iter().count(), 2);

    let (ours, receiver, _done) = explaining(1, 1000);
    let window = vec![0.0; ATTRIBUTIONS_MAX];
    let room = NUMBERS_MAX / ATTRIBUTIONS_MAX;
    (0..room + 3).for_each(|_| ours.offer(&prediction("A", 1), &window));
    assert_eq!(dropped(&ours), 3);
    ours.offer(&prediction("A", 1), &vec![0.0; ATTRIBUTIONS_MAX + 1]);
    assert_eq!((dropped(&ours), ours.numbers.load(Ordering::Acquire)), (4, NUMBERS_MAX));
    assert_eq!(receiver.try_iter().count(), room);
}
