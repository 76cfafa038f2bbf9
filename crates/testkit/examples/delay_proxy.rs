//! A TCP proxy for benchmarks: `delay_proxy PORT MILLISECONDS [MEGABYTES]` forwards to that port of
//! this machine, each way half the milliseconds later, and so many megabytes a second at most.
//! Prints its own port, and runs until it is killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use holdfast_testkit::Proxy;

#[expect(clippy::print_stdout, reason = "whoever starts it needs the port")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let mut number = || words.next().and_then(|word| word.parse::<f64>().ok());
    let (Some(port), Some(round_trip)) = (number(), number()) else {
        return Err("usage: delay_proxy PORT MILLISECONDS [MEGABYTES]".into());
    };
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16)))?;
    proxy.set_latency(Duration::from_secs_f64(round_trip / 2000.0));
    if let Some(megabytes) = number().filter(|rate| *rate > 0.0) {
        proxy.set_rate(megabytes * 1e6);
    }
    println!("{}", proxy.port());
    loop {
        std::thread::park();
    }
}
