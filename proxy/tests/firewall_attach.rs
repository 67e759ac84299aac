//! Attachment in a network namespace, with real TCP over a veth pair.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use mc_proxy::{
    firewall::{Change, Firewall},
    kernel::{self, Kernel, LinkMode},
    spec::{Action, Rule, RuleKind},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

/// Two namespaces and a veth pair: `node` (10.77.0.1, where the firewall is) and `peer` (10.77.0.2).
struct Net {
    name: String,
    pins: PathBuf,
}

fn ip(args: &str) {
    let output = Command::new("ip")
        .args(args.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "ip {args}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Net {
    fn new(test: &str) -> Self {
        let name = format!("mcfw{}{test}", std::process::id());
        let net = Self {
            pins: PathBuf::from(format!("/sys/fs/bpf/mc-test-{name}")),
            name,
        };
        ip(&format!("netns add {}n", net.name));
        ip(&format!("netns add {}p", net.name));
        net.pair();
        net
    }

    fn pair(&self) {
        let name = &self.name;
        ip(&format!(
            "-n {name}n link add node type veth peer name peer netns {name}p"
        ));
        for (ns, device, address) in [("n", "node", 1), ("p", "peer", 2)] {
            ip(&format!(
                "-n {name}{ns} addr add 10.77.0.{address}/24 dev {device}"
            ));
            ip(&format!("-n {name}{ns} link set {device} up"));
        }
    }

    /// Runs a function in one of the namespaces, on a thread of its own.
    fn within<T: Send>(&self, side: &str, f: impl FnOnce() -> T + Send) -> T {
        let file = fs::File::open(format!("/run/netns/{}{side}", self.name)).unwrap();
        thread::scope(|scope| {
            scope
                .spawn(move || {
                    setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                    f()
                })
                .join()
                .unwrap()
        })
    }

    fn kernel(&self) -> (Kernel, Firewall) {
        let mut kernel = Kernel::open(&self.pins).unwrap();
        let firewall = Firewall::open(&mut kernel, Arc::new(|_| 0)).unwrap();
        (kernel, firewall)
    }

    /// A second firewall, without rules, with pins of its own.
    fn other_kernel(&self) -> (Kernel, Firewall) {
        let mut kernel = Kernel::open(&self.other_pins()).unwrap();
        let firewall = Firewall::open(&mut kernel, Arc::new(|_| 0)).unwrap();
        (kernel, firewall)
    }

    fn other_pins(&self) -> PathBuf {
        PathBuf::from(format!("{}o", self.pins.display()))
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        self.within("p", || {
            TcpStream::connect_timeout(&"10.77.0.1:443".parse().unwrap(), Duration::from_secs(1))
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for pins in [&self.pins, &self.other_pins()] {
            let _ = kernel::detach(pins);
            let _ = fs::remove_dir(pins);
        }
        for side in ["n", "p"] {
            let _ = Command::new("ip")
                .args(["netns", "del", &format!("{}{side}", self.name)])
                .output();
        }
    }
}

fn rule(id: u32, kind: RuleKind, action: Action) -> Change {
    Change::Set(Rule {
        id,
        kind,
        cidr: "10.77.0.2/32".parse().unwrap(),
        action,
        expires: (kind == RuleKind::Ban).then(|| SystemTime::now() + Duration::from_secs(600)),
        comment: String::new(),
        created: SystemTime::now(),
    })
}

fn echo(client: &mut TcpStream, server: &mut TcpStream) -> std::io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(1)))?;
    server.set_read_timeout(Some(Duration::from_secs(1)))?;
    client.write_all(b"x")?;
    server.read_exact(&mut [0])?;
    server.write_all(b"y")?;
    client.read_exact(&mut [0])
}

#[test]
fn tcp_through_the_filter_and_its_life_without_a_daemon() {
    let net = Net::new("t");
    let listener = net.within("n", || TcpListener::bind("10.77.0.1:443").unwrap());
    let (mut kernel, firewall) = net.kernel();
    let status = net.within("n", || kernel.attach("node").unwrap());
    assert_eq!(status.mode, LinkMode::Native, "{status:?}");
    // veth wakes the receiver of an XDP_TX frame only if it has an XDP program as well (veth_xdp_flush).
    let (mut other, _rules) = net.other_kernel();
    net.within("p", || other.attach("peer").unwrap());
    let mut client = net.connect().unwrap();
    let mut server = listener.accept().unwrap().0;
    echo(&mut client, &mut server).unwrap();

    firewall
        .apply(&[rule(16, RuleKind::Block, Action::Reset)])
        .unwrap();
    let refused = net.connect().unwrap_err();
    assert_eq!(
        refused.kind(),
        std::io::ErrorKind::ConnectionRefused,
        "reset"
    );
    echo(&mut client, &mut server).expect("an established flow survives a block");

    firewall
        .apply(&[rule(16, RuleKind::Block, Action::Drop)])
        .unwrap();
    assert_eq!(
        net.connect().unwrap_err().kind(),
        std::io::ErrorKind::TimedOut,
        "drop"
    );

    drop((kernel, firewall)); // as kill -9 does
    assert_eq!(
        net.connect().unwrap_err().kind(),
        std::io::ErrorKind::TimedOut,
        "still in force"
    );
    let (mut kernel, firewall) = net.kernel();
    let status = net.within("n", || kernel.attach("node").unwrap());
    assert_eq!(status.mode, LinkMode::Native, "taken over: {status:?}");
    assert_eq!(
        net.connect().unwrap_err().kind(),
        std::io::ErrorKind::TimedOut,
        "and still"
    );
    let found = firewall.reconcile(&[], true).unwrap();
    assert_eq!((found.len(), found[0].map), (1, "HOSTS4"), "{found:?}");
    echo(&mut client, &mut server).unwrap();
    net.connect().unwrap();

    firewall
        .apply(&[rule(17, RuleKind::Ban, Action::Drop)])
        .unwrap();
    echo(&mut client, &mut server).expect_err("a ban cuts an established flow");
    drop((kernel, firewall));
    assert_eq!(kernel::detach(&net.pins).unwrap(), ["node"]);
    // The kernel may release an unpinned link a moment later.
    assert!((0..5).any(|_| net.connect().is_ok()), "detached");
    assert_eq!(
        fs::read_dir(&net.pins).unwrap().count(),
        0,
        "no pin is left"
    );
}

#[test]
fn one_daemon_to_a_pin_directory() {
    let net = Net::new("l");
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("mc-proxy.toml");
    fs::write(
        &file,
        format!("[firewall]\npin_path = \"{}\"\n", net.pins.display()),
    )
    .unwrap();
    let detach = || {
        Command::new(env!("CARGO_BIN_EXE_mc-proxy"))
            .arg("--root")
            .arg(root.path())
            .arg("detach")
            .output()
            .unwrap()
    };
    let lock = kernel::lock(&net.pins).unwrap();
    let (mut kernel, firewall) = net.kernel();
    net.within("n", || kernel.attach("node").unwrap());
    drop((kernel, firewall));

    let error = kernel::lock(&net.pins).unwrap_err().to_string();
    for part in [&*net.pins.to_string_lossy(), "firewall.pin_path"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let output = detach();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{output:?}");
    assert!(said.contains("mcproxyctl detach"), "{said}");
    let links = net.within("n", || {
        kernel::links(&kernel::pins(&net.pins)).unwrap().len()
    });
    assert_eq!(links, 1, "the refused detach left it attached");

    drop(lock);
    let output = detach();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "detached from node\n"
    );
}

/// A search through the descriptors of /proc took a status of a daemon with 20,000 connections most of a second.
#[test]
fn links_are_found_without_proc() {
    let net = Net::new("f");
    let (mut kernel, _firewall) = net.kernel();
    let links = net.within("n", || {
        kernel.attach("node").unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("none"), "/proc", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        assert!(!fs::exists("/proc/self").unwrap());
        kernel.attach("node").unwrap();
        kernel::links(&kernel.pins).unwrap()
    });
    assert_eq!(links[0].mode, LinkMode::Native, "{links:?}");
}

#[test]
fn another_layout_gives_its_links_away() {
    let net = Net::new("u");
    let (mut kernel, firewall) = net.kernel();
    kernel.check().unwrap();
    net.within("n", || kernel.attach("node").unwrap());
    net.within("p", || kernel.attach("peer").unwrap());
    let new = kernel.pins.clone();
    let old = net.pins.join("v0");
    drop((kernel, firewall));
    fs::rename(&new, &old).unwrap();

    let (mut kernel, _firewall) = net.kernel();
    let status = net.within("n", || kernel.attach("node").unwrap());
    assert_eq!(status.mode, LinkMode::Native, "{status:?}");
    assert!(new.join("link-node").exists() && !old.join("link-node").exists());
    assert!(old.join("link-peer").exists(), "still live");
    net.within("p", || kernel.attach("peer").unwrap());
    assert!(!old.exists(), "nothing is left in it");
    fs::rename(&new, &old).unwrap();
    let mut detached = kernel::detach(&net.pins).unwrap();
    detached.sort();
    assert_eq!(detached, ["node", "peer"]);
    assert!(!old.exists());
}

#[test]
fn modes_strangers_and_interfaces_made_again() {
    let net = Net::new("m");
    let name = &net.name;
    for (ns, device) in [("n", "node"), ("p", "peer")] {
        ip(&format!("-n {name}{ns} link set {device} mtu 9000"));
    }
    let (mut kernel, _firewall) = net.kernel();
    let status = net.within("n", || kernel.attach("node").unwrap());
    assert_eq!(status.mode, LinkMode::Generic);
    assert!(status.detail.contains("MTU"), "{status:?}");

    ip(&format!("-n {name}n link del node"));
    net.pair();
    let pins = kernel.pins.clone();
    let links = net.within("n", || kernel::links(&pins).unwrap());
    assert_eq!(links[0].mode, LinkMode::Detached, "{links:?}");
    let status = net.within("n", || kernel.attach("node").unwrap());
    assert_eq!(
        status.mode,
        LinkMode::Native,
        "the stale link is replaced: {status:?}"
    );

    let (mut second, _rules) = net.other_kernel();
    let error = net.within("n", || second.attach("node").unwrap_err());
    assert!(
        matches!(error, kernel::KernelError::ForeignLink { .. }),
        "{error:?}"
    );
    let error = error.to_string();
    assert!(
        error.contains("firewall") && error.contains("node") && error.contains("bpftool -f link"),
        "{error}"
    );
}
