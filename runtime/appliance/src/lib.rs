//! The alphaplus binary.
