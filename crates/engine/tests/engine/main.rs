//! The engine's tests, one binary: what needs a repository, and the guard of the rooms.

mod backup;
mod check;
mod checksums;
mod common;
mod damage;
mod fuzz;
mod gc;
mod index;
mod index_scale;
mod layers;
mod partial;
mod restore;
mod simulation;
