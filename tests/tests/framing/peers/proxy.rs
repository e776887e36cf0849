//! nginx and HAProxy as reverse proxies with their own defaults, in the edge's namespace. Each has several addresses with an
//! upstream of its own behind every one, so that several streams can be under way.

use std::{fs, net::SocketAddr, path::PathBuf, thread, time::Duration};

use anyhow::{Context, Result, anyhow};
use spinegate_tests::{
    command::Run,
    lab::{Background, Lab},
    netns::{self, Host},
    recorder::Recorder,
    tools,
    wait::wait_for,
};

use super::{Column, ask_plainly, refused_streams, taken_streams};

const LANES: u16 = 4;
const PATIENCE: Duration = Duration::from_secs(10);

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
}

/// A proxy that is there.
pub(crate) struct Program {
    pub(crate) kind: Kind,
    path: PathBuf,
}

/// A running proxy. It ends when dropped.
pub(crate) struct Proxy {
    name: String,
    lanes: Vec<(u16, Recorder)>,
    process: Option<Background>,
}

/// Both.
///
/// # Errors
/// One of them is not there.
pub(crate) fn programs() -> Result<[Program; 2]> {
    let program = |kind, path| {
        Ok::<_, anyhow::Error>(Program {
            kind,
            path: tools::peer(path)?,
        })
    };
    Ok([
        program(Kind::Nginx, "nginx/usr/sbin/nginx")?,
        program(Kind::Haproxy, "haproxy/usr/sbin/haproxy")?,
    ])
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    const fn first_port(self) -> u16 {
        match self {
            Self::Nginx => 8100,
            Self::Haproxy => 8200,
        }
    }

    /// The proxy's configuration. Its limits are its own, but for times: a client that promised more than it sends is to be
    /// given up soon.
    fn configuration(self, folder: &str, lanes: &[(u16, SocketAddr)]) -> String {
        match self {
            Self::Nginx => {
                let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n"))
                    .concat();
                let servers: String = lanes
                    .iter()
                    .map(|(port, upstream)| {
                        format!(
                            "  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{upstream}; \
                             proxy_http_version 1.1; }} }}\n"
                        )
                    })
                    .collect();
                format!(
                    "daemon off;\nuser root;\npid {folder}/pid;\nworker_processes 1;\nerror_log stderr crit;\n\
                     events {{ worker_connections 512; }}\n\
                     http {{\n{temporary}  access_log off;\n  client_header_timeout 1s;\n  client_body_timeout 1s;\n{servers}}}\n"
                )
            }
            Self::Haproxy => {
                let servers: String = lanes
                    .iter()
                    .map(|(port, upstream)| {
                        format!("listen edge{port}\n  bind 127.0.0.1:{port}\n  server upstream {upstream}\n")
                    })
                    .collect();
                format!(
                    "global\n  nbthread 1\ndefaults\n  mode http\n  option http-server-close\n  timeout connect 5s\n\
                     \x20 timeout server 5s\n  timeout client 1s\n  timeout http-request 1s\n{servers}"
                )
            }
        }
    }
}

impl Program {
    /// The version that it says, and nothing else of what it says.
    fn version(&self) -> Result<String> {
        let said = Run::new(&self.path).arg("-v").output()?.said();
        let version = said.split_whitespace().find_map(|word| {
            let number = word.strip_prefix("nginx/").unwrap_or(word);
            number
                .starts_with(|first: char| first.is_ascii_digit())
                .then_some(number)
        });
        Ok(version
            .and_then(|version| version.split(['-', '+']).next())
            .with_context(|| format!("no version in {said:?}"))?
            .to_owned())
    }
}

impl Proxy {
    pub(crate) fn start(program: &Program, lab: &Lab) -> Result<Self> {
        let (kind, namespace) = (program.kind, lab.network().namespace(Host::Edge));
        let folder = lab.files().folder().join(kind.as_str());
        fs::create_dir_all(&folder)?;
        let mut lanes = Vec::new();
        let mut ports = Vec::new();
        for lane in 0..LANES {
            let (port, upstream) = (kind.first_port() + lane, kind.first_port() + 50 + lane);
            let upstream = SocketAddr::from(([127, 0, 0, 1], upstream));
            lanes.push((port, Recorder::open_for_proxy(&namespace, upstream)?));
            ports.push((port, upstream));
        }
        let config = folder.join("config");
        let text = kind.configuration(&folder.display().to_string(), &ports);
        fs::write(&config, text)?;
        let run = Run::inside(&namespace, &program.path);
        let run = match kind {
            Kind::Nginx => run
                .args(["-e", "stderr", "-p"])
                .arg(&folder)
                .arg("-c")
                .arg(&config),
            Kind::Haproxy => run.args(["-db", "-f"]).arg(&config),
        };
        let mut process = Background::start(kind.as_str(), &run, lab.files())?;
        wait_for("a proxy to accept connections", PATIENCE, || {
            process.must_run()?;
            let connect = |(port, _): &(u16, SocketAddr)| std::net::TcpStream::connect(("127.0.0.1", *port));
            netns::enter(&namespace, || {
                Ok(ports.last().and_then(|last| connect(last).ok()))
            })
        })
        .with_context(|| process.tail())?;
        Ok(Self {
            name: format!("{} {}", kind.as_str(), program.version()?),
            lanes,
            process: Some(process),
        })
    }

    /// Asks it every stream.
    pub(crate) fn column(self, lab: &Lab) -> Result<Column> {
        let namespace = &lab.network().namespace(Host::Edge);
        let lanes = thread::scope(|scope| {
            let lanes: Vec<_> = self
                .lanes
                .iter()
                .enumerate()
                .map(|(lane, (port, upstream))| {
                    scope.spawn(move || -> Result<_> {
                        let ask = |stream: &str| ask_plainly(namespace, *port, stream);
                        let step = usize::from(LANES);
                        let refused = refused_streams(upstream, lane, step, ask)?;
                        Ok((refused, taken_streams(upstream, lane, step, ask)?))
                    })
                })
                .collect();
            lanes
                .into_iter()
                .map(|lane| lane.join().map_err(|_| anyhow!("a client panicked"))?)
                .collect::<Result<Vec<_>>>()
        })?;
        let (refused, taken): (Vec<_>, Vec<_>) = lanes.into_iter().unzip();
        Ok(Column {
            name: self.name.clone(),
            refused: in_order(refused),
            taken: in_order(taken),
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            // Asked and not killed, so that workers end too; some die of the signal, which is an error to others.
            let _ = process.stop(PATIENCE);
        }
    }
}

fn in_order<T>(lanes: Vec<Vec<(usize, T)>>) -> Vec<T> {
    let mut all: Vec<_> = lanes.into_iter().flatten().collect();
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, one)| one).collect()
}
