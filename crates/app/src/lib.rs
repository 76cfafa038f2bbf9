//! What the command line and the console share: where things are ([`location`], [`cache`]), what
//! opens them ([`secrets`]), what is backed up ([`roots`]), which snapshot is meant ([`select`],
//! [`times`]), and what to say when something fails ([`catalogue`]). It never prints.

pub mod cache;
pub mod catalogue;
pub mod location;
pub mod patterns;
pub mod problem;
pub mod roots;
pub mod secrets;
pub mod select;
pub mod text;
pub mod times;

pub use location::Location;
pub use problem::{Class, Problem};
