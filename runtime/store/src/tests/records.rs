//! Records to bytes and back, and bytes that are no records.

use super::*;
use crate::error::RecordError;
use crate::explanation::{ATTRIBUTIONS_MAX, ExplanationRecord, Method};
use crate::realised::{RESOLVER_STATE_BYTES_MAX, Realised, RealisedRecord, RealisedValue};
use crate::record::{GapReason, GapRecord, PAYLOAD_BYTES_MAX, STATE_BYTES_MAX, Uncertainty, VALUES_MAX};

fn samples() -> Vec<Record> {
    let Record::Prediction(abstained) = prediction(9) else { unreachable!() };
    let mut long = abstained.clone();
    long.outcome = Outcome::Values(vec![f32::MIN_POSITIVE; VALUES_MAX]);
    long.device = "d".repeat(64);
    let outcome = Outcome::Abstained { code: 503, text: "warming 12/60 · ü".to_owned() };
    let uncertainty = Some(Uncertainty { confidence: 0.75, low: -1.5, high: f32::MAX, level: 0.9 });
    let sure = Record::Prediction(PredictionRecord { uncertainty, ..abstained.clone() });
    let mut forming = bar(4);
    if let Record::Bar(record) = &mut forming {
        record.backfill = true;
        record.bar.is_final = false;
        record.bar.revision = u32::MAX;
    }
    vec![
        bar(3),
        forming,
        prediction(u64::MAX),
        Record::Prediction(PredictionRecord { outcome, recovered: true, revised: true, ..abstained.clone() }),
        Record::Prediction(long),
        sure.clone(),
        shadow(sure),
        shadow(Record::Prediction(abstained)),
        realised(Realised::Gap, vec![]),
        realised(Realised::Lost, vec![3; RESOLVER_STATE_BYTES_MAX]),
        realised(Realised::Value(VALUE), vec![1, 2]),
        realised(
            Realised::Value(RealisedValue { naive: None, covered: None, confidence: None, ..VALUE }),
            vec![],
        ),
        realised(Realised::Value(RealisedValue { covered: Some(false), right: false, ..VALUE }), vec![]),
        explanation(3, vec![0.5, -0.0, f32::MIN_POSITIVE, -1e30, 0.0, 7.0]),
        explanation(512, vec![1e-9; ATTRIBUTIONS_MAX]),
        snapshot(17, vec![]),
        snapshot(17, vec![0xA7; STATE_BYTES_MAX]),
        Record::Gap(GapRecord {
            from_position: 1,
            to_position: 9,
            reason: GapReason::Space,
            at: Timestamp(-1),
        }),
        Record::Gap(GapRecord { from_position: 5, to_position: 5, reason: GapReason::Age, at: Timestamp(0) }),
        Record::Gap(GapRecord {
            from_position: 5,
            to_position: 6,
            reason: GapReason::Damage,
            at: Timestamp(0),
        }),
    ]
}

fn shadow(record: Record) -> Record {
    match record {
        Record::Prediction(p) => Record::Prediction(PredictionRecord { shadow: true, ..p }),
        other => other,
    }
}

const VALUE: RealisedValue = RealisedValue {
    predicted: 0.25,
    realised: -0.0,
    naive: Some(1e-300),
    covered: Some(true),
    right: true,
    confidence: Some(0.6),
};

fn explanation(features: u16, attributions: Vec<f32>) -> Record {
    Record::Explanation(ExplanationRecord {
        seq: 8,
        made_at: Timestamp(6),
        open_time: Timestamp::from_seconds(3600),
        revision: 1,
        key: key(),
        model: model(),
        model_digest: [7; 32],
        method: Method::IntegratedGradients,
        points: 32,
        output: 2,
        prediction: 0.25,
        baseline: -0.125,
        residual: 1e-9,
        features,
        attributions,
    })
}

fn realised(result: Realised, state: Vec<u8>) -> Record {
    Record::Realised(RealisedRecord {
        seq: 7,
        revision: 2,
        key: key(),
        model: model(),
        model_digest: [7; 32],
        open_time: Timestamp::from_seconds(3600),
        due_open_time: Timestamp::from_seconds(7200),
        written_at: Timestamp(5),
        result,
        state,
    })
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn every_kind_comes_back_as_it_was() {
    for record in samples() {
        let bytes = encoded(&record);
        assert!(bytes.len() <= PAYLOAD_BYTES_MAX);
        assert_eq!(Record::decode(record.kind(), record.version(), &bytes), Ok(record));
    }
}

/// The bytes of each version, written down: they must stay readable.
#[test]
fn versions_stay_as_they_are() {
    let checksums: Vec<(u8, u32)> =
        samples().iter().map(|record| (record.kind(), crc32fast::hash(&encoded(record)))).collect();
    let expected = [
        (1, 3_813_252_787),
        (1, 3_892_435_147),
        (2, 2_420_663_111),
        (2, 2_513_488_955),
        (2, 1_944_544_728),
        (2, 1_802_902_238),
        (2, 3_736_015_274),
        (2, 1_136_770_403),
        (5, 4_016_066_019),
        (5, 4_241_652_450),
        (5, 3_845_172_413),
        (5, 99_722_455),
        (5, 3_699_058_669),
        (6, 4_053_742_280),
        (6, 70_257_593),
        (3, 3_997_913_888),
        (3, 3_153_325_753),
        (4, 2_129_596_010),
        (4, 1_839_272_048),
        (4, 692_084_663),
    ];
    assert_eq!(checksums, expected);
}

#[test]
fn value_bits_are_kept() {
    let bits = [0x7FC0_0001, 0xFFFF_FFFF, 0x8000_0000, 0x0000_0001, 0x7F80_0000];
    let Record::Prediction(mut record) = prediction(1) else { unreachable!() };
    record.outcome = Outcome::Values(bits.map(f32::from_bits).to_vec());
    let bytes = encoded(&Record::Prediction(record));
    let Ok(Record::Prediction(back)) = Record::decode(2, 1, &bytes) else { panic!() };
    let Outcome::Values(values) = back.outcome else { panic!() };
    assert_eq!(values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), bits);
}

fn check_refused(record: Record, expected: &str) {
    let error = record.encode(&mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn limits_are_kept_when_writing() {
    let Record::Prediction(good) = prediction(1) else { unreachable!() };
    let long = |change: fn(&mut PredictionRecord)| {
        let mut record = good.clone();
        change(&mut record);
        Record::Prediction(record)
    };
    check_refused(long(|p| p.model.name = "x".repeat(65)), "model name has length 65; the limit is 64");
    check_refused(long(|p| p.model.version = "x".repeat(65)), "model version has length 65; the limit is 64");
    check_refused(long(|p| p.device = "x".repeat(65)), "device has length 65; the limit is 64");
    check_refused(
        long(|p| p.outcome = Outcome::Values(vec![0.0; VALUES_MAX + 1])),
        "values has length 1025; the limit is 1024",
    );
    check_refused(
        long(|p| p.outcome = Outcome::Abstained { code: 1, text: "x".repeat(256) }),
        "abstention text has length 256; the limit is 255",
    );
    check_refused(
        snapshot(1, vec![0; STATE_BYTES_MAX + 1]),
        "state has length 1048577; the limit is 1048576",
    );
    check_refused(
        realised(Realised::Gap, vec![0; RESOLVER_STATE_BYTES_MAX + 1]),
        "resolver state has length 4097; the limit is 4096",
    );
    check_refused(
        explanation(1, vec![0.0; ATTRIBUTIONS_MAX + 1]),
        "attributions has length 262145; the limit is 262144",
    );
    for (features, count) in [(0, 3), (2, 3), (2, 0)] {
        let record = explanation(features, vec![0.0; count]);
        assert_eq!(record.encode(&mut Vec::new()), Err(RecordError::Malformed { field: "features" }));
    }
    let mut inverted = bar(1);
    if let Record::Bar(record) = &mut inverted {
        record.bar.low = f64::NAN;
    }
    check_refused(inverted, "low is NaN; it must be finite and above zero");
}

#[test]
fn other_kinds_and_versions_are_named() {
    assert_eq!(Record::decode(0, 1, &[]), Err(RecordError::UnknownKind { kind: 0 }));
    assert_eq!(Record::decode(2, 4, &[]), Err(RecordError::UnknownVersion { kind: 2, version: 4 }));
    assert_eq!(Record::decode(7, 1, &[]), Err(RecordError::UnknownKind { kind: 7 }));
    assert_eq!(Record::decode(6, 2, &[]), Err(RecordError::UnknownVersion { kind: 6, version: 2 }));
}

#[test]
fn a_payload_ends_where_it_should() {
    for record in samples().into_iter().filter(|record| encoded(record).len() < 1000) {
        let bytes = encoded(&record);
        let decode = |bytes: &[u8]| Record::decode(record.kind(), record.version(), bytes);
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat()), Err(RecordError::Trailing { bytes: 1 }));
    }
}

/// Whatever decodes encodes to the very same bytes, and nothing panics.
fn check_decode(kind: u8, version: u8, payload: &[u8]) -> bool {
    let Ok(record) = Record::decode(kind, version, payload) else { return false };
    assert_eq!(encoded(&record), payload);
    true
}

#[test]
fn any_bytes_can_be_decoded() {
    let mut random = Seeded(1);
    for _ in 0..cases(100_000) {
        let length = random.below(300) as usize;
        let payload: Vec<u8> = (0..length).map(|_| random.draw() as u8).collect();
        check_decode(random.below(8) as u8, random.below(4) as u8, &payload);
    }
}

#[test]
fn mutated_records_can_be_decoded() {
    let mut random = Seeded(2);
    let samples: Vec<(u8, u8, Vec<u8>)> = samples()
        .iter()
        .map(|record| (record.kind(), record.version(), encoded(record)))
        .filter(|(.., bytes)| bytes.len() < 10_000)
        .collect();
    let mut good = 0;
    for _ in 0..cases(100_000) {
        let (kind, version, mut bytes) = samples[random.below(samples.len() as u64) as usize].clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, random.draw() as u8),
                2 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][random.below(5) as usize],
                _ => bytes[at] ^= 1 << random.below(8),
            }
            if bytes.is_empty() {
                break;
            }
        }
        good += u64::from(check_decode(kind, version, &bytes));
    }
    assert!(good > 1000, "most mutations of floats and times are still records, {good} were");
}
