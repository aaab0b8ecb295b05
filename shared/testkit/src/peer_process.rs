//! Which process of this machine holds the other end of a connection.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// The process that connected from `peer` to `port` of the loopback interface; nothing where the kernel does not say.
pub(crate) fn process_of(peer: SocketAddr, port: u16) -> Option<u32> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = inode_of(&table, peer.port(), port)?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?;
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.into_iter().find(|process| holds(*process, &socket))
}

/// The inode of the socket with these ports, as `/proc/net/tcp` lists it: `sl local remote st …`, the tenth word.
fn inode_of(table: &str, local_port: u16, remote_port: u16) -> Option<&str> {
    let is_port = |address: &str, port: u16| {
        address.rsplit_once(':').is_some_and(|(_, text)| u16::from_str_radix(text, 16) == Ok(port))
    };
    table.lines().skip(1).find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (local, remote, inode) = (words.get(1)?, words.get(2)?, words.get(9)?);
        (is_port(local, local_port) && is_port(remote, remote_port)).then_some(*inode)
    })
}

fn holds(process: u32, socket: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    files.filter_map(Result::ok).any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == socket))
}

/// Kills a process at once; whether it was there to be killed.
pub(crate) fn kill(process: u32) -> bool {
    let mut command = Command::new("kill");
    let status = command.args(["-9", &process.to_string()]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_its_ports() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  0  0 111 1 0 20 4 30 10 -1\n\
            1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  0  0 222 1 0 20 4 30 10 -1\n";
        assert_eq!(inode_of(table, 50000, 8080), Some("222"));
        assert_eq!(inode_of(table, 8080, 50000), Some("111"));
        assert_eq!(inode_of(table, 50000, 8081), None);
    }
}
