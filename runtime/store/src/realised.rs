//! What became of a prediction: the record of its outcome.

use market::{StreamKey, Timestamp};

use crate::codec::{Fields, put_f64, put_i64, put_u8, put_u16, put_u32, put_u64};
use crate::error::RecordError;
use crate::record::{ModelName, flag, flags, put_key, put_model, take_key, take_model};

/// The resolver's state behind an outcome; see [`RealisedRecord::state`].
pub const RESOLVER_STATE_BYTES_MAX: usize = 4096;

/// Written once when the prediction's horizon falls due, and once more with the next `revision` each time that a
/// revised bar changes what was realised. The newest revision is the one that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct RealisedRecord {
    /// Of the prediction.
    pub seq: u64,
    /// 0, and one more each time that a revised bar changed it.
    pub revision: u32,
    pub key: StreamKey,
    pub model: ModelName,
    pub model_digest: [u8; 32],
    /// Of the bar that the prediction was made on.
    pub open_time: Timestamp,
    /// Of the bar that ended its horizon.
    pub due_open_time: Timestamp,
    pub written_at: Timestamp,
    pub result: Realised,
    /// Of the resolver, behind this outcome; opaque, at most [`RESOLVER_STATE_BYTES_MAX`].
    pub state: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Realised {
    /// The label has a value.
    Value(RealisedValue),
    /// It has none, and never will: it spans a gap in the bars, or they are no longer held.
    Gap,
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RealisedValue {
    /// As it was predicted, in the label's unit.
    pub predicted: f64,
    pub realised: f64,
    /// What the naive forecast was for the same label, where its bars were there.
    pub naive: Option<f64>,
    /// Whether the prediction's interval held it; `None`: there was no interval.
    pub covered: Option<bool>,
    /// Whether what its confidence is the probability of came true.
    pub right: bool,
    /// The confidence that it was made with.
    pub confidence: Option<f32>,
}

impl RealisedValue {
    /// realised − predicted.
    pub fn error(&self) -> f64 {
        self.realised - self.predicted
    }
}

const NAIVE: u8 = 1;
const INTERVAL: u8 = 2;
const COVERED: u8 = 4;
const RIGHT: u8 = 8;
const CONFIDENCE: u8 = 16;

impl RealisedRecord {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        if self.state.len() > RESOLVER_STATE_BYTES_MAX {
            let (count, limit) = (self.state.len(), RESOLVER_STATE_BYTES_MAX);
            return Err(RecordError::TooLong { field: "resolver state", count, limit });
        }
        put_u64(out, self.seq);
        put_u32(out, self.revision);
        put_i64(out, self.open_time.0);
        put_i64(out, self.due_open_time.0);
        put_i64(out, self.written_at.0);
        out.extend_from_slice(&self.model_digest);
        put_key(out, &self.key)?;
        put_model(out, &self.model)?;
        match &self.result {
            Realised::Value(value) => {
                put_u8(out, 0);
                value.encode(out);
            }
            Realised::Gap => put_u8(out, 1),
            Realised::Lost => put_u8(out, 2),
        }
        put_u16(out, self.state.len() as u16);
        out.extend_from_slice(&self.state);
        Ok(())
    }

    pub(crate) fn decode(fields: &mut Fields) -> Result<Self, RecordError> {
        let seq = fields.u64()?;
        let revision = fields.u32()?;
        let open_time = Timestamp(fields.i64()?);
        let due_open_time = Timestamp(fields.i64()?);
        let written_at = Timestamp(fields.i64()?);
        let model_digest = fields.array()?;
        let key = take_key(fields)?;
        let model = take_model(fields)?;
        let result = match fields.u8()? {
            0 => Realised::Value(RealisedValue::decode(fields)?),
            1 => Realised::Gap,
            2 => Realised::Lost,
            _ => return Err(RecordError::Malformed { field: "result" }),
        };
        let count = usize::from(fields.u16()?);
        if count > RESOLVER_STATE_BYTES_MAX {
            let limit = RESOLVER_STATE_BYTES_MAX;
            return Err(RecordError::TooLong { field: "resolver state", count, limit });
        }
        let state = fields.bytes(count)?.to_vec();
        Ok(RealisedRecord {
            seq,
            revision,
            key,
            model,
            model_digest,
            open_time,
            due_open_time,
            written_at,
            result,
            state,
        })
    }
}

impl RealisedValue {
    fn encode(&self, out: &mut Vec<u8>) {
        let flags = flag(self.naive.is_some(), NAIVE)
            | flag(self.covered.is_some(), INTERVAL)
            | flag(self.covered == Some(true), COVERED)
            | flag(self.right, RIGHT)
            | flag(self.confidence.is_some(), CONFIDENCE);
        put_u8(out, flags);
        put_f64(out, self.predicted);
        put_f64(out, self.realised);
        if let Some(naive) = self.naive {
            put_f64(out, naive);
        }
        if let Some(confidence) = self.confidence {
            put_u32(out, confidence.to_bits());
        }
    }

    fn decode(fields: &mut Fields) -> Result<Self, RecordError> {
        let flags = flags(fields, NAIVE | INTERVAL | COVERED | RIGHT | CONFIDENCE)?;
        let has = |bit: u8| flags & bit != 0;
        if has(COVERED) && !has(INTERVAL) {
            return Err(RecordError::Malformed { field: "flags" });
        }
        let (predicted, realised) = (fields.f64()?, fields.f64()?);
        let naive = if has(NAIVE) { Some(fields.f64()?) } else { None };
        let confidence = if has(CONFIDENCE) { Some(f32::from_bits(fields.u32()?)) } else { None };
        let covered = has(INTERVAL).then(|| has(COVERED));
        Ok(RealisedValue { predicted, realised, naive, covered, right: has(RIGHT), confidence })
    }
}
