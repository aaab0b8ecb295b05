//! What `firebackup serve` takes before anybody asks for anything: the time to its first answer, and its memory at rest.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::stage::{Result, firebackup};

const ROUNDS: usize = 11;
/// What a server does at its start it has done by then.
const REST: Duration = Duration::from_secs(5);
const BOUND: Duration = Duration::from_secs(10);

pub fn run() -> Result<()> {
    println!(
        "\n# firebackup serve: from the start of the process to the answer of GET /health, and resident memory after 5 s"
    );
    let program = firebackup()?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    // the first start makes database, key and owner
    let mut first = Vec::new();
    for round in 0..ROUNDS {
        let (server, took, _) = start(&program, &folder.path().join(format!("new-{round}")))?;
        end(server)?;
        first.push(took);
    }
    let data = folder.path().join("new-0");
    let mut later = Vec::new();
    for _ in 0..ROUNDS {
        let (server, took, _) = start(&program, &data)?;
        end(server)?;
        later.push(took);
    }
    let (server, ..) = start(&program, &data)?;
    std::thread::sleep(REST);
    let resident = resident_kib(&server)?;
    end(server)?;
    println!("first start of a folder      {}", told(first));
    println!("each later one               {}", told(later));
    println!("resident memory at rest      {:>6.1} MiB", resident as f64 / 1024.0);
    Ok(())
}

pub fn told(mut times: Vec<Duration>) -> String {
    times.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let (median, most) = (millis(times[times.len() / 2]), times.last().map_or(0.0, |time| millis(*time)));
    format!("{median:>6.1} ms, at most {most:.1} ms")
}

/// A server that has answered, and how long that took.
pub fn start(program: &Path, data: &Path) -> Result<(Child, Duration, SocketAddr)> {
    // free a moment ago, and known before the server is there to tell
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--data").arg(data).args(["--listen", &address.to_string(), "--quiet"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    let mut server = command.spawn()?;
    while !answers(address) {
        if started.elapsed() > BOUND || server.try_wait()?.is_some() {
            return Err("firebackup serve does not answer".into());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok((server, started.elapsed(), address))
}

fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

pub fn end(mut server: Child) -> Result<()> {
    server.kill()?;
    server.wait()?;
    Ok(())
}

fn resident_kib(server: &Child) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no resident memory is told")?;
    Ok(resident.trim().trim_end_matches(" kB").trim().parse()?)
}
