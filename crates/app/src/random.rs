//! Random bytes of the system, for names, seeds and secrets.

use crate::problem::{Class, Problem};

/// As many as the type says. Errors: the system gives none.
pub fn random<const N: usize>() -> Result<[u8; N], Problem> {
    holdfast_engine::crypto::random::<N>()
        .map_err(|e| Problem::new(Class::Internal, "the system gives no random bytes").cause(e))
}
