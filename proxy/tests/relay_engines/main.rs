//! Both engines against real sockets: exact bytes, half-close, resets, limits, stalled readers.
#![allow(missing_docs)]

mod repair;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use mc_proxy::{
    kernel::Kernel,
    relay::{
        BufferPool, CopyEngine, End, Engine, Job, Limits, MAX_SPARE, Outcome, Side, SockmapEngine,
        Traffic,
    },
};
use mc_testkit::netns::Namespace;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

const WAIT: Duration = Duration::from_secs(60);
/// Socket buffers in the stalled reader test, so that what is beyond them shows.
const SMALL: u32 = 64 * 1024;

/// Engines under test; the kernel side lives as long.
struct Bench {
    engines: Vec<Arc<dyn Engine>>,
    sockmap: SockmapEngine,
    pool: BufferPool,
    _kernel: Kernel,
    pins: std::path::PathBuf,
}

impl Bench {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Relaxed);
        let name = format!("mc-relay-{}-{n}", std::process::id());
        let pins = std::path::Path::new("/sys/fs/bpf").join(name);
        let mut kernel = Kernel::open(&pins).expect("root, bpffs on /sys/fs/bpf");
        let pool = BufferPool::default();
        let sockmap = SockmapEngine::new(&mut kernel, pool.clone()).expect("sk_skb loads");
        let copy = Arc::new(CopyEngine::new(pool.clone()));
        Self {
            engines: vec![copy, Arc::new(sockmap.clone())],
            sockmap,
            pool,
            _kernel: kernel,
            pins,
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.pins);
    }
}

/// A connection through an engine: `client` <-> engine <-> `backend`.
struct Link {
    client: TcpStream,
    backend: TcpStream,
    traffic: Arc<Traffic>,
    cancel: CancellationToken,
    job: Option<Job>,
}

async fn connected(buffer: Option<u32>) -> (TcpStream, TcpStream) {
    let (listening, connecting) = (TcpSocket::new_v4().unwrap(), TcpSocket::new_v4().unwrap());
    for socket in [&listening, &connecting] {
        if let Some(len) = buffer {
            socket.set_recv_buffer_size(len).unwrap();
            socket.set_send_buffer_size(len).unwrap();
        }
    }
    listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listening.listen(16).unwrap();
    let there = connecting.connect(listener.local_addr().unwrap());
    let (there, here) = tokio::join!(there, listener.accept());
    let (there, here) = (there.unwrap(), here.unwrap().0);
    there.set_nodelay(true).unwrap();
    here.set_nodelay(true).unwrap();
    (there, here)
}

async fn link(limits: Limits, buffer: Option<u32>) -> Link {
    let (client, accepted) = connected(buffer).await;
    let (ours, backend) = connected(buffer).await;
    let traffic = Arc::new(Traffic::default());
    let cancel = CancellationToken::new();
    let job = Some(Job {
        client: accepted,
        backend: ours,
        limits,
        traffic: traffic.clone(),
        cancel: cancel.clone(),
    });
    Link {
        client,
        backend,
        traffic,
        cancel,
        job,
    }
}

impl Link {
    fn start(&mut self, engine: &Arc<dyn Engine>) -> JoinHandle<Outcome> {
        tokio::spawn(engine.relay(self.job.take().expect("started once")))
    }
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

async fn send(mut to: impl AsyncWriteExt + Unpin, data: &[u8], chunk: usize) {
    for part in data.chunks(chunk) {
        to.write_all(part).await.unwrap();
    }
    to.shutdown().await.unwrap();
}

async fn receive(mut from: impl AsyncReadExt + Unpin) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).await?;
    Ok(all)
}

fn assert_same(got: &[u8], want: &[u8], what: &str) {
    if got != want {
        let at = got.iter().zip(want).position(|(a, b)| a != b);
        panic!(
            "{what}: got {} bytes of {}, first difference {at:?}",
            got.len(),
            want.len()
        );
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: timed out"))
}

/// Sends both ways at once and checks bytes, end and counters.
async fn exchange(engine: &Arc<dyn Engine>, seed: u64, up: usize, down: usize, chunk: usize) {
    let what = format!(
        "{} seed {seed} up {up} down {down} chunk {chunk}",
        engine.name()
    );
    let mut link = link(Limits::default(), None).await;
    let relay = link.start(engine);
    let (sent_up, sent_down) = (bytes(seed, up), bytes(!seed, down));
    let (cr, cw) = link.client.into_split();
    let (br, bw) = link.backend.into_split();
    let both = async {
        tokio::join!(
            send(cw, &sent_up, chunk),
            send(bw, &sent_down, chunk),
            receive(br),
            receive(cr)
        )
    };
    let (_, _, got_up, got_down) = within(&what, both).await;
    assert_same(&got_up.unwrap(), &sent_up, &what);
    assert_same(&got_down.unwrap(), &sent_down, &what);
    assert_eq!(
        within(&what, relay).await.unwrap().end,
        End::Closed,
        "{what}"
    );
    assert_eq!(link.traffic.from_client.load(Relaxed), up as u64, "{what}");
    assert_eq!(link.traffic.to_client.load(Relaxed), down as u64, "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_exact_both_ways() {
    let bench = Bench::new();
    for engine in &bench.engines {
        for (up, down, chunk) in [
            (0, 0, 1),
            (1, 1, 1),
            (0, 5000, 777),
            (5000, 0, 1),
            (3_000_000, 2_000_000, 10_000),
        ] {
            exchange(engine, 7, up, down, chunk).await;
        }
        let many = (0..200u64).map(|i| {
            let engine = engine.clone();
            let size = bytes(i, 4);
            let up = usize::from(size[0]) * usize::from(size[1]) * 4;
            let down = usize::from(size[2]) * usize::from(size[3]) * 4;
            tokio::spawn(async move { exchange(&engine, i, up, down, 1 + up / 7).await })
        });
        for task in many.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    }
    assert_eq!(bench.sockmap.sockets(), 0, "entries are removed");
    assert!(bench.pool.spare() <= MAX_SPARE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_and_fin_race() {
    let bench = Bench::new();
    for engine in &bench.engines {
        for i in 0..1000 {
            exchange(engine, i, 30_000, 100, 30_000).await;
        }
    }
    assert_eq!(bench.sockmap.sockets(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queued_before_start_arrives_first() {
    let bench = Bench::new();
    for engine in &bench.engines {
        for fin in [false, true] {
            let what = format!("{} FIN before: {fin}", engine.name());
            let mut link = link(Limits::default(), None).await;
            let data = bytes(3, 200_000);
            link.client.write_all(&data[..50_000]).await.unwrap();
            if fin {
                link.client.shutdown().await.unwrap();
                let ours = &link.job.as_ref().unwrap().client;
                let readable = tokio::io::Interest::READABLE;
                within(&what, async {
                    while !ours.ready(readable).await.unwrap().is_read_closed() {
                        tokio::task::yield_now().await;
                    }
                })
                .await;
            }
            let relay = link.start(engine);
            if !fin {
                link.client.write_all(&data[50_000..]).await.unwrap();
                link.client.shutdown().await.unwrap();
            }
            let want = if fin { &data[..50_000] } else { &data[..] };
            let got = within(&what, receive(&mut link.backend)).await.unwrap();
            assert_same(&got, want, &what);
            drop(link.backend);
            let outcome = within(&what, relay).await.unwrap();
            assert_eq!(outcome.end, End::Closed, "{what}");
            let fallback = (engine.name() == "sockmap" && fin).then_some("not_established");
            assert_eq!(outcome.fallback, fallback, "{what}");
        }
    }
    assert_eq!(bench.sockmap.sockets(), 0);
}

/// What the daemon does with a ClientHello: it reads only as far as it must.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_read_in_part_is_not_sent_again() {
    let bench = Bench::new();
    for engine in &bench.engines {
        for taken in [1, 1999, 30_000, 49_999, 50_000] {
            let what = format!("{} {taken} bytes read before", engine.name());
            let mut link = link(Limits::default(), None).await;
            let data = bytes(3, 200_000);
            link.client.write_all(&data[..50_000]).await.unwrap();
            let ours = &mut link.job.as_mut().unwrap().client;
            let mut before = vec![0; taken];
            within(&what, ours.read_exact(&mut before)).await.unwrap();
            assert_same(&before, &data[..taken], &what);
            let relay = link.start(engine);
            link.client.write_all(&data[50_000..]).await.unwrap();
            link.client.shutdown().await.unwrap();
            let got = within(&what, receive(&mut link.backend)).await.unwrap();
            assert_same(&got, &data[taken..], &what);
            drop(link.backend);
            let outcome = within(&what, relay).await.unwrap();
            assert_eq!(outcome.end, End::Closed, "{what}");
        }
    }
    assert_eq!(bench.sockmap.sockets(), 0);
}

/// A retransmission that joins a segment that arrived with one that did not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overlapping_retransmission_is_not_sent_twice() {
    let bench = Bench::new();
    let data = bytes(5, 60_000);
    for engine in &bench.engines {
        for (first, overlap) in [(100, 1), (1000, 1000), (20_000, 4200)] {
            let what = format!("{} {first} bytes, {overlap} again", engine.name());
            let mut link = link(Limits::default(), None).await;
            let relay = link.start(engine);
            link.client.write_all(&data[..first]).await.unwrap();
            let mut got = vec![0; first];
            within(&what, link.backend.read_exact(&mut got))
                .await
                .unwrap();
            let client = link.client.into_std().unwrap();
            let client = repair::rewind(client, u32::try_from(overlap).unwrap());
            client.set_nonblocking(true).unwrap();
            let mut client = TcpStream::from_std(client).unwrap();
            client.write_all(&data[first - overlap..]).await.unwrap();
            client.shutdown().await.unwrap();
            got.extend(within(&what, receive(&mut link.backend)).await.unwrap());
            assert_same(&got, &data, &what);
            drop(link.backend);
            let outcome = within(&what, relay).await.unwrap();
            assert_eq!(outcome.end, End::Closed, "{what}");
        }
    }
    assert_eq!(bench.sockmap.sockets(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_other_end_resets_both() {
    let bench = Bench::new();
    let ms = Some(Duration::from_millis(50));
    let none = Limits::default();
    let rows = [
        ("client resets", none, End::Reset(Side::Client)),
        ("backend resets", none, End::Reset(Side::Backend)),
        ("idle", Limits { idle: ms, ..none }, End::Idle),
        (
            "max age",
            Limits {
                max_age: ms,
                ..none
            },
            End::MaxAge,
        ),
        ("cancel", none, End::Cancelled),
    ];
    for engine in &bench.engines {
        for (description, limits, end) in rows {
            let what = format!("{} {description}", engine.name());
            let mut link = link(limits, None).await;
            let relay = link.start(engine);
            if limits.idle.is_none() && limits.max_age.is_none() {
                link.client.write_all(b"x").await.unwrap();
                within(&what, link.backend.read_exact(&mut [0]))
                    .await
                    .unwrap();
            }
            let (mut client, mut backend) = (Some(link.client), Some(link.backend));
            let gone = match end {
                End::Reset(Side::Client) => client.take(),
                End::Reset(Side::Backend) => backend.take(),
                _ => None,
            };
            if let Some(stream) = &gone {
                let socket = socket2::SockRef::from(stream);
                socket.set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(gone);
            if end == End::Cancelled {
                link.cancel.cancel();
            }
            for stream in client.into_iter().chain(backend) {
                let error = within(&what, receive(stream)).await.expect_err(&what);
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{what}");
            }
            assert_eq!(within(&what, relay).await.unwrap().end, end, "{what}");
        }
    }
    assert_eq!(bench.sockmap.sockets(), 0);
}

/// Writes until nothing more is accepted, then lets the reader go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_reader_is_bounded_and_resumes() {
    let bench = Bench::new();
    for engine in &bench.engines {
        for trial in 0..20u64 {
            let what = format!("{} trial {trial}", engine.name());
            let mut link = link(Limits::default(), Some(SMALL)).await;
            let relay = link.start(engine);
            let data = bytes(trial, 12 << 20);
            let (mut taken, mut still) = (0, 0);
            // Stalled = 100 ms without a byte accepted.
            while still < 10 && taken < data.len() {
                match link
                    .client
                    .try_write(&data[taken..(taken + 65_536).min(data.len())])
                {
                    Ok(n) => (taken, still) = (taken + n, 0),
                    Err(_) => {
                        still += 1;
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            }
            // Four sockets' buffers (the kernel doubles what was set) and a pooled one.
            let bound = (4 << 20) + 8 * SMALL as usize + 65_536;
            assert!(
                taken <= bound,
                "{what}: {taken} bytes accepted, bound {bound}"
            );
            if trial == 0 {
                println!("{what}: stalled after {taken} bytes");
            }
            let (cr, cw) = link.client.into_split();
            let rest = send(cw, &data[taken..], 65_536);
            let both = async { tokio::join!(receive(&mut link.backend), rest).0 };
            assert_same(&within(&what, both).await.unwrap(), &data, &what);
            drop((cr, link.backend));
            assert_eq!(
                within(&what, relay).await.unwrap().end,
                End::Closed,
                "{what}"
            );
        }
    }
    assert_eq!(bench.sockmap.sockets(), 0);
}

/// A reader slower than the writer: redirecting pauses and resumes over and over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_reader_gets_exact_bytes() {
    let bench = Bench::new();
    for engine in &bench.engines {
        let what = format!("{} slow reader", engine.name());
        let mut link = link(Limits::default(), Some(SMALL)).await;
        let relay = link.start(engine);
        let data = bytes(9, 24 << 20);
        let (cr, cw) = link.client.into_split();
        let read = async {
            let (mut got, mut buffer) = (Vec::new(), vec![0; 50_000]);
            loop {
                let n = link.backend.read(&mut buffer).await.unwrap();
                if n == 0 {
                    break got;
                }
                got.extend_from_slice(&buffer[..n]);
                if got.len() % 7 == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        };
        let both = async { tokio::join!(read, send(cw, &data, 9_999)).0 };
        assert_same(&within(&what, both).await, &data, &what);
        drop((cr, link.backend));
        assert_eq!(
            within(&what, relay).await.unwrap().end,
            End::Closed,
            "{what}"
        );
    }
}

/// Segments that its own queue drops are counted as sent, and sent again; receivers see retransmissions.
#[test]
fn a_device_that_drops_changes_nothing() {
    let bench = Bench::new();
    let namespace = Namespace::new("drop").unwrap();
    let tbf = "qdisc replace dev lo root tbf rate 500mbit burst 80k limit 90k";
    let status = namespace.command("tc").args(tbf.split(' ')).status();
    assert!(status.unwrap().success(), "tc {tbf}");
    let runtime = namespace.runtime().unwrap();
    for engine in &bench.engines {
        let many = (0..24u64).map(|i| {
            let engine = engine.clone();
            let (up, down) = (1_000_000 + 1000 * i as usize, 300_000);
            runtime.spawn(async move { exchange(&engine, i, up, down, 700 << (i % 7)).await })
        });
        for task in many.collect::<Vec<_>>() {
            runtime.block_on(task).unwrap();
        }
    }
    assert_eq!(bench.sockmap.sockets(), 0);
    drop(runtime);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run with --release -- --nocapture --ignored"]
async fn throughput() {
    let bench = Bench::new();
    let total: usize = 2 << 30;
    for engine in &bench.engines {
        let mut link = link(Limits::default(), None).await;
        let future = engine.relay(link.job.take().unwrap());
        let size = size_of_val(&*future);
        let relay = tokio::spawn(future);
        let start = std::time::Instant::now();
        let mut client = link.client;
        let writer = tokio::spawn(async move {
            let block = vec![7; 256 * 1024];
            for _ in 0..total / block.len() {
                client.write_all(&block).await.unwrap();
            }
            client.shutdown().await.unwrap();
            client
        });
        let (mut buffer, mut got) = (vec![0; 256 * 1024], 0);
        while got < total {
            got += link.backend.read(&mut buffer).await.unwrap();
        }
        let rate = total as f64 * 8e-9 / start.elapsed().as_secs_f64();
        println!("{}: {rate:.1} Gbit/s, future {size} bytes", engine.name());
        drop((writer.await.unwrap(), link.backend));
        relay.await.unwrap();
    }
}
