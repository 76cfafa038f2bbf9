//! An exhaustive model of commit, fence and gc (docs/design/protocol.md): writers, gcs, forget,
//! repairs and a reader over write-once objects, each storage call one step, with suspension, restarts
//! and lost replies. `proofs` runs the protocol as it is, `mutations` runs it with one rule
//! disabled and expects a counterexample. Larger configurations are ignored by default:
//! `cargo test -p holdfast-engine --test protocol_model -- --ignored`.

#[path = "protocol_model/gc.rs"]
mod gc;
#[path = "protocol_model/model.rs"]
mod model;
#[path = "protocol_model/mutations.rs"]
mod mutations;
#[path = "protocol_model/others.rs"]
mod others;
#[path = "protocol_model/proofs.rs"]
mod proofs;
#[path = "protocol_model/repair.rs"]
mod repair;
#[path = "protocol_model/rules.rs"]
mod rules;
#[path = "protocol_model/store.rs"]
mod store;
#[path = "protocol_model/writer.rs"]
mod writer;
