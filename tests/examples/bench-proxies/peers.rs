//! The proxies to compare with, unpacked from Debian's packages: the same suite, group, chain, CRLs; no resumption.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    ground::{Ground, IDLE, SUITE},
    process::{Seat, Server},
};

pub(crate) fn nginx(ground: &Ground, seat: Seat) -> Result<Server> {
    let folder = ground.files.folder().join(seat.file());
    fs::create_dir_all(&folder)?;
    let (here, server) = (folder.display(), &ground.pki.server);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {here}/{kind};\n"))
        .concat();
    let text = format!(
        "daemon off;\nuser root;\npid {here}/pid;\nworker_processes {cores};\nerror_log stderr error;\n\
         events {{ worker_connections 12000; }}\n\
         http {{\n{temporary}  access_log off;\n\
         \x20 upstream origin {{ server {}; keepalive 64; }}\n\
         \x20 server {{\n\
         \x20   listen 127.0.0.1:{port} ssl reuseport backlog=1024;\n\
         \x20   ssl_certificate {};\n    ssl_certificate_key {};\n\
         \x20   ssl_protocols TLSv1.2;\n    ssl_ciphers {SUITE};\n    ssl_dhparam {};\n\
         \x20   ssl_client_certificate {};\n    ssl_verify_client on;\n    ssl_verify_depth 2;\n    ssl_crl {};\n\
         \x20   ssl_session_cache off;\n    ssl_session_tickets off;\n\
         \x20   keepalive_requests 1000000;\n    keepalive_timeout {idle}s;\n    client_header_timeout {idle}s;\n\
         \x20   location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}\n\
         \x20 }}\n}}\n",
        ground.origin.address,
        server.cert.display(),
        server.key.display(),
        ground.group().display(),
        ground.authorities().display(),
        ground.revocations().display(),
        cores = seat.cores.count(),
        port = seat.port,
        idle = IDLE.as_secs(),
    );
    let config = folder.join("nginx.conf");
    fs::write(&config, text)?;
    let run = seat
        .run(program(ground, NGINX))
        .args(["-e", "stderr", "-p"])
        .arg(&folder)
        .arg("-c")
        .arg(&config);
    Server::start(seat, &ground.files, &run)
}

pub(crate) fn haproxy(ground: &Ground, seat: Seat) -> Result<Server> {
    let idle = IDLE.as_secs();
    let text = format!(
        "global\n  nbthread {}\n  maxconn 12000\n  no strict-limits\n  ssl-dh-param-file {}\n  tune.ssl.cachesize 0\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout server {idle}s\n  timeout client {idle}s\n\
         \x20 timeout http-request {idle}s\n  timeout http-keep-alive {idle}s\n\
         frontend edge\n\
         \x20 bind 127.0.0.1:{} backlog 1024 ssl crt {} ca-file {} crl-file {} verify required ciphers {SUITE} \
         ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.2 no-tls-tickets\n\
         \x20 default_backend origin\n\
         backend origin\n  server origin {}\n",
        seat.cores.count(),
        ground.group().display(),
        seat.port,
        ground.everything().display(),
        ground.authorities().display(),
        ground.revocations().display(),
        ground.origin.address,
    );
    let config = ground.files.folder().join(seat.file()).with_extension("cfg");
    fs::write(&config, text)?;
    let run = seat
        .run(program(ground, HAPROXY))
        .args(["-db", "-f"])
        .arg(&config);
    Server::start(seat, &ground.files, &run)
}

pub(crate) fn stunnel(ground: &Ground, seat: Seat) -> Result<Server> {
    let text = format!(
        "foreground = quiet\npid =\nsyslog = no\ndebug = err\n\
         [edge]\naccept = 127.0.0.1:{}\nconnect = {}\ncert = {}\nverifyChain = yes\nCAfile = {}\nCRLfile = {}\n\
         sslVersionMin = TLSv1.2\nsslVersionMax = TLSv1.2\nciphers = {SUITE}\noptions = NO_TICKET\n\
         sessionCacheSize = 1\n",
        seat.port,
        ground.origin.address,
        ground.everything().display(),
        ground.authorities().display(),
        ground.revocations().display(),
    );
    let config = ground.files.folder().join("stunnel.conf");
    fs::write(&config, text)?;
    let run = seat.run(program(ground, STUNNEL)).arg(&config);
    Server::start(seat, &ground.files, &run)
}

/// What the agent and the proxies beside it are, in their own words.
pub(crate) fn versions(ground: &Ground) -> Result<Vec<String>> {
    let agent = said(&ground.agent, "--version")?;
    Ok(vec![
        format!("{agent} with {}", openssl::version::version()),
        said(&program(ground, NGINX), "-v")?,
        said(&program(ground, HAPROXY), "-v")?,
    ])
}

/// The same of those that handshakes alone are compared with.
pub(crate) fn further_versions(ground: &Ground) -> Result<Vec<String>> {
    let system = said(&PathBuf::from("openssl"), "version")?;
    Ok(vec![
        format!("{} with {system}", said(ground.agent_system()?, "--version")?),
        said(&program(ground, STUNNEL), "-version")?,
    ])
}

const NGINX: &str = "nginx/usr/sbin/nginx";
const HAPROXY: &str = "haproxy/usr/sbin/haproxy";
const STUNNEL: &str = "stunnel4/usr/bin/stunnel4";

fn program(ground: &Ground, name: &str) -> PathBuf {
    ground.peers.join(name)
}

/// The line in which a program says its version.
fn said(program: &Path, argument: &str) -> Result<String> {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .with_context(|| format!("asking {} for its version", program.display()))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|line| line.chars().any(|c| c.is_ascii_digit()));
    Ok(line.unwrap_or("unknown").trim().to_owned())
}
