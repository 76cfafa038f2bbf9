//! engine

pub mod chunker;
