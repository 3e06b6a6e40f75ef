//! nginx in front of several servers of one store: each request goes to the next of them, as bad a balancer as there can be.

#![expect(clippy::panic, reason = "a balancer that cannot be started ends the test with the reason")]

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::{client::Client, harness, tools};

/// An nginx, ended when dropped.
#[derive(Debug)]
pub struct Turns {
    child: Child,
}

impl Turns {
    /// Listens at `at` and gives requests to `to` in turns; its files lie in `dir`.
    ///
    /// # Panics
    /// When nginx is not installed or does not come up.
    pub async fn start(at: SocketAddr, to: &[SocketAddr], dir: &Path) -> Self {
        harness::make_dir(dir);
        let path = |name: &str| dir.join(name).display().to_string();
        let mut servers = String::new();
        for server in to {
            // A server that is down is asked all the same: who notices is the client.
            let _written = write!(servers, "server {server} max_fails=0; ");
        }
        let mut folders = String::new();
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            let _written = writeln!(folders, "  {kind}_temp_path {};", path(kind));
        }
        let text = format!(
            "daemon off;
pid {pid};
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
{folders}  access_log off;
  upstream servers {{ {servers}keepalive 64; }}
  server {{
    listen {at};
    client_max_body_size 0;
    large_client_header_buffers 4 32k;
    location / {{
      proxy_pass http://servers;
      proxy_next_upstream off;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_buffer_size 32k;
      proxy_buffers 4 32k;
      proxy_set_header Connection \"\";
      proxy_set_header Host $http_host;
    }}
  }}
}}
",
            pid = path("pid"),
        );
        harness::write_file(&dir.join("nginx.conf"), text.as_bytes());
        let log = dir.join("nginx.log");
        let mut child = Command::new(tools::find("nginx"))
            .arg("-e")
            .arg(&log)
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(harness::log_file(&log))
            .stderr(harness::log_file(&log))
            .spawn()
            .unwrap_or_else(|error| panic!("nginx: {error}"));
        harness::ready(&Client::new(at), "/readyz", &mut child, &log).await;
        Self { child }
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        // SIGTERM, so that it ends its workers too.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _asked = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _reaped = self.child.wait();
    }
}
