//! Ctrl-C, SIGTERM and SIGHUP: the first asks the operation to end in good order, the second to end at
//! once. Until an operation runs, signals end the program as usual, prompts included.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_engine::monitor::Interrupt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static INTERRUPT: Interrupt = Interrupt::new();
static INSTALLED: OnceLock<()> = OnceLock::new();
/// A person is being asked: nothing is under way, so that a signal ends the program at once.
static ASKING: AtomicBool = AtomicBool::new(false);

/// SIGHUP means that files are to be read anew.
static REREADS: AtomicBool = AtomicBool::new(false);
/// It came.
static HUNG_UP: AtomicBool = AtomicBool::new(false);

/// How long an operation may take to end at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// The interrupt that signals raise, from now on.
pub(crate) fn watch() -> &'static Interrupt {
    INSTALLED.get_or_init(|| {
        // Where no handler can be set, signals end the program as usual.
        if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) {
            std::thread::spawn(move || {
                for signal in &mut signals {
                    match signal {
                        SIGHUP if REREADS.load(Ordering::SeqCst) => {
                            HUNG_UP.store(true, Ordering::SeqCst);
                        }
                        _ => interrupt(),
                    }
                }
            });
        }
    });
    &INTERRUPT
}

fn interrupt() {
    match INTERRUPT.raise() {
        _ if ASKING.load(Ordering::SeqCst) => leave(),
        1 => {
            let text = b"\nstopping in good order; Ctrl-C again to stop at once\n";
            let _ = std::io::stderr().write_all(text);
        }
        2 => drop(std::thread::spawn(|| {
            std::thread::sleep(PATIENCE);
            leave();
        })),
        _ => leave(),
    }
}

/// From now on SIGHUP ends nothing: it asks for files to be read anew, as [`was_hung_up`] tells.
pub(crate) fn reread_on_hangup() {
    REREADS.store(true, Ordering::SeqCst);
}

/// Whether there was a SIGHUP since this was last asked.
pub(crate) fn was_hung_up() -> bool {
    HUNG_UP.swap(false, Ordering::SeqCst)
}

/// Asks while a signal ends the program.
pub(crate) fn while_asking<T>(ask: impl FnOnce() -> T) -> T {
    ASKING.store(true, Ordering::SeqCst);
    let answer = ask();
    ASKING.store(false, Ordering::SeqCst);
    answer
}

#[expect(
    clippy::exit,
    reason = "nothing is under way, or it does not answer and was asked to end at once"
)]
fn leave() {
    std::process::exit(130);
}
