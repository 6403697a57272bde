//! A network namespace for one test, with a server in it. The test can drop all its packets.

use std::ffi::OsStr;
use std::process::Command;

use super::home::Home;
use super::program::{Running, run, start, until};
use super::support::server::{ACCESS_KEY, Kind, SECRET_KEY, program};

/// A network namespace. It ends with its last process, and dropping this value ends that process.
#[derive(Debug)]
pub struct NetworkNamespace {
    holder: Running,
    _server: Running,
}

/// The namespace has no other servers, so any port is free.
const PORT: u16 = 9000;

impl NetworkNamespace {
    /// Makes a namespace with a loopback device alone, and a server in it.
    pub fn new(home: &Home) -> Self {
        let script = "ip link set lo up; echo up; exec sleep 1000";
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "bash", "-euc", script]);
        let holder = start(&mut unshare);
        let mut looks = enter(holder.pid(), "ip");
        looks.args(["-brief", "addr"]);
        until("there is a network", || {
            run(&mut looks).text().contains("127.0.0.1").then_some(())
        });
        for number in 0..3 {
            home.folder(&format!("served/bucket-{number}"));
        }
        let mut serve = enter(holder.pid(), program(Kind::S3s));
        serve
            .args(["--host", "127.0.0.1", "--port", &PORT.to_string()])
            .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
            .arg(home.path("served"));
        let server = start(&mut serve);
        let namespace = Self {
            holder,
            _server: server,
        };
        until("the server answers", || {
            let mut knock = enter(namespace.holder.pid(), "bash");
            knock.args(["-c", &format!("exec 3<> /dev/tcp/127.0.0.1/{PORT}")]);
            (run(&mut knock).code == Some(0)).then_some(())
        });
        namespace
    }

    /// Returns the URL of a bucket on its server.
    pub fn bucket(&self, number: usize) -> String {
        format!(
            "s3://bucket-{number}/p?region=us-east-1&use_path_style=true&endpoint=http://127.0.0.1:{PORT}"
        )
    }

    /// Returns a command that runs another one in the namespace.
    pub fn on_it(&self, home: &Home, command: &Command) -> Command {
        let mut there = enter(self.holder.pid(), command.get_program());
        there.args(command.get_args());
        home.enter(&mut there);
        there
    }

    /// Drops every packet from now on, also those of open connections.
    pub fn drop_everything(&self) {
        self.nft(
            "table inet hole { chain arriving { type filter hook input priority 0; policy drop; }; }",
        );
    }

    /// Stops dropping packets.
    pub fn drop_nothing(&self) {
        self.nft("delete table inet hole");
    }

    fn nft(&self, rules: &str) {
        run(enter(self.holder.pid(), "nft").arg(rules)).ok();
    }
}

fn enter(holder: u32, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    let namespace = format!("--net=/proc/{holder}/ns/net");
    command.args([&namespace, "--"]).arg(program);
    command
}
