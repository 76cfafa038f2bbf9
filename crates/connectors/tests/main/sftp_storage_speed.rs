//! How fast the storage over SFTP is beside the client alone. Asserts nothing, prints figures:
//! `cargo test -p holdfast-connectors --test main speed -- --ignored --nocapture`

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast_connectors::sftp::client::{Attributes, OpenFlags};
use holdfast_connectors::sftp::pool::{Retry, SftpOptions};
use holdfast_engine::hash::{ObjectId, RecordId};
use holdfast_engine::storage::{ObjectName, Storage};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{Proxy, SshdOptions};

use crate::scratch;
use crate::sftp_storage::{Server, storage};

const MIB: usize = 1 << 20;
const TOTAL: usize = 256 * MIB;

fn timed(what: &str, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    let speed = TOTAL as f64 / MIB as f64 / start.elapsed().as_secs_f64();
    println!("  {what}: {speed:.0} MiB/s");
}

#[test]
#[ignore = "measures"]
fn speed() {
    let server = Server::start(SshdOptions::default());
    let scratch = scratch();
    let part = random_bytes(1, MIB);
    for latency in [0, 10] {
        let proxy = Proxy::start(server.address()).unwrap();
        proxy.set_latency(Duration::from_millis(latency));
        println!("{} ms round trip", 2 * latency);
        let path = scratch.path().join(latency.to_string());
        let storage = storage(server.options(proxy.port(), &path));
        storage.prepare().unwrap();
        let pack = |i: u8| ObjectName::pack(ObjectId::new([i; 32]));
        let pool = storage.pool();
        let raw = [path.as_os_str().as_bytes(), b"/raw"].concat();
        let single = crate::sftp_storage::storage(SftpOptions {
            connections: 1,
            ..server.options(proxy.port(), &path)
        });
        let attributes = Attributes::default();
        timed("client alone, one connection, write", || {
            let write = single.pool().run(Retry::No, async |client| {
                let flags = OpenFlags::WRITE | OpenFlags::CREATE;
                let mut writer = client.open(&raw, flags, &attributes).await?.writer(0, 16 * MIB);
                for _ in 0..TOTAL / MIB {
                    writer.write(&part).await?;
                }
                writer.finish().await?.close().await
            });
            pool.block_on(write).unwrap();
        });
        timed("client alone, one connection, read", || {
            let read = single.pool().run(Retry::No, async |client| {
                let file = client.open(&raw, OpenFlags::READ, &attributes).await?;
                let mut reader = file.reader(0, u64::MAX, 16 * MIB);
                while reader.next().await?.is_some() {}
                Ok(())
            });
            pool.block_on(read).unwrap();
        });
        timed("uploads of 32 MiB, one at a time", || {
            for i in 0..8 {
                let mut upload = storage.upload().unwrap();
                for _ in 0..32 {
                    upload.write(&part).unwrap();
                }
                upload.finish(&pack(i)).unwrap();
            }
        });
        timed("uploads of 32 MiB, two at a time", || {
            std::thread::scope(|scope| {
                for half in 0..2 {
                    let (storage, part) = (&storage, &part);
                    scope.spawn(move || {
                        for i in 0..4 {
                            let mut upload = storage.upload().unwrap();
                            for _ in 0..32 {
                                upload.write(part).unwrap();
                            }
                            upload.finish(&pack(100 + half * 4 + i)).unwrap();
                        }
                    });
                }
            });
        });
        for threads in [1, 4, 16] {
            timed(&format!("ranges of 4 MiB, {threads} threads"), || {
                let next = AtomicU64::new(0);
                std::thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| {
                            let mut into = Vec::new();
                            loop {
                                let i = next.fetch_add(1, Ordering::Relaxed);
                                if i >= 64 {
                                    return;
                                }
                                let name = pack((i / 8) as u8);
                                let offset = (i % 8) * 4 * MIB as u64;
                                storage.get_range(&name, offset, 4 * MIB, &mut into).unwrap();
                            }
                        });
                    }
                });
            });
        }
        for threads in [1_u8, 16] {
            let start = Instant::now();
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let storage = &storage;
                    scope.spawn(move || {
                        for i in 0..64 / threads {
                            let name = ObjectName::key(RecordId::new(
                                [threads, thread, i, 0].repeat(4).try_into().unwrap(),
                            ));
                            storage.put(&name, &[1; 1000]).unwrap();
                        }
                    });
                }
            });
            let each = start.elapsed().as_secs_f64() * 1000.0 / 64.0;
            println!("  puts of 1 kB, {threads} threads: {each:.1} ms each");
        }
    }
}
