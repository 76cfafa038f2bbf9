//! The console as people and programs meet it: over HTTP, and in Chromium.

mod acts;
mod alerts;
mod api;
mod axe;
mod browser;
mod ends;
mod first;
mod guard;
mod guide;
mod looking;
mod people;
mod plans;
mod refused;
mod room;
mod running;
mod seeds;
mod site;
mod storages;
mod stored;
mod tls;
mod traps;
