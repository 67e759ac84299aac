//! Clients that count as failure whatever is not exact: many short connections, and long transfers over both engines.

use std::{
    fs, io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use mc_testkit::{
    ca::{Ca, KeyExchange},
    wait_for,
};
use sha2::{Digest as _, Sha256};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

use crate::{clients::client_hello, limits::open, world::World};

/// Clients that connect anew all the time.
const CLIENTS: usize = 6;
const ENGINES: [(&str, &str); 2] = [
    ("copy", "copy.upgrade.example.org"),
    ("sockmap", "sockmap.upgrade.example.org"),
];
/// A transfer's piece: several segments.
const PIECE: usize = 48 * 1024;
/// Between pieces, lest transfers take the machine from the daemons.
const PACE: Duration = Duration::from_millis(2);

#[derive(Debug, Default)]
struct Tally {
    done: AtomicU64,
    stop: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Tally {
    fn note(&self, what: &str, result: io::Result<()>) {
        match result {
            Ok(()) => {
                self.done.fetch_add(1, Relaxed);
            }
            Err(error) => {
                let mut failures = self.failures.lock().unwrap();
                // The first ones say it all.
                if failures.len() < 16 {
                    failures.push(format!("{what}: {error}"));
                }
                self.stop.store(true, Relaxed);
            }
        }
    }

    /// Waits until everybody has done something since.
    fn progress(&self) -> Result<()> {
        let before = self.done.load(Relaxed);
        let enough = 4 * CLIENTS as u64;
        wait_for("progress of the clients", || {
            let failed = self.stop.load(Relaxed);
            (failed || self.done.load(Relaxed) >= before + enough).then_some(())
        })?;
        self.clean()
    }

    fn clean(&self) -> Result<()> {
        let failures = self.failures.lock().unwrap();
        ensure!(failures.is_empty(), "{failures:#?}");
        Ok(())
    }
}

/// Something goes there and comes back.
pub(super) async fn echoes(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"ping").await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    match &answer {
        b"ping" => Ok(()),
        _ => Err(io::Error::other("it came back changed")),
    }
}

/// Connects, sends, receives, closes.
async fn visit(hello: &[u8]) -> io::Result<()> {
    let mut stream = open(hello).await?;
    echoes(&mut stream).await?;
    stream.shutdown().await?;
    match stream.read(&mut [0; 1]).await? {
        0 => Ok(()),
        _ => Err(io::Error::other("more than was sent came back")),
    }
}

/// Sends and receives until it is to stop; then the sum of all that came back is compared.
async fn transfer(hello: &[u8], seed: u64, tally: &Tally) -> io::Result<()> {
    let mut stream = open(hello).await?;
    // What is lost or late is to show, not to be hidden in buffers.
    SockRef::from(&stream).set_tcp_nodelay(true)?;
    let (mut sent, mut received) = (Sha256::new(), Sha256::new());
    let (mut piece, mut state) = (vec![0; PIECE], seed | 1);
    while !tally.stop.load(Relaxed) {
        for word in piece.chunks_mut(8) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
        sent.update(&piece);
        let (mut read, mut write) = stream.split();
        let mut back = vec![0; PIECE];
        tokio::try_join!(write.write_all(&piece), read.read_exact(&mut back))?;
        received.update(&back);
        tally.done.fetch_add(1, Relaxed);
        tokio::time::sleep(PACE).await;
    }
    stream.shutdown().await?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await?;
    if !rest.is_empty() || sent.finalize() != received.finalize() {
        return Err(io::Error::other("what came back is not what was sent"));
    }
    Ok(())
}

/// Clients at work.
pub(super) struct Load {
    tally: Arc<Tally>,
    flowing: Mutex<Vec<Arc<Tally>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    hellos: Vec<Vec<u8>>,
}

/// Transfers that have begun.
pub(super) struct Flowing(Arc<Tally>);

impl Flowing {
    /// They still flow.
    pub(super) fn progress(&self) -> Result<()> {
        self.0.progress()
    }
}

impl Load {
    /// Routes over both engines and [`CLIENTS`] clients on them.
    pub(super) fn start(world: &World) -> Result<Self> {
        // Thousands of closed connections must not use up the ports.
        world.client.run(|| {
            fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1")?;
            fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535")
        })??;
        let ca = Ca::new()?;
        let mut hellos = Vec::new();
        for (engine, name) in ENGINES {
            let hello = client_hello(&ca, name, KeyExchange::PostQuantum)?;
            let backend = world.echo(hello.len())?;
            world.run(&format!(
                "route add {name} --backend {backend} --engine {engine}"
            ))?;
            hellos.push(hello);
        }
        let load = Self {
            tally: Arc::default(),
            flowing: Mutex::default(),
            tasks: Mutex::default(),
            hellos,
        };
        for client in 0..CLIENTS {
            let (tally, hello) = (Arc::clone(&load.tally), load.hellos[client % 2].clone());
            load.spawn(world, async move {
                while !tally.stop.load(Relaxed) {
                    tally.note("a new connection", visit(&hello).await);
                }
            });
        }
        Ok(load)
    }

    fn spawn(&self, world: &World, work: impl Future<Output = ()> + Send + 'static) {
        let task = world.client_runtime.spawn(work);
        self.tasks.lock().unwrap().push(task);
    }

    /// A transfer over each engine, begun when this returns.
    pub(super) fn transfers(&self, world: &World) -> Result<Flowing> {
        let tally = Arc::<Tally>::default();
        for (seed, hello) in self.hellos.iter().enumerate() {
            let (tally, hello) = (Arc::clone(&tally), hello.clone());
            self.spawn(world, async move {
                let done = transfer(&hello, seed as u64, &tally).await;
                tally.note("a transfer", done);
            });
        }
        self.flowing.lock().unwrap().push(Arc::clone(&tally));
        let flowing = Flowing(tally);
        flowing.progress()?;
        Ok(flowing)
    }

    /// Connections still succeed.
    pub(super) fn progress(&self) -> Result<()> {
        self.tally.progress()
    }

    /// Ends everything; nothing may have failed.
    pub(super) fn finish(self, world: &World) -> Result<()> {
        let flowing = self.flowing.into_inner()?;
        for tally in flowing.iter().chain([&self.tally]) {
            tally.stop.store(true, Relaxed);
        }
        for task in self.tasks.into_inner()? {
            let ended = async { tokio::time::timeout(mc_testkit::DEADLINE, task).await };
            let ended = world.client_runtime.block_on(ended);
            ended.context("a client that hangs")??;
        }
        for tally in flowing.iter().chain([&self.tally]) {
            tally.clean()?;
        }
        Ok(())
    }
}
