//! Statistics of a model in service: is another one better, did its errors grow, do its inputs still look like those
//! that it was trained on, and must it be taken back. All are incremental, small and pure: no clock, no I/O; their
//! state can be stored and read back (`serde`), to the bit.
//!
//! | file | question | method |
//! |---|---|---|
//! | [`sequential`] | which of two models has the lower loss? | asymptotic confidence sequence, valid at every look |
//! | [`cusum`] | did a model's loss leave its level? | two-sided CUSUM on sequential ranks |
//! | [`shift`] | do features still have the training rows' distribution? | Kolmogorov–Smirnov, effective sample sizes, Holm |
//! | [`degrade`] | must a promotion be taken back? | a rule over the three and the coverage |
//!
//! Outcomes of neighbouring bars share bars, those of one bar share the market. So the unit of evidence is a *step*
//! (all that falls due at one time, averaged), and steps are averaged in *blocks* of some horizons; what dependence is
//! left between blocks goes into the long-run variance ([`blocking`]).

pub mod blocking;
pub mod cusum;
pub mod degrade;
pub mod profile;
pub mod sequential;
pub mod shift;
