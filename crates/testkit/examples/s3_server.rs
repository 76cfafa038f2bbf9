//! An S3 server for benchmarks and for trying things: `s3_server [--dir D] [--port P] [--page K]`
//! keeps objects below D (else in memory), lists at most so many keys at once, prints the endpoint
//! and its keys, and runs until it is killed.

use holdfast_testkit::s3::{S3Backend, S3Server, S3ServerOptions};

#[expect(clippy::print_stdout, reason = "whoever starts it needs the endpoint")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = S3ServerOptions::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.as_str(), words.next()) {
            ("--dir", Some(path)) => options.backend = S3Backend::Directory(Some(path.into())),
            ("--port", Some(port)) => options.port = port.parse()?,
            ("--page", Some(keys)) => options.page = keys.parse()?,
            _ => return Err("usage: s3_server [--dir D] [--port P] [--page KEYS]".into()),
        }
    }
    let server = S3Server::start(options)?;
    println!("location: s3://{}/bucket", server.endpoint());
    println!("access_key: {}", server.access_key());
    println!("secret_access_key: {}", server.secret_key());
    println!("use_tls: false");
    loop {
        std::thread::park();
    }
}
