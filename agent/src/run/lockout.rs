//! Whether a change would cut off those who could take it back: the operator's own session and the control plane.

use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;
use spinegate_common::{Outcome, Pass};

use crate::{
    config::{self, Source},
    control::{Failure, FailureKind, Session},
    filter::Model,
};

/// A way to this host that must stay open.
struct Way {
    what: String,
    source: IpAddr,
    frame: Vec<u8>,
}

/// Refuses a policy that closes a way which the old one leaves open.
pub(super) fn check_policy(
    old: (&config::Filter, &[Source]),
    new: (&config::Filter, &[Source]),
    session: Option<Session>,
) -> Result<(), Failure> {
    let ways = ways(new.0, session);
    if ways.is_empty() || new.0.mode == config::FilterMode::Off {
        return Ok(());
    }
    let model = |(config, sources)| {
        Model::new(config, sources)
            .map_err(|error| Failure::new(FailureKind::Refused, error.to_string(), "nothing was changed"))
    };
    let (old, new) = (model(old)?, model(new)?);
    match ways
        .iter()
        .find(|way| old.judge(&way.frame).0.outcome.passes() && !new.judge(&way.frame).0.outcome.passes())
    {
        Some(way) => Err(refusal(way)),
        None => Ok(()),
    }
}

/// Refuses a denial that closes a way: one on a source for which `cut` holds.
pub(super) fn check_verdict(
    config: &config::Filter,
    session: Option<Session>,
    cut: impl Fn(IpAddr) -> bool,
) -> Result<(), Failure> {
    let ways: Vec<Way> = ways(config, session)
        .into_iter()
        .filter(|way| cut(way.source))
        .collect();
    if ways.is_empty() {
        return Ok(());
    }
    // Without any source on the allowlist, what passes is what no verdict can stop.
    let model = Model::new(config, &[])
        .map_err(|error| Failure::new(FailureKind::Refused, error.to_string(), "nothing was changed"))?;
    let stays_open = |way: &&Way| {
        matches!(
            model.judge(&way.frame).0.outcome,
            Outcome::Passed(Pass::Unguarded | Pass::Failsafe | Pass::Control)
        )
    };
    match ways.iter().find(|way| !stays_open(way)) {
        Some(way) => Err(refusal(way)),
        None => Ok(()),
    }
}

fn refusal(way: &Way) -> Failure {
    Failure::new(
        FailureKind::Refused,
        format!("this would cut off {}", way.what),
        "nothing was changed; add the address to the allowlist or to [[filter.failsafe]], or give --force",
    )
}

fn ways(config: &config::Filter, session: Option<Session>) -> Vec<Way> {
    let session = session.into_iter().filter_map(|Session { source, destination }| {
        Some(Way {
            what: format!("your own session from {}", source.ip()),
            source: source.ip().to_canonical(),
            frame: frame(source, destination)?,
        })
    });
    let planned = config.control_plane.iter().flat_map(|address| {
        config.control_plane_ports.iter().filter_map(move |port| {
            let source = SocketAddr::new(*address, 40_000);
            let here: IpAddr = if address.is_ipv4() {
                [192, 0, 2, 1].into()
            } else {
                [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()
            };
            Some(Way {
                what: format!("the control plane's {address} from port {port}"),
                source: *address,
                frame: frame(source, SocketAddr::new(here, *port))?,
            })
        })
    });
    session.chain(planned).collect()
}

/// A packet of an open TCP connection; none between two families.
fn frame(source: SocketAddr, destination: SocketAddr) -> Option<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let ip = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ethernet.ipv4(source.octets(), destination.octets(), 64)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ethernet.ipv6(source.octets(), destination.octets(), 64)
        }
        _ => return None,
    };
    let mut frame = Vec::new();
    ip.tcp(source.port(), destination.port(), 1, 1024)
        .ack(1)
        .write(&mut frame, &[])
        .ok()?;
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Failsafe, GuardedService, Scope};

    fn config(scope: Scope) -> config::Filter {
        config::Filter {
            scope,
            services: vec![GuardedService::everywhere("tcp/443".parse().unwrap())],
            ..config::Filter::default()
        }
    }

    fn session(port: u16) -> Option<Session> {
        Some(Session {
            source: "203.0.113.9:50000".parse().unwrap(),
            destination: SocketAddr::new([192, 0, 2, 1].into(), port),
        })
    }

    fn listed(cidr: &str) -> Source {
        Source::new(cidr.parse().unwrap(), cidr)
    }

    #[test]
    fn a_policy_that_cuts_the_operators_session_is_refused() {
        let (services, host) = (config(Scope::Services), config(Scope::Host));
        let none: &[Source] = &[];
        let error = check_policy((&services, none), (&host, none), session(22)).unwrap_err();
        assert!(error.message.contains("203.0.113.9"), "{error}");
        let listed = [listed("203.0.113.0/24")];
        assert!(check_policy((&services, none), (&host, &listed), session(22)).is_ok());
        assert!(check_policy((&services, none), (&services, none), session(22)).is_ok());
        assert!(
            check_policy((&host, none), (&host, none), session(22)).is_ok(),
            "what is cut already is no reason to refuse"
        );
        assert!(check_policy((&services, none), (&host, none), None).is_ok());
        let error = check_policy((&host, &listed), (&host, none), session(22)).unwrap_err();
        assert!(error.mend.contains("--force"), "{error}");
    }

    #[test]
    fn the_control_plane_is_never_cut_off_unless_a_failsafe_keeps_it() {
        let mut host = config(Scope::Host);
        host.control_plane = vec!["2001:db8::9".parse().unwrap()];
        let none: &[Source] = &[];
        let services = config(Scope::Services);
        assert!(check_policy((&services, none), (&host, none), None).is_err());
        host.failsafes = vec![Failsafe {
            cidr: "2001:db8::/64".parse().unwrap(),
            services: vec!["tcp/22".parse().unwrap()],
        }];
        assert!(check_policy((&services, none), (&host, none), None).is_ok());
    }

    #[test]
    fn a_denial_of_the_operators_own_address_is_refused_where_it_would_bite() {
        let own = |address: IpAddr| address == IpAddr::from([203, 0, 113, 9]);
        assert!(check_verdict(&config(Scope::Services), session(22), own).is_ok());
        assert!(check_verdict(&config(Scope::Services), session(443), own).is_err());
        assert!(check_verdict(&config(Scope::Host), session(22), own).is_err());
        assert!(check_verdict(&config(Scope::Host), session(22), |_| false).is_ok());
    }
}
