//! Whom the gateway needs: its registry, its upstreams, and the agent itself.

use std::{
    net::{TcpStream, ToSocketAddrs as _},
    path::Path,
    time::{Duration, SystemTime},
};

use super::Finding;
use crate::{
    config::Config,
    control::{ClientError, Response, Status},
    directory::{DirectoryStatus, Order},
};

/// A host that does not answer within this time will not do so for requests either.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn registry(config: &Config, status: Option<&Status>, now: SystemTime) -> Vec<Finding> {
    if let Some(status) = status {
        return status.registry.iter().map(source).collect();
    }
    match Order::load(&config.registry, now) {
        Ok(_) => vec![Finding::ok(
            "registry",
            "its files are sound; no agent runs that could tell how old it is",
        )],
        Err(problems) => problems
            .into_iter()
            .map(|problem| Finding::fail("registry", problem.message, problem.mend).about(problem.key))
            .collect(),
    }
}

fn source(found: &DirectoryStatus) -> Finding {
    const CHECK: &str = "registry";
    let detail = format!("{}, {} systems", found.state, found.systems);
    let mend = "`spinegate registry sync`, and `spinegate status` says what stands against it";
    let why = found.held.as_ref().or(found.last_error.as_ref());
    let finding = match (found.state.as_str(), why) {
        ("fresh" | "listed", None) => Finding::ok(CHECK, detail),
        ("fresh", Some(why)) => Finding::warn(CHECK, format!("{detail}; {why}"), mend),
        (_, why) => {
            let why = why.map(|why| format!("; {why}")).unwrap_or_default();
            Finding::fail(CHECK, format!("{detail}{why}: its systems do not count"), mend)
        }
    };
    finding.about(&found.source)
}

pub(super) fn upstreams(config: &Config) -> Vec<Finding> {
    let upstreams = config.gateway.upstreams.iter();
    let tried: Vec<_> = upstreams
        .map(|uri| {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") {
                443
            } else {
                80
            });
            (uri.to_string(), connect(host, port))
        })
        .collect();
    judge(tried)
}

fn connect(host: &str, port: u16) -> Result<(), String> {
    let addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    let mut fault = "the name has no address".to_owned();
    for address in addresses.take(4) {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => fault = format!("{address}: {error}"),
        }
    }
    Err(fault)
}

/// One that can't be reached is amiss where there is no other.
fn judge(tried: Vec<(String, Result<(), String>)>) -> Vec<Finding> {
    const CHECK: &str = "upstream";
    const MEND: &str = "see that it runs, and that this host may reach it; gateway.upstream names it";
    let any = tried.iter().any(|(_, reached)| reached.is_ok());
    tried
        .into_iter()
        .map(|(name, reached)| {
            match reached {
                Ok(()) => Finding::ok(CHECK, "it takes connections"),
                Err(fault) if any => Finding::warn(CHECK, fault, MEND),
                Err(fault) => Finding::fail(CHECK, fault, MEND),
            }
            .about(name)
        })
        .collect()
}

pub(super) fn agent(socket: &Path, answer: &Result<Response, ClientError>) -> Finding {
    const CHECK: &str = "control";
    let socket = socket.display();
    match answer {
        Ok(Response::Status(status)) if status.version == env!("CARGO_PKG_VERSION") => Finding::ok(
            CHECK,
            format!(
                "the agent {} answers on {socket}, process {}",
                status.version, status.pid
            ),
        ),
        Ok(Response::Status(status)) => Finding::warn(
            CHECK,
            format!(
                "the agent is of version {}, this command of {}",
                status.version,
                env!("CARGO_PKG_VERSION")
            ),
            "restart it: `systemctl restart spinegate`, or `spinegate run --take-over`",
        ),
        Ok(_) => Finding::fail(
            CHECK,
            format!("{socket} gave no status"),
            "use the `spinegate` command of the running agent",
        ),
        Err(error) => {
            let text = error.to_string();
            let (detail, mend) = text.split_once("; ").unwrap_or((&text, "see the agent's log"));
            match error {
                ClientError::Denied { .. } => Finding::warn(CHECK, detail, mend),
                _ => Finding::fail(CHECK, detail, mend),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::doctor::Health;

    #[test]
    fn an_upstream_that_cannot_be_reached_is_amiss_unless_there_is_another() {
        let dead = || ("http://b".to_owned(), Err("refused".to_owned()));
        let alive = || ("http://a".to_owned(), Ok(()));
        let outcomes = |tried| -> Vec<_> { judge(tried).iter().map(|finding| finding.outcome).collect() };
        assert_eq!(outcomes(vec![alive(), dead()]), [Health::Ok, Health::Warn]);
        assert_eq!(outcomes(vec![dead()]), [Health::Fail]);
    }

    #[test]
    fn a_listener_is_reached_and_a_closed_port_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(connect("127.0.0.1", port), Ok(()));
        drop(listener);
        assert!(connect("127.0.0.1", port).unwrap_err().contains("127.0.0.1"));
    }

    #[test]
    fn a_source_of_the_registry_counts_while_it_is_fresh() {
        let of = |state: &str, last_error: Option<&str>| {
            source(&DirectoryStatus {
                source: "ldap".to_owned(),
                state: state.to_owned(),
                last_error: last_error.map(str::to_owned),
                ..DirectoryStatus::default()
            })
            .outcome
        };
        assert_eq!([of("fresh", None), of("listed", None)], [Health::Ok; 2]);
        assert_eq!(of("fresh", Some("no answer")), Health::Warn);
        assert_eq!(of("overdue", Some("no answer")), Health::Fail);
        assert_eq!(of("none", None), Health::Fail);
    }

    #[test]
    fn an_agent_that_does_not_run_is_amiss_and_one_that_may_not_be_asked_is_not() {
        let of = |error| agent(Path::new("/s"), &Err(error));
        let stopped = of(ClientError::NotRunning);
        assert_eq!(stopped.outcome, Health::Fail);
        assert_eq!(stopped.mend.as_deref(), Some("start it with `spinegate run`"));
        let denied = ClientError::Denied { socket: "/s".into() };
        assert_eq!(of(denied).outcome, Health::Warn);
    }
}
