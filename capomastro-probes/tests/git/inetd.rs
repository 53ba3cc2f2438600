//! Servers that are started for each connection, on a port of this machine that nobody else has.

use std::{
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

/// Calls `serve` on a thread of its own with each connection, until the test ends; the port.
pub(crate) fn on_each(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        thread::scope(|scope| {
            for stream in listener.incoming() {
                let serve = &serve;
                scope.spawn(move || serve(stream.expect("a connection")));
            }
        });
    });
    port
}

/// A program that speaks through the connection.
pub(crate) fn run(mut command: Command, stream: &TcpStream) {
    let end = || Stdio::from(OwnedFd::from(stream.try_clone().expect("a second handle")));
    let ran = command.stdin(end()).stdout(end()).stderr(Stdio::null()).status();
    ran.expect("the program runs");
}

/// `git daemon` over all repositories below `root`.
pub(crate) fn git_daemon(root: PathBuf) -> u16 {
    on_each(move |stream| {
        let mut command = Command::new("git");
        command.env_clear().envs(super::repo::env()).args(["daemon", "--inetd", "--export-all"]);
        command.arg(format!("--base-path={}", root.display())).arg(&root);
        run(command, &stream);
    })
}

/// A daemon that knows nothing but version 0 of the protocol.
pub(crate) fn old_daemon(root: PathBuf) -> u16 {
    on_each(move |mut stream| {
        use std::io::Read;
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("a length");
        let length = usize::from_str_radix(str::from_utf8(&length).expect("hex"), 16).expect("hex");
        let mut request = vec![0; length - 4];
        stream.read_exact(&mut request).expect("a request");
        let path = request.split(|b| *b == 0).next().expect("a path");
        let path = str::from_utf8(path).expect("UTF-8").strip_prefix("git-upload-pack /").expect("a path");
        let mut command = Command::new("git");
        command.env_clear().envs(super::repo::env()).args(["upload-pack", "--strict"]).arg(root.join(path));
        run(command, &stream);
    })
}
