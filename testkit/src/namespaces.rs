//! Hosts with a network of their own each, joined by a router, for tests that cut links between
//! processes. Linux only, as root.
//!
//! ```text
//!   host 1 (10.77.1.2) --veth-- 10.77.1.1 \
//!   host 2 (10.77.2.2) --veth-- 10.77.2.1 -- router (10.77.0.1 and all the .1)
//!   ...                                    /
//! ```
//!
//! The namespaces have no names: they are gone when the [`Network`] and all processes in them are, also
//! after a test that was killed. So tests may run side by side with the same addresses. A cut is a
//! policy rule in the router that drops packets of one direction without an answer, as a broken cable
//! does.

use std::fs::File;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

/// Set to anything: tests that need namespaces are left out where there can be none.
pub const OPT_OUT: &str = "HURTIG_TEST_WITHOUT_NAMESPACES";

/// A host, by its number from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(u8);

/// See the module documentation.
pub struct Network {
    router: Namespace,
    hosts: Vec<Namespace>,
}

/// Held open, it exists.
struct Namespace(File);

impl Network {
    /// A router and `hosts` hosts. `None` where the environment variable [`OPT_OUT`] allows to do
    /// without and there can be none.
    ///
    /// # Panics
    /// When namespaces cannot be made; the message says what is missing.
    pub fn start(hosts: u8) -> Option<Network> {
        match Network::new(hosts) {
            Ok(network) => Some(network),
            Err(reason) if std::env::var_os(OPT_OUT).is_some() => {
                eprintln!("left out: {reason} ({OPT_OUT} is set)");
                None
            }
            Err(reason) => {
                panic!(
                    "this test needs network namespaces: {reason}. Run it as root, or set {OPT_OUT}=1 to leave it out"
                )
            }
        }
    }

    fn new(hosts: u8) -> Result<Network, String> {
        for (tool, package) in [("ip", "iproute2"), ("nsenter", "util-linux")] {
            let found = Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
            found.map_err(|e| format!("the command '{tool}' cannot be run ({e}); install the package {package}"))?;
        }
        let router = Namespace::new()?;
        let mut network = Network { router, hosts: Vec::new() };
        network
            .router
            .shell("ip link set lo up && ip addr add 10.77.0.1/32 dev lo && echo 1 > /proc/sys/net/ipv4/ip_forward")?;
        for _ in 0..hosts {
            network.add_host()?;
        }
        Ok(network)
    }

    fn add_host(&mut self) -> Result<(), String> {
        let n = self.hosts.len() + 1;
        let host = Namespace::new()?;
        self.router.shell(&format!(
            "ip link add h{n} type veth peer name eth0 netns {} && ip addr add 10.77.{n}.1/30 dev h{n} && ip link set h{n} up",
            host.path()
        ))?;
        host.shell(&format!(
            "ip link set lo up && ip addr add 10.77.{n}.2/30 dev eth0 && ip link set eth0 up && \
             ip route add default via 10.77.{n}.1"
        ))?;
        self.hosts.push(host);
        Ok(())
    }

    /// All hosts.
    pub fn hosts(&self) -> Vec<Host> {
        (1..=self.hosts.len() as u8).map(Host).collect()
    }

    /// Address of the router, which all hosts reach whatever is cut.
    pub fn router_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, 1)
    }

    /// Runs `body` on a thread in the router's namespace; sockets that it opens and processes that it
    /// starts are there.
    ///
    /// # Panics
    /// As `body` does, or when the thread cannot enter.
    pub fn in_router<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.router.enter().expect("root may enter a network namespace that it made");
                body()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that runs `program` on a host. The process that is started becomes the program, so
    /// that its id is the program's.
    pub fn command(&self, host: Host, program: &str) -> Command {
        self.hosts[usize::from(host.0) - 1].command(program)
    }

    /// Drops what `from` sends to `to`; the other direction is as it was.
    ///
    /// # Errors
    /// What the command said.
    pub fn cut(&self, from: Host, to: Host) -> Result<(), String> {
        self.rule("add", from, to)
    }

    /// Ends a cut.
    ///
    /// # Errors
    /// What the command said.
    pub fn mend(&self, from: Host, to: Host) -> Result<(), String> {
        self.rule("del", from, to)
    }

    fn rule(&self, verb: &str, from: Host, to: Host) -> Result<(), String> {
        self.router.shell(&format!("ip rule {verb} from {} to {} blackhole", from.address(), to.address()))
    }

    /// Lets a host receive only so many bits a second, with a queue in front as long links have.
    ///
    /// # Errors
    /// What the command said.
    pub fn slow_down(&self, host: Host, kilobits_per_second: u32) -> Result<(), String> {
        let device = format!("h{}", host.0);
        self.router.shell(&format!(
            "tc qdisc replace dev {device} root tbf rate {kilobits_per_second}kbit burst 16kb latency 400ms"
        ))
    }

    /// Ends [`Network::slow_down`].
    ///
    /// # Errors
    /// What the command said.
    pub fn speed_up(&self, host: Host) -> Result<(), String> {
        self.router.shell(&format!("tc qdisc del dev h{} root", host.0))
    }

    /// Packets that the limit of [`Network::slow_down`] has dropped or held back.
    ///
    /// # Errors
    /// What the command said.
    pub fn held_back(&self, host: Host) -> Result<u64, String> {
        let shown = self.router.output(&format!("tc -s qdisc show dev h{}", host.0))?;
        let number = |name: &str| -> u64 {
            let rest = shown.split_once(name).map_or("", |(_, rest)| rest);
            rest.split(|c: char| !c.is_ascii_digit()).find(|t| !t.is_empty()).and_then(|t| t.parse().ok()).unwrap_or(0)
        };
        Ok(number("dropped ") + number("overlimits "))
    }
}

impl Host {
    /// Its address.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.0, 2)
    }
}

impl Namespace {
    fn new() -> Result<Namespace, String> {
        let made = std::thread::spawn(|| {
            // SAFETY: unshare changes the calling thread's view of the network and nothing in memory;
            // the thread ends here.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            File::open("/proc/thread-self/ns/net")
        });
        let file = made.join().map_err(|_| "a thread crashed".to_owned())?;
        file.map(Namespace).map_err(|e| format!("a network namespace cannot be made: {e}"))
    }

    /// Where other processes find it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("--").arg(program);
        command
    }

    fn shell(&self, script: &str) -> Result<(), String> {
        self.output(script).map(drop)
    }

    fn output(&self, script: &str) -> Result<String, String> {
        let mut command = self.command("sh");
        command.args(["-e", "-s"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut run = || {
            let mut child = command.spawn()?;
            if let Some(mut input) = child.stdin.take() {
                input.write_all(script.as_bytes())?;
            }
            child.wait_with_output()
        };
        let output = run().map_err(|e| format!("'{script}' cannot be run: {e}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("'{script}' failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// Brings the calling thread into it.
    fn enter(&self) -> io::Result<()> {
        // SAFETY: setns takes a descriptor that is open as long as `self`, and changes the calling
        // thread's view of the network only.
        if unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    /// Whether a datagram that `from` sends arrives at `to`. Both sockets are in the hosts' namespaces.
    fn arrives(from: &UdpSocket, to: &UdpSocket) -> bool {
        let unique = format!("{:?}", std::time::Instant::now());
        from.send_to(unique.as_bytes(), to.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 256];
        loop {
            match to.recv_from(&mut buffer) {
                Ok((length, _)) if &buffer[..length] == unique.as_bytes() => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    #[test]
    fn hosts_reach_each_other_until_one_direction_is_cut() {
        let Some(network) = Network::start(2) else { return };
        let sockets: Vec<UdpSocket> = network
            .hosts()
            .iter()
            .zip(&network.hosts)
            .map(|(host, namespace)| {
                std::thread::scope(|scope| {
                    let open = scope.spawn(|| {
                        namespace.enter().unwrap();
                        let socket = UdpSocket::bind((host.address(), 0)).unwrap();
                        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                        socket
                    });
                    open.join().unwrap()
                })
            })
            .collect();
        let (a, b) = (network.hosts()[0], network.hosts()[1]);
        let way = |from: usize, to: usize| arrives(&sockets[from], &sockets[to]);
        assert!(way(0, 1) && way(1, 0));
        network.cut(a, b).unwrap();
        assert!(!way(0, 1) && way(1, 0));
        network.mend(a, b).unwrap();
        assert!(way(0, 1) && way(1, 0));
        network.slow_down(a, 64).unwrap();
        assert!(way(1, 0));
        network.speed_up(a).unwrap();
    }
}
