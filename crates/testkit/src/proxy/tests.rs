use super::*;
use std::sync::mpsc;

/// A server that gives back what it gets, one thread for each connection.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let _ = io::copy(&mut &stream, &mut &stream);
                let _ = stream.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends bytes and waits for them to come back; how long that took.
fn round_trip(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<Duration> {
    let start = Instant::now();
    stream.write_all(bytes)?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, bytes);
    Ok(start.elapsed())
}

fn is_over(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 1]), Ok(1))
}

#[test]
fn bytes_pass_unchanged_and_are_counted() {
    let proxy = Proxy::start(echo()).unwrap();
    let bytes = crate::clock::random_bytes(1, 3_000_000);
    let mut stream = connect(&proxy);
    let mut sender = stream.try_clone().unwrap();
    let sent = bytes.clone();
    let sender = thread::spawn(move || {
        sender.write_all(&sent).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    sender.join().unwrap();
    assert!(back == bytes);
    assert_eq!((proxy.bytes(Direction::Up), proxy.bytes(Direction::Down)), (3_000_000, 3_000_000));
    assert_eq!((proxy.accepted(), proxy.cuts()), (1, 0));
    // Closed in both directions, it is forgotten.
    while proxy.open() > 0 {
        thread::yield_now();
    }
}

#[test]
fn latency_delays_and_does_not_limit() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    assert!(round_trip(&mut stream, b"x").unwrap() < Duration::from_millis(80));
    proxy.set_latency(Duration::from_millis(50));
    let taken = round_trip(&mut stream, b"x").unwrap();
    assert!(taken >= Duration::from_millis(100) && taken < Duration::from_millis(250), "{taken:?}");

    // 60 MB that went in pieces of 64 KiB with a wait for each would take a minute and a half.
    let mut sender = stream.try_clone().unwrap();
    let start = Instant::now();
    let sender = thread::spawn(move || {
        for _ in 0..60 {
            sender.write_all(&[7; 1_000_000]).unwrap();
        }
    });
    let mut back = vec![0; 60_000_000];
    stream.read_exact(&mut back).unwrap();
    sender.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_receiver_that_takes_nothing_stops_the_sender() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    let mut stream = connect(&proxy);
    let (_receiver, _) = listener.accept().unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while let Ok(n) = stream.write(&[7; 100_000]) {
        sent += n;
        // The buffers of four sockets and the line.
        assert!(sent < LINE, "no bound");
    }
    assert!(sent > OVERDUE);
    // On a long line there is more room, and still an end.
    proxy.set_latency(Duration::from_secs(3600));
    let mut stream = connect(&proxy);
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while let Ok(n) = stream.write(&[7; 100_000]) {
        sent += n;
        assert!(sent < 2 * LINE, "no bound");
    }
    assert!(sent > LINE);
}

#[test]
fn cuts_come_at_the_planned_byte() {
    let proxy = Proxy::start(echo()).unwrap();
    let (mut stream, mut other) = (connect(&proxy), connect(&proxy));
    round_trip(&mut other, b"hello").unwrap();
    proxy.cut_after(Direction::Down, 100_000);
    let mut sender = stream.try_clone().unwrap();
    thread::spawn(move || while sender.write_all(&[7; 3000]).is_ok() {});
    let mut back = Vec::new();
    let _ = stream.read_to_end(&mut back);
    // The system may take from the client what it had not read when the connection broke.
    assert!(back.len() <= 100_000, "{}", back.len());
    assert!(is_over(&mut other));
    assert_eq!((proxy.cuts(), proxy.bytes(Direction::Down)), (1, 100_005));
    // Once only.
    round_trip(&mut connect(&proxy), &[7; 200_000]).unwrap();
}

#[test]
fn cuts_come_again_as_often_as_planned() {
    let proxy = Proxy::start(echo()).unwrap();
    proxy.cut_every(Direction::Up, 1000, 5);
    let mut trips = 0;
    for _ in 0..5 {
        let mut stream = connect(&proxy);
        while round_trip(&mut stream, &[7; 300]).is_ok() {
            trips += 1;
        }
    }
    // The client may see the end of the fifth before it is counted.
    let until = Instant::now() + Duration::from_secs(60);
    while proxy.cuts() < 5 && Instant::now() < until {
        thread::yield_now();
    }
    assert_eq!((trips, proxy.cuts(), proxy.bytes(Direction::Up)), (15, 5, 5000));
    assert!(round_trip(&mut connect(&proxy), &[7; 10_000]).is_ok());
    assert_eq!(proxy.cuts(), 5);
}

#[test]
fn cutting_now_ends_all_connections_and_loses_what_is_on_its_way() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut streams = [connect(&proxy), connect(&proxy), connect(&proxy)];
    for stream in &mut streams {
        round_trip(stream, b"x").unwrap();
    }
    proxy.set_latency(Duration::from_secs(3600));
    streams[0].write_all(b"lost").unwrap();
    assert_eq!(proxy.cut_all(), 3);
    for stream in &mut streams {
        assert!(is_over(stream));
    }
    assert_eq!((proxy.cuts(), proxy.bytes(Direction::Up)), (1, 3));
    proxy.set_latency(Duration::ZERO);
    round_trip(&mut connect(&proxy), b"x").unwrap();
}

#[test]
fn a_stall_keeps_bytes_back_until_it_ends() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    round_trip(&mut stream, b"x").unwrap();
    proxy.set_stalled(true);
    stream.write_all(b"waiting").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let error = stream.read(&mut [0; 10]).unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    assert_eq!((proxy.bytes(Direction::Up), proxy.open()), (1, 1));
    proxy.set_stalled(false);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut back = [0; 7];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"waiting");

    // A stalled connection can be cut.
    proxy.set_stalled(true);
    stream.write_all(b"waiting").unwrap();
    assert_eq!(proxy.cut_all(), 1);
    assert!(is_over(&mut stream));
}

#[test]
fn refused_is_refused_and_what_is_open_stays() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    round_trip(&mut stream, b"x").unwrap();
    for _ in 0..20 {
        proxy.set_refusing(true);
        proxy.set_refusing(true);
        let error = TcpStream::connect(proxy.address()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        round_trip(&mut stream, b"x").unwrap();
        proxy.set_refusing(false);
        round_trip(&mut connect(&proxy), b"x").unwrap();
    }
    // A server that is not there: connected, and closed at once.
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let proxy = Proxy::start(nobody).unwrap();
    assert!(is_over(&mut connect(&proxy)));
}

#[test]
fn nothing_is_left_when_the_proxy_goes() {
    let target = echo();
    for refusing in [false, true] {
        let (done, wait) = mpsc::channel();
        thread::spawn(move || {
            let proxy = Proxy::start(target).unwrap();
            let mut stream = connect(&proxy);
            round_trip(&mut stream, b"x").unwrap();
            if refusing {
                proxy.set_refusing(true);
            }
            proxy.set_stalled(true);
            let address = proxy.address();
            let state = Arc::downgrade(&proxy.state);
            drop(proxy);
            assert!(is_over(&mut stream));
            assert!(TcpStream::connect(address).is_err());
            while state.strong_count() > 0 {
                thread::yield_now();
            }
            done.send(()).unwrap();
        });
        wait.recv_timeout(Duration::from_secs(20)).expect("it hangs, or panicked");
    }
}

#[test]
fn a_rate_holds_for_all_connections_together() {
    let proxy = Proxy::start(echo()).unwrap();
    proxy.set_rate(2e6);
    let start = Instant::now();
    thread::scope(|scope| {
        for number in 0..2 {
            let mut stream = connect(&proxy);
            let bytes = crate::clock::random_bytes(number, 200_000);
            // Small enough to be on its way before the first of it comes back.
            scope.spawn(move || round_trip(&mut stream, &bytes).unwrap());
        }
    });
    // Never sooner, however slow the machine is.
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
}
