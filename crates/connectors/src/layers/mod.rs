//! Wrappers that make one storage, source or destination out of another. Connectors know nothing of
//! them.

pub mod limit;
