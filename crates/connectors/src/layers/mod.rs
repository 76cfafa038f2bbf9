//! Wrappers that make one storage out of another. Connectors know nothing of them.

pub mod limit;
pub mod record;
