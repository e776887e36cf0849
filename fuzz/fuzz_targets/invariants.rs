//! What holds for every frame. The fuzzer and the replay of its corpus (agent/tests/parser) check the same.

use std::{cell::Cell, sync::LazyLock};

use bytemuck::allocation::zeroed_box;
use spinegate_common::{
    Budget, Judgement, Layer, Outcome, Pass, Reason, Standing, World, judge,
    packet::{Address, Fragment, Network, Packet, parse, protocol},
    policy::{Control, Head, port_index, service},
    tree::{Page, tag},
};

/// Panics where something does not hold.
pub(crate) fn hold(frame: &[u8]) {
    let mut packet = Packet::default();
    let result = parse(&frame, &mut packet);
    parsed(frame, result, &packet);

    // No byte behind the packet's end has a say.
    if result.is_ok() && packet.end != 0 {
        let mut again = Packet::default();
        let cut = frame
            .get(..packet.end as usize)
            .expect("a packet inside its frame");
        assert_eq!(parse(&cut, &mut again), Ok(()));
        assert_eq!(again, packet);
    }

    for host in [false, true] {
        judged(host, frame, result);
    }
}

fn parsed(frame: &[u8], result: Result<(), Reason>, packet: &Packet) {
    assert!(packet.end as usize <= frame.len());
    let has_ports = matches!(packet.protocol, protocol::TCP | protocol::UDP);
    if !has_ports || packet.fragment == Fragment::Later {
        assert_eq!((packet.source_port, packet.destination_port), (0, 0));
    }
    if packet.protocol != protocol::TCP || packet.fragment == Fragment::Later {
        assert_eq!(packet.tcp_flags, 0);
        assert!(!packet.opens_connection());
    }
    match result {
        Ok(()) => {
            let is_ip = matches!(packet.network, Network::Ipv4 | Network::Ipv6);
            assert_eq!(packet.end != 0, is_ip);
            assert_ne!(packet.network, Network::Unknown);
        }
        Err(reason) => assert_eq!(reason.layer(), Layer::Filter),
    }
}

/// Guards tcp/443 and udp/53, and lists nobody.
struct Nobody {
    asked: Cell<u32>,
}

static HEADS: LazyLock<[Box<Head>; 2]> = LazyLock::new(|| {
    [0, 1].map(|host| {
        let mut head: Box<Head> = zeroed_box();
        head.host = host;
        head.fragments = [1 << service::FIRST, 1 << (service::FIRST + 1)];
        for (number, (protocol, port)) in (service::FIRST..).zip([(protocol::TCP, 443), (protocol::UDP, 53)])
        {
            let index = port_index(protocol, port).expect("a protocol with ports");
            head.ports[index] = number as u8;
        }
        head
    })
});

fn judged(host: bool, frame: &[u8], result: Result<(), Reason>) {
    let world = Nobody { asked: Cell::new(0) };
    let control = Control {
        slot: 0,
        verdicts: true,
        prefix_verdicts: true,
        generation: 0,
    };
    let mut packet = Packet::default();
    let [services, whole] = &*HEADS;
    let head = if host { whole } else { services };
    let Judgement {
        outcome,
        service,
        entry,
    } = judge(&frame, &world, control, head, &mut packet);
    assert_eq!(entry, 0, "nobody is listed");
    assert!(service < service::END);
    assert_eq!(world.asked.get() != 0, outcome == Outcome::Passed(Pass::Control));
    match (result, outcome) {
        (Err(reason), outcome) => assert_eq!(outcome, Outcome::Dropped(reason)),
        (Ok(()), Outcome::Passed(Pass::Unguarded)) => {
            assert!(!host, "in scope host nothing is left unguarded");
            let guarded = [(protocol::TCP, 443), (protocol::UDP, 53)];
            assert!(!guarded.contains(&(packet.protocol, packet.destination_port)));
        }
        (Ok(()), Outcome::Passed(pass)) => assert_eq!((pass, host), (Pass::Control, true)),
        (Ok(()), Outcome::Dropped(reason)) => {
            let expected = match packet.fragment {
                Fragment::Later => Reason::FragmentNotAllowlisted,
                _ if packet.network == Network::Other => Reason::EthertypeUnknown,
                _ => Reason::SourceNotAllowlisted,
            };
            assert_eq!(reason, expected);
        }
        (Ok(()), Outcome::WouldDrop(_)) => panic!("nothing is only watched"),
    }
}

impl World for Nobody {
    type Verdict = ();

    fn head_page<'head>(&self, _head: &'head Head, _page: u32) -> Option<&'head Page> {
        None
    }

    fn page(&self, _slot: u32, _page: u32) -> Option<&Page> {
        None
    }

    fn leaf6(&self, _slot: u32, _address: &Address) -> u32 {
        tag::NOTHING
    }

    fn verdict(&self, _source: &Address) -> Option<Standing<()>> {
        None
    }

    fn prefix_verdict(&self, _source: &Address) -> Option<Standing<()>> {
        None
    }

    fn hit(&self, (): ()) {}

    fn spend_trusted(&self, (): (), _budget: &Budget) -> bool {
        unreachable!("nobody is trusted")
    }

    fn spend_untrusted(&self, _source: &Address, _budget: &Budget) -> bool {
        unreachable!("nobody is listed")
    }

    fn spend_control(&self, _budget: &Budget) -> bool {
        self.asked.set(self.asked.get() + 1);
        true
    }

    fn boot_time(&self) -> u64 {
        1
    }
}
