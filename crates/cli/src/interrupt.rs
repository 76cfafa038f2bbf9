//! Ctrl-C and SIGTERM: the first asks the operation to end in good order, the second to end at
//! once. Until an operation runs, signals end the program as usual, prompts included.

use std::io::Write;
use std::sync::OnceLock;
use std::time::Duration;

use holdfast_engine::monitor::Interrupt;

static INTERRUPT: Interrupt = Interrupt::new();
static INSTALLED: OnceLock<()> = OnceLock::new();

/// How long an operation may take to end at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// The interrupt that signals raise, from now on.
pub(crate) fn watch() -> &'static Interrupt {
    INSTALLED.get_or_init(|| {
        // Where no handler can be set, signals end the program as usual.
        let _ = ctrlc::set_handler(|| match INTERRUPT.raise() {
            1 => {
                let text = b"\nstopping in good order; Ctrl-C again to stop at once\n";
                let _ = std::io::stderr().write_all(text);
            }
            2 => drop(std::thread::spawn(|| {
                std::thread::sleep(PATIENCE);
                leave();
            })),
            _ => leave(),
        });
    });
    &INTERRUPT
}

#[expect(clippy::exit, reason = "the operation does not answer, and was asked to end at once")]
fn leave() {
    std::process::exit(130);
}
