//! Storages in memory, for tests and simulations.

pub mod storage;
