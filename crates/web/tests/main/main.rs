//! The console as people and programs meet it: over HTTP, and in Chromium.

mod browser;
mod first;
mod guard;
mod people;
mod site;
mod storages;
