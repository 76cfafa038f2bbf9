//! Walking trees on several threads: a stack of jobs that make more jobs. What was found last is
//! taken first, in its order, so that what lies together is read together.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Error, Result};

struct Stack<J> {
    jobs: Vec<J>,
    busy: usize,
    failure: Option<Error>,
}

/// Works off a stack of jobs, which make more jobs, on several threads. New jobs are taken in the
/// order in which they were made, before older ones.
pub(crate) fn work_off<J: Send>(
    threads: usize,
    jobs: Vec<J>,
    work: impl Fn(J, &mut Vec<J>) -> Result<()> + Sync,
) -> Result<()> {
    let stack = Mutex::new(Stack { jobs, busy: 0, failure: None });
    let changed = Condvar::new();
    let lock =
        || -> MutexGuard<'_, Stack<J>> { stack.lock().unwrap_or_else(PoisonError::into_inner) };
    let one = || {
        let mut more = Vec::new();
        loop {
            let mut held = lock();
            let job = loop {
                if held.failure.is_some() || held.jobs.is_empty() && held.busy == 0 {
                    return;
                }
                if let Some(job) = held.jobs.pop() {
                    held.busy += 1;
                    break job;
                }
                // The time limit is for a thread that panicked while it was busy.
                let wait = changed.wait_timeout(held, Duration::from_millis(200));
                held = wait.unwrap_or_else(PoisonError::into_inner).0;
            };
            drop(held);
            let result = work(job, &mut more);
            let mut held = lock();
            held.jobs.extend(more.drain(..).rev());
            held.busy -= 1;
            if let Err(error) = result {
                held.failure.get_or_insert(error);
            }
            drop(held);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(one);
        }
    });
    let failure = lock().failure.take();
    failure.map_or(Ok(()), Err)
}
