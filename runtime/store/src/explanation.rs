//! What made a prediction: the record of its explanation, feature by feature and step by step.

use market::{StreamKey, Timestamp};

use crate::codec::{Fields, put_f64, put_i64, put_u8, put_u16, put_u32, put_u64};
use crate::error::RecordError;
use crate::record::{ModelName, put_key, put_model, take_key, take_model};

/// Numbers of one explanation: steps × features.
pub const ATTRIBUTIONS_MAX: usize = 1 << 18;

/// Written behind the prediction that it is of, some time later, for some predictions alone.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplanationRecord {
    /// Of the prediction.
    pub seq: u64,
    pub made_at: Timestamp,
    /// Of the bar that the prediction was made on.
    pub open_time: Timestamp,
    pub revision: u32,
    pub key: StreamKey,
    pub model: ModelName,
    pub model_digest: [u8; 32],
    pub method: Method,
    /// Of integration.
    pub points: u16,
    /// Which of the model's outputs, from 0.
    pub output: u16,
    /// The output and its value at the baseline, in the label's unit; for classes, before the softmax.
    pub prediction: f64,
    pub baseline: f64,
    /// prediction − baseline − Σ attributions.
    pub residual: f64,
    pub features: u16,
    /// Steps × features, oldest step first, in the same unit; at most [`ATTRIBUTIONS_MAX`].
    pub attributions: Vec<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Integrated gradients from each feature's mean over the training part.
    IntegratedGradients,
}

impl ExplanationRecord {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let (count, features) = (self.attributions.len(), usize::from(self.features));
        if count > ATTRIBUTIONS_MAX {
            return Err(RecordError::TooLong { field: "attributions", count, limit: ATTRIBUTIONS_MAX });
        }
        if features == 0 || count == 0 || !count.is_multiple_of(features) {
            return Err(RecordError::Malformed { field: "features" });
        }
        put_u64(out, self.seq);
        put_i64(out, self.made_at.0);
        put_i64(out, self.open_time.0);
        put_u32(out, self.revision);
        out.extend_from_slice(&self.model_digest);
        put_key(out, &self.key)?;
        put_model(out, &self.model)?;
        put_u8(
            out,
            match self.method {
                Method::IntegratedGradients => 1,
            },
        );
        put_u16(out, self.points);
        put_u16(out, self.output);
        [self.prediction, self.baseline, self.residual].iter().for_each(|&x| put_f64(out, x));
        put_u16(out, self.features);
        put_u32(out, (count / features) as u32);
        self.attributions.iter().for_each(|x| put_u32(out, x.to_bits()));
        Ok(())
    }

    pub(crate) fn decode(fields: &mut Fields) -> Result<Self, RecordError> {
        let seq = fields.u64()?;
        let made_at = Timestamp(fields.i64()?);
        let open_time = Timestamp(fields.i64()?);
        let revision = fields.u32()?;
        let model_digest = fields.array()?;
        let key = take_key(fields)?;
        let model = take_model(fields)?;
        let method = match fields.u8()? {
            1 => Method::IntegratedGradients,
            _ => return Err(RecordError::Malformed { field: "method" }),
        };
        let (points, output) = (fields.u16()?, fields.u16()?);
        let (prediction, baseline, residual) = (fields.f64()?, fields.f64()?, fields.f64()?);
        let features = fields.u16()?;
        let count = (fields.u32()? as usize).saturating_mul(usize::from(features));
        if count > ATTRIBUTIONS_MAX {
            return Err(RecordError::TooLong { field: "attributions", count, limit: ATTRIBUTIONS_MAX });
        }
        if count == 0 {
            return Err(RecordError::Malformed { field: "features" });
        }
        let (bits, _) = fields.bytes(4 * count)?.as_chunks::<4>();
        let attributions = bits.iter().map(|b| f32::from_bits(u32::from_le_bytes(*b))).collect();
        Ok(ExplanationRecord {
            seq,
            made_at,
            open_time,
            revision,
            key,
            model,
            model_digest,
            method,
            points,
            output,
            prediction,
            baseline,
            residual,
            features,
            attributions,
        })
    }
}
