//! The all-in-one server as a process: it comes up, ends when told to, and comes up again with the same keys.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

fn ringfort(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringfort"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("RINGFORT_") || name.starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.args([
        "server",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    command
        .args(["--partitions", "16", "--disk-reserve-mib", "1", "--data"])
        .arg(data);
    command
}

/// Starts it and reads what it prints once it is ready: endpoint and access key.
fn start(data: &Path) -> (Child, BufReader<ChildStdout>, String, String) {
    let mut child = ringfort(data).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut value_after = |label: &str| loop {
        let mut line = String::new();
        assert!(
            out.read_line(&mut line).unwrap() > 0,
            "it ended before it was ready"
        );
        if let Some(value) = line.trim().strip_prefix(label) {
            return value.trim().to_owned();
        }
    };
    let endpoint = value_after("S3 endpoint   http://");
    let key = value_after("access key");
    (child, out, endpoint, key)
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn terminate(mut child: Child) -> Option<i32> {
    let told = Command::new("kill")
        .arg("-TERM")
        .arg(child.id().to_string())
        .status();
    assert!(told.unwrap().success());
    child.wait().unwrap().code()
}

#[test]
fn a_restart_keeps_the_keys_and_sigterm_ends_it_well() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (child, _out, endpoint, first) = start(&data);
    assert!(get(&endpoint, "/health/live").starts_with("HTTP/1.1 200"));
    assert!(get(&endpoint, "/").starts_with("HTTP/1.1 403"));
    let second = ringfort(&data).output().unwrap();
    assert_eq!(second.status.code(), Some(2), "a folder in use is refused");
    assert_eq!(terminate(child), Some(0));
    let (child, _out, _, again) = start(&data);
    assert_eq!(first, again);
    assert_eq!(terminate(child), Some(0));
    let other_size = ringfort(&data).args(["--nodes", "5"]).output().unwrap();
    assert_eq!(other_size.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&other_size.stderr).contains("--nodes 3"));
}

#[test]
fn an_empty_secret_is_a_refusal_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = ringfort(&folder.path().join("data"));
    command
        .env("RINGFORT_ACCESS_KEY", "someone")
        .env("RINGFORT_SECRET_KEY", "");
    let ended = command.output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(
        said.contains("RINGFORT_SECRET_KEY is set but empty"),
        "{said}"
    );
}

#[test]
fn an_empty_region_is_a_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = ringfort(&folder.path().join("data"));
    let ended = command.env("RINGFORT_REGION", "").output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("--region"), "{said}");
}
