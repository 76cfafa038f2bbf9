//! The engine's tests, one binary: what needs a repository, and the guard of the rooms.

mod archive;
mod backup;
mod check;
mod checksums;
mod common;
mod damage;
mod find;
mod fuzz;
mod gc;
mod hostile;
mod index;
mod index_scale;
mod keyslots;
mod layers;
mod media;
mod notes;
mod parity;
mod partial;
mod renewals;
mod repair;
mod repair_copies;
mod repair_packs;
mod restore;
mod simulation;
mod storages;
mod sync;
