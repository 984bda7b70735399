//! What the spool holds: bars, predictions, their outcomes and explanations, snapshots and gaps, with their versioned binary form.
//!
//! All integers are little-endian, a `text` is one length byte and UTF-8, floats are their bits.
//!
//! ```text
//! Bar 1         received_at i64 | flags u8 (1 backfill, 2 final) | symbol text | timeframe_seconds u32
//!               | open_time i64 | open high low close volume 5 x f64 | revision u32
//! Prediction 1  seq u64 | made_at i64 | open_time i64 | revision u32 | flags u8 (1 recovered, 2 revised)
//!               | model_digest 32 | symbol text | timeframe_seconds u32 | name text | version text | device text
//!               | 0 u8, count u16, count x f32   or   1 u8, code u16, text
//! Prediction 2  as 1, then confidence low high level 4 x f32
//! Prediction 3  as 1, with flags 4 (shadow) and 8 (what 2 has behind it is there)
//! Snapshot 1    bar_position u64 | features_digest 32 | symbol text | timeframe_seconds u32
//!               | name text | version text | length u32 | state
//! Gap 1         from_position u64 | to_position u64 | reason u8 | at i64
//! Realised 1    seq u64 | revision u32 | open_time i64 | due_open_time i64 | written_at i64 | model_digest 32
//!               | symbol text | timeframe_seconds u32 | name text | version text
//!               | 0 u8, flags u8 (1 naive, 2 interval, 4 covered, 8 right, 16 confidence), predicted realised 2 x f64,
//!                 [naive f64], [confidence f32]   or   1 u8 (gap)   or   2 u8 (lost)
//!               | length u16 | state
//! Explanation 1 seq u64 | made_at i64 | open_time i64 | revision u32 | model_digest 32
//!               | symbol text | timeframe_seconds u32 | name text | version text
//!               | method u8 (1 integrated gradients) | points u16 | output u16 | prediction baseline residual 3 x f64
//!               | features u16 | steps u32 | steps x features x f32
//! ```
//!
//! A changed form gets the next version; every version that was ever released stays readable.

use market::{Bar, StreamKey, Symbol, Timeframe, Timestamp};

use crate::codec::{Fields, put_f64, put_i64, put_text, put_u8, put_u16, put_u32, put_u64};
use crate::error::RecordError;
use crate::explanation::ExplanationRecord;
use crate::realised::RealisedRecord;

pub const SYMBOL_BYTES_MAX: usize = 32;
pub const MODEL_NAME_BYTES_MAX: usize = 64;
pub const MODEL_VERSION_BYTES_MAX: usize = 64;
pub const DEVICE_BYTES_MAX: usize = 64;
pub const REASON_BYTES_MAX: usize = 255;
pub const VALUES_MAX: usize = 1024;
pub const STATE_BYTES_MAX: usize = 1 << 20;
/// No payload is longer: the largest state and the fields beside it.
pub const PAYLOAD_BYTES_MAX: usize = STATE_BYTES_MAX + 4096;

#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Bar(BarRecord),
    Prediction(PredictionRecord),
    Snapshot(SnapshotRecord),
    Gap(GapRecord),
    /// What became of a prediction.
    Realised(RealisedRecord),
    /// What made a prediction.
    Explanation(ExplanationRecord),
}

/// A bar as it was taken in.
#[derive(Clone, Debug, PartialEq)]
pub struct BarRecord {
    pub received_at: Timestamp,
    pub bar: Bar,
    /// It warms windows and gets no prediction.
    pub backfill: bool,
}

/// The folder of a model: `models/<name>/<version>/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName {
    pub name: String,
    pub version: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PredictionRecord {
    /// One counter over all keys and models; see [`Recovery::last_prediction_seq`](crate::Recovery).
    pub seq: u64,
    pub key: StreamKey,
    pub model: ModelName,
    pub model_digest: [u8; 32],
    /// Of the bar that it was made on.
    pub open_time: Timestamp,
    pub revision: u32,
    pub made_at: Timestamp,
    pub outcome: Outcome,
    /// Made at a restart for a bar that had none.
    pub recovered: bool,
    /// Made again because its bar was revised.
    pub revised: bool,
    /// Made beside the one that is given to those who ask for none by name.
    pub shadow: bool,
    pub device: String,
    /// With which it was shown; `None`: the model has no calibration, or there is no value.
    pub uncertainty: Option<Uncertainty>,
}

/// How sure a prediction is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uncertainty {
    /// The probability, 0 to 1, of what the model's confidence is about.
    pub confidence: f32,
    /// The interval, in the label's unit.
    pub low: f32,
    pub high: f32,
    /// The share of realised values that such intervals are to cover.
    pub level: f32,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// At most [`VALUES_MAX`]; kept to the bit.
    Values(Vec<f32>),
    /// `code` is the caller's; `text` at most [`REASON_BYTES_MAX`].
    Abstained { code: u16, text: String },
}

/// The state after a bar, from which the rest of the stream can be replayed exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotRecord {
    pub key: StreamKey,
    pub model: ModelName,
    pub features_digest: [u8; 32],
    /// Position of the last bar record that the state includes.
    pub bar_position: u64,
    /// Opaque, at most [`STATE_BYTES_MAX`].
    pub state: Vec<u8>,
}

/// Records that are gone without every consumer having acknowledged them. Both ends are included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapRecord {
    pub from_position: u64,
    pub to_position: u64,
    pub reason: GapReason,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The oldest segments made room under `limit_bytes`, or on a full disk.
    Space,
    /// They were older than asked for and no consumer is registered.
    Age,
    /// The bytes on the disk were damaged.
    Damage,
}

const BAR: u8 = 1;
const PREDICTION: u8 = 2;
const SNAPSHOT: u8 = 3;
const GAP: u8 = 4;
const REALISED: u8 = 5;
const EXPLANATION: u8 = 6;

const BACKFILL: u8 = 1;
const FINAL: u8 = 2;
const RECOVERED: u8 = 1;
const REVISED: u8 = 2;
const SHADOW: u8 = 4;
const SURE: u8 = 8;

impl Record {
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Record::Bar(_) => BAR,
            Record::Prediction(_) => PREDICTION,
            Record::Snapshot(_) => SNAPSHOT,
            Record::Gap(_) => GAP,
            Record::Realised(_) => REALISED,
            Record::Explanation(_) => EXPLANATION,
        }
    }

    /// The version that [`encode`](Record::encode) writes.
    pub(crate) fn version(&self) -> u8 {
        match self {
            Record::Prediction(PredictionRecord { shadow: true, .. }) => 3,
            Record::Prediction(PredictionRecord { uncertainty: Some(_), .. }) => 2,
            Record::Prediction(_) => 1,
            Record::Bar(_) | Record::Snapshot(_) | Record::Gap(_) | Record::Realised(_) => 1,
            Record::Explanation(_) => 1,
        }
    }

    pub(crate) fn prediction_seq(&self) -> Option<u64> {
        match self {
            Record::Prediction(prediction) => Some(prediction.seq),
            Record::Bar(_) | Record::Snapshot(_) | Record::Gap(_) | Record::Realised(_) => None,
            Record::Explanation(_) => None,
        }
    }

    /// Appends the payload to `out`. After an error `out` holds a part of it.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        match self {
            Record::Bar(bar) => bar.encode(out),
            Record::Prediction(prediction) => prediction.encode(out),
            Record::Snapshot(snapshot) => snapshot.encode(out),
            Record::Gap(gap) => gap.encode(out),
            Record::Realised(realised) => realised.encode(out),
            Record::Explanation(explanation) => explanation.encode(out),
        }
    }

    /// Reads a payload that may be anything. What it returns encodes to the same bytes again.
    pub fn decode(kind: u8, version: u8, payload: &[u8]) -> Result<Record, RecordError> {
        let mut fields = Fields::new(payload);
        let record = match (kind, version) {
            (BAR, 1) => Record::Bar(BarRecord::decode(&mut fields)?),
            (PREDICTION, 1..=3) => Record::Prediction(PredictionRecord::decode(&mut fields, version)?),
            (SNAPSHOT, 1) => Record::Snapshot(SnapshotRecord::decode(&mut fields)?),
            (GAP, 1) => Record::Gap(GapRecord::decode(&mut fields)?),
            (REALISED, 1) => Record::Realised(RealisedRecord::decode(&mut fields)?),
            (EXPLANATION, 1) => Record::Explanation(ExplanationRecord::decode(&mut fields)?),
            (BAR | PREDICTION | SNAPSHOT | GAP | REALISED | EXPLANATION, _) => {
                return Err(RecordError::UnknownVersion { kind, version });
            }
            _ => return Err(RecordError::UnknownKind { kind }),
        };
        fields.finish()?;
        Ok(record)
    }
}

impl Record {
    /// None for other kinds and for what can't be read.
    pub(crate) fn decode_gap(kind: u8, version: u8, payload: &[u8]) -> Option<GapRecord> {
        match (kind == GAP).then(|| Record::decode(kind, version, payload)) {
            Some(Ok(Record::Gap(gap))) => Some(gap),
            _ => None,
        }
    }
}

/// The `seq` of a prediction's payload, without reading the rest.
pub(crate) fn prediction_seq(kind: u8, payload: &[u8]) -> Option<u64> {
    if kind != PREDICTION {
        return None;
    }
    payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

impl BarRecord {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let bar = &self.bar;
        bar.check().map_err(RecordError::Bar)?;
        put_i64(out, self.received_at.0);
        put_u8(out, flag(self.backfill, BACKFILL) | flag(bar.is_final, FINAL));
        put_key(out, &bar.key)?;
        put_i64(out, bar.open_time.0);
        for value in [bar.open, bar.high, bar.low, bar.close, bar.volume] {
            put_f64(out, value);
        }
        put_u32(out, bar.revision);
        Ok(())
    }

    fn decode(fields: &mut Fields) -> Result<Self, RecordError> {
        let received_at = Timestamp(fields.i64()?);
        let flags = flags(fields, BACKFILL | FINAL)?;
        let bar = Bar {
            key: take_key(fields)?,
            open_time: Timestamp(fields.i64()?),
            open: fields.f64()?,
            high: fields.f64()?,
            low: fields.f64()?,
            close: fields.f64()?,
            volume: fields.f64()?,
            is_final: flags & FINAL != 0,
            revision: fields.u32()?,
        };
        bar.check().map_err(RecordError::Bar)?;
        Ok(BarRecord { received_at, bar, backfill: flags & BACKFILL != 0 })
    }
}

impl PredictionRecord {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        put_u64(out, self.seq);
        put_i64(out, self.made_at.0);
        put_i64(out, self.open_time.0);
        put_u32(out, self.revision);
        let sure = self.shadow && self.uncertainty.is_some();
        let flags = flag(self.recovered, RECOVERED) | flag(self.revised, REVISED);
        put_u8(out, flags | flag(self.shadow, SHADOW) | flag(sure, SURE));
        out.extend_from_slice(&self.model_digest);
        put_key(out, &self.key)?;
        put_model(out, &self.model)?;
        put_text(out, "device", &self.device, DEVICE_BYTES_MAX)?;
        match &self.outcome {
            Outcome::Values(values) => {
                if values.len() > VALUES_MAX {
                    return Err(RecordError::TooLong {
                        field: "values",
                        count: values.len(),
                        limit: VALUES_MAX,
                    });
                }
                put_u8(out, 0);
                put_u16(out, values.len() as u16);
                for value in values {
                    put_u32(out, value.to_bits());
                }
            }
            Outcome::Abstained { code, text } => {
                put_u8(out, 1);
                put_u16(out, *code);
                put_text(out, "abstention text", text, REASON_BYTES_MAX)?;
            }
        }
        if let Some(Uncertainty { confidence, low, high, level }) = self.uncertainty {
            [confidence, low, high, level].iter().for_each(|x| put_u32(out, x.to_bits()));
        }
        Ok(())
    }

    fn decode(fields: &mut Fields, version: u8) -> Result<Self, RecordError> {
        let seq = fields.u64()?;
        let made_at = Timestamp(fields.i64()?);
        let open_time = Timestamp(fields.i64()?);
        let revision = fields.u32()?;
        let known = if version < 3 { RECOVERED | REVISED } else { RECOVERED | REVISED | SHADOW | SURE };
        let flags = flags(fields, known)?;
        let shadow = flags & SHADOW != 0;
        if version == 3 && !shadow {
            // 1 and 2 are for those: a record has one form.
            return Err(RecordError::Malformed { field: "flags" });
        }
        let sure = version == 2 || flags & SURE != 0;
        Ok(PredictionRecord {
            seq,
            made_at,
            open_time,
            revision,
            recovered: flags & RECOVERED != 0,
            revised: flags & REVISED != 0,
            shadow,
            model_digest: fields.array()?,
            key: take_key(fields)?,
            model: take_model(fields)?,
            device: fields.text("device", DEVICE_BYTES_MAX)?.to_owned(),
            outcome: Outcome::decode(fields)?,
            uncertainty: if sure { Some(Uncertainty::decode(fields)?) } else { None },
        })
    }
}

impl Uncertainty {
    fn decode(fields: &mut Fields) -> Result<Self, RecordError> {
        let mut number = || fields.u32().map(f32::from_bits);
        Ok(Uncertainty { confidence: number()?, low: number()?, high: number()?, level: number()? })
    }
}

impl Outcome {
    fn decode(fields: &mut Fields) -> Result<Self, RecordError> {
        match fields.u8()? {
            0 => {
                let count = usize::from(fields.u16()?);
                if count > VALUES_MAX {
                    return Err(RecordError::TooLong { field: "values", count, limit: VALUES_MAX });
                }
                let (bits, _) = fields.bytes(4 * count)?.as_chunks::<4>();
                Ok(Outcome::Values(bits.iter().map(|b| f32::from_bits(u32::from_le_bytes(*b))).collect()))
            }
            1 => {
                let code = fields.u16()?;
                Ok(Outcome::Abstained {
                    code,
                    text: fields.text("abstention text", REASON_BYTES_MAX)?.to_owned(),
                })
            }
            _ => Err(RecordError::Malformed { field: "outcome" }),
        }
    }
}

impl SnapshotRecord {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        if self.state.len() > STATE_BYTES_MAX {
            return Err(RecordError::TooLong {
                field: "state",
                count: self.state.len(),
                limit: STATE_BYTES_MAX,
            });
        }
        put_u64(out, self.bar_position);
        out.extend_from_slice(&self.features_digest);
        put_key(out, &self.key)?;
        put_model(out, &self.model)?;
        put_u32(out, self.state.len() as u32);
        out.extend_from_slice(&self.state);
        Ok(())
    }

    fn decode(fields: &mut Fields) -> Result<Self, RecordError> {
        let bar_position = fields.u64()?;
        let features_digest = fields.array()?;
        let key = take_key(fields)?;
        let model = take_model(fields)?;
        let count = fields.u32()? as usize;
        if count > STATE_BYTES_MAX {
            return Err(RecordError::TooLong { field: "state", count, limit: STATE_BYTES_MAX });
        }
        Ok(SnapshotRecord { key, model, features_digest, bar_position, state: fields.bytes(count)?.to_vec() })
    }
}

impl GapRecord {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        if self.from_position > self.to_position {
            return Err(RecordError::Malformed { field: "to_position" });
        }
        put_u64(out, self.from_position);
        put_u64(out, self.to_position);
        put_u8(
            out,
            match self.reason {
                GapReason::Space => 1,
                GapReason::Age => 2,
                GapReason::Damage => 3,
            },
        );
        put_i64(out, self.at.0);
        Ok(())
    }

    fn decode(fields: &mut Fields) -> Result<Self, RecordError> {
        let from_position = fields.u64()?;
        let to_position = fields.u64()?;
        if from_position > to_position {
            return Err(RecordError::Malformed { field: "to_position" });
        }
        let reason = match fields.u8()? {
            1 => GapReason::Space,
            2 => GapReason::Age,
            3 => GapReason::Damage,
            _ => return Err(RecordError::Malformed { field: "reason" }),
        };
        Ok(GapRecord { from_position, to_position, reason, at: Timestamp(fields.i64()?) })
    }
}

pub(crate) fn put_key(out: &mut Vec<u8>, key: &StreamKey) -> Result<(), RecordError> {
    put_text(out, "symbol", key.symbol.as_str(), SYMBOL_BYTES_MAX)?;
    put_u32(out, key.timeframe.seconds());
    Ok(())
}

pub(crate) fn take_key(fields: &mut Fields) -> Result<StreamKey, RecordError> {
    let symbol = Symbol::new(fields.text("symbol", SYMBOL_BYTES_MAX)?).map_err(RecordError::Bar)?;
    let timeframe =
        Timeframe::from_seconds(fields.u32()?).ok_or(RecordError::Malformed { field: "timeframe" })?;
    Ok(StreamKey { symbol, timeframe })
}

pub(crate) fn put_model(out: &mut Vec<u8>, model: &ModelName) -> Result<(), RecordError> {
    put_text(out, "model name", &model.name, MODEL_NAME_BYTES_MAX)?;
    put_text(out, "model version", &model.version, MODEL_VERSION_BYTES_MAX)
}

pub(crate) fn take_model(fields: &mut Fields) -> Result<ModelName, RecordError> {
    Ok(ModelName {
        name: fields.text("model name", MODEL_NAME_BYTES_MAX)?.to_owned(),
        version: fields.text("model version", MODEL_VERSION_BYTES_MAX)?.to_owned(),
    })
}

pub(crate) fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

pub(crate) fn flags(fields: &mut Fields, known: u8) -> Result<u8, RecordError> {
    let flags = fields.u8()?;
    if flags & !known == 0 { Ok(flags) } else { Err(RecordError::Malformed { field: "flags" }) }
}
