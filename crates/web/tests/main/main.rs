//! The console as people and programs meet it: over HTTP, and in Chromium.

mod acts;
mod api;
mod browser;
mod first;
mod guard;
mod looking;
mod people;
mod seeds;
mod site;
mod storages;
mod stored;
mod traps;
