//! Mutants of what a real server sent: to every decoder, and to a whole client.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use holdfast_connectors::sftp::client::{
    Attributes, Client, ClientOptions, OpenFlags, WriteSmall, fuzz,
};
use holdfast_testkit::{Budget, fuzz_for};
use tokio::io::{AsyncRead, ReadBuf};

use crate::sftp_client::{soon, start};

/// Keeps what passes through it, and changes one byte of it if it is to.
struct Tap<R> {
    inner: R,
    seen: Arc<Mutex<Vec<u8>>>,
    /// Where, and the bits to turn over.
    change: Option<(usize, u8)>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Tap<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let answer = Pin::new(&mut self.inner).poll_read(context, buffer);
        let new = &mut buffer.filled_mut()[before..];
        let mut seen = self.seen.lock().unwrap();
        if let Some((at, bits)) = self.change
            && let Some(byte) = at.checked_sub(seen.len()).and_then(|at| new.get_mut(at))
        {
            *byte ^= bits;
        }
        seen.extend(&*new);
        drop(seen);
        answer
    }
}

/// One call of every kind, one after the other, so that ids are the same in every run.
async fn talk(client: &Client, directory: &std::path::Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let at = |name: &str| [directory.as_os_str().as_bytes(), b"/", name.as_bytes()].concat();
    let mut good = true;
    good &= client.write_small(&at("f"), &[7; 900], &WriteSmall::default()).await.is_ok();
    good &= client.read_small(&at("f"), 900).await.is_ok_and(|f| f.bytes == [7; 900]);
    good &= client.stat(&at("f")).await.is_ok();
    good &= client.symlink(b"f", &at("l")).await.is_ok();
    good &= client.read_link(&at("l")).await.is_ok();
    good &= client.list(&at("")).await.is_ok_and(|entries| entries.len() == 2);
    good &= client.names_by_id(&[0, 1], &[0]).await.is_ok();
    good &= client.file_system(b"/").await.is_ok();
    good &= client.realpath(&at("l")).await.is_ok();
    if let Ok(file) = client.open(&at("f"), OpenFlags::READ, &Attributes::default()).await {
        good &= file.read_range(0, 2000).await.is_ok_and(|bytes| bytes.len() == 900);
        good &= file.close().await.is_ok();
    }
    good &= client.remove(&at("l")).await.is_ok();
    good &= client.remove(&at("f")).await.is_ok();
    good
}

/// What a real server says in such a talk, with one byte of it changed if it is to be; and what
/// comes of it: nothing if there is no connection, else whether all went well.
async fn overhear(change: Option<(usize, u8)>) -> (Vec<u8>, Option<bool>) {
    let directory = crate::scratch();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (_process, output, input) = start(&[]);
    let output = Tap { inner: output, seen: seen.clone(), change };
    // A length that is changed makes the client wait for what never comes.
    let timeout = Duration::from_millis(if change.is_some() { 200 } else { 20_000 });
    let options = ClientOptions { timeout, ..ClientOptions::default() };
    let outcome = match soon(Client::connect_halves(output, input, &options)).await {
        Ok(client) => Some(soon(talk(&client, directory.path())).await),
        Err(_) => None,
    };
    let seen = seen.lock().unwrap().clone();
    (seen, outcome)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The packets, by their type: what is behind the length.
fn packets(mut bytes: &[u8]) -> BTreeMap<u8, Vec<Vec<u8>>> {
    let mut found = BTreeMap::<u8, Vec<Vec<u8>>>::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (packet, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        found.entry(packet[0]).or_default().push(packet.to_vec());
        bytes = rest;
    }
    found
}

#[test]
fn decoders_stand_any_bytes() {
    let packets = packets(&runtime().block_on(overhear(None)).0);
    let kinds: Vec<u8> = packets.keys().copied().collect();
    assert_eq!(kinds, [2, 101, 102, 103, 104, 105, 201]);
    // "Version" has no id.
    let behind = |kind: u8| if kind == 2 { 1 } else { 5 };
    let bodies: Vec<_> = packets
        .iter()
        .flat_map(|(kind, list)| list.iter().map(|packet| packet[behind(*kind)..].to_vec()))
        .collect();
    fuzz_for(Budget::from_env_or(40_000), 1, &bodies, &fuzz::reply);
    let attributes: Vec<_> = packets[&105].iter().map(|packet| packet[5..].to_vec()).collect();
    fuzz_for(Budget::from_env_or(40_000), 2, &attributes, &fuzz::attributes);
}

#[test]
fn a_client_stands_a_server_that_says_anything() {
    let runtime = runtime();
    let (heard, outcome) = runtime.block_on(overhear(None));
    assert_eq!(outcome, Some(true));
    let (mut unconnected, mut well, mut badly) = (0, 0, 0);
    // Bytes all over the talk, most of all those that are not content, and all bits.
    for run in 0..300_usize {
        let change = (run * 7919 % heard.len(), [1, 0x80, 0xff, 4][run % 4]);
        match runtime.block_on(overhear(Some(change))).1 {
            None => unconnected += 1,
            Some(true) => well += 1,
            Some(false) => badly += 1,
        }
    }
    // Content and times may change and be none the wiser; the talk notices the rest.
    assert!(unconnected > 5 && badly > 60, "{unconnected} {well} {badly}");
}
