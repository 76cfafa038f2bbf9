//! Tests of the connectors, one module for each room.

mod storage;
