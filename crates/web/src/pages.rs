//! One file a page, or a folder where a page has several steps: what it shows, and what its forms
//! do. The templates stand in `templates/` under the same names.

pub(crate) mod appearance;
pub(crate) mod home;
pub(crate) mod open;
pub(crate) mod storages;
