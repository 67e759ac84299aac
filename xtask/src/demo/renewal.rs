//! The certificates of the demo last two minutes; a timer keeps them from ending, and who serves them takes the new ones.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use mc_testkit::wait_for;

use super::{
    check_interrupted,
    metacrypt::{LIFE, METACRYPT},
    show::{Expect::Says, Show},
    world::{NODE, World},
};
use crate::command::output;

/// All that serve one: who, asked from where at which address, and for which name.
const LISTENERS: [(&str, &str, &str, &str); 5] = [
    ("mc-proxy", "mc-demo-de", EDGE, "web.example.org"),
    ("MCIAS", "mc-demo-de", EDGE, "auth.example.org"),
    ("MCIAS gRPC", NODE, "[fd77:1::2]:9643", "auth.example.org"),
    ("Metacrypt", NODE, "[fd77:1::2]:9743", "crypt.example.org"),
    ("Metacrypt gRPC", NODE, METACRYPT, "crypt.example.org"),
];
/// Where the client in Germany finds the node, which passes on what is MCIAS's.
const EDGE: &str = "192.0.2.1:443";
/// Requests over the connection that goes on, two a second: more than are needed, so that it ends by itself.
const REQUESTS: u64 = 4 * LIFE.as_secs();

/// Requests over one connection.
struct Connection {
    curl: Child,
    log: PathBuf,
}

impl Connection {
    fn open(world: &World) -> Result<Self> {
        let log = world.directory.join("connection.log");
        let file = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let mut curl = Command::new(world.directory.join("de"));
        curl.args(["--rate", "120/m", "-o", "/dev/null"])
            // Which is not buffered.
            .args(["-w", "%{stderr}%{http_code}:%{num_connects} "])
            .arg(format!("https://web.example.org/?[1-{REQUESTS}]"))
            .stderr(file)
            .stdout(Stdio::null());
        let curl = curl.spawn().context("cannot run curl")?;
        Ok(Self { curl, log })
    }

    /// What came of each request so far: the status, and how many connections were made for it.
    fn answers(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.log).context("what curl wrote")?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

impl World {
    /// Starts what looks at the certificates: `metacrypt-keep@.timer`, but oftener. It ends when what it runs has ended.
    pub(super) fn start_timer(&mut self, kept: &[String]) -> Result<()> {
        let keeper = self.directory.join("keeper");
        let each = kept
            .iter()
            .map(|kept| format!("  {keeper:?} {kept} | grep -v ' is kept, until '\n"));
        let text = format!(
            "trap 'kill $!; exit' TERM\nwhile sleep 2 & wait $!; do\n{}done\n",
            each.collect::<String>()
        );
        let mut command = Command::new("sh");
        command.arg(self.write("timer.sh", &text)?);
        let log = self.directory.join("timer.log");
        self.start("timer", &mut command, &log, || Some(()))
    }

    /// The certificates that are served: serial numbers, issuers and ends. `None`: none that a client takes.
    fn served(&self) -> Vec<Option<String>> {
        let ca = self.directory.join("ca.crt");
        let one = |(_, namespace, address, name): &(_, &str, &str, &str)| {
            let line = format!(
                "ip netns exec {namespace} openssl s_client -connect {address} -servername {name} -verify_hostname {name} -CAfile {ca:?} \
                 -verify_return_error </dev/null 2>/dev/null | openssl x509 -noout -serial -issuer -enddate"
            );
            output(Command::new("sh").args(["-c", &line])).ok()
        };
        LISTENERS.iter().map(one).collect()
    }
}

fn print(served: &[Option<String>]) {
    for ((who, ..), served) in LISTENERS.iter().zip(served) {
        let served = served.as_deref().unwrap_or("no certificate that is good");
        println!("  {who:<15} {}", served.trim().replace('\n', "  "));
    }
}

/// Everybody's certificate is renewed by the timer, by its own rule, under connections that go on.
pub(super) fn renewal(world: &mut World, show: &mut Show) -> Result<()> {
    let minutes = LIFE.as_secs() / 60;
    show.step(&format!(
        "All have certificates of {minutes} minutes, and take those that the timer renews: nothing restarts, and a connection goes on"
    ));
    let before = world.served();
    print(&before);
    let ours = |served: &Option<String>| served.as_ref().is_some_and(|s| s.contains("Services"));
    show.expect(before.iter().all(ours), "the issuer is not Metacrypt's");
    let processes = world.processes();
    let connection = Connection::open(world)?;
    let begun = Instant::now();
    let after = loop {
        check_interrupted()?;
        let now = world.served();
        let renewed = now.iter().zip(&before).all(|(now, before)| now != before);
        // The first that a client does not take was not renewed before its end.
        let ended = now.iter().any(Option::is_none);
        if renewed || ended || begun.elapsed() > 2 * LIFE {
            break now;
        }
        thread::sleep(Duration::from_secs(1));
    };
    println!("… after {} s:", begun.elapsed().as_secs());
    print(&after);
    for ((who, ..), (after, before)) in LISTENERS.iter().zip(after.iter().zip(&before)) {
        show.expect(ours(after), &format!("{who} has none that is good"));
        let same = format!("{who} has the certificate that it had");
        show.expect(after != before, &same);
    }
    for process in &processes {
        println!("  {process}");
        let other = format!("{process} has ended");
        show.expect(process.is_running(), &other);
    }
    // One more, with all that is new.
    let until_now = connection.answers()?.len();
    let _ = wait_for("another request", || {
        (connection.answers().ok()?.len() > until_now + 1).then_some(())
    });
    let all = connection.answers()?;
    drop(connection);
    println!("$ curl … https://web.example.org/?[1-{}]", all.len());
    println!("  {}", all.join(" "));
    show.expect(
        all.len() > until_now && all.iter().all(|one| one.starts_with("200:")),
        "a request failed meanwhile",
    );
    let connections = all.iter().filter(|one| one.ends_with(":1")).count();
    show.expect(connections == 1, "the connection did not go on");
    show.run("mciasctl", "whoami", Says("admin"))?;
    show.run(
        "metacrypt.sh",
        "audit verify",
        Says("all as they were written"),
    )
}
