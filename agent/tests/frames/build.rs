//! Sound frames of every shape that the parser tells apart.

use super::Rng;

/// What addresses and ports are taken from, so that enough of them mean something to a policy.
pub(crate) struct Pool {
    pub(crate) sources4: Vec<[u8; 4]>,
    pub(crate) sources6: Vec<[u8; 16]>,
    pub(crate) destinations4: Vec<[u8; 4]>,
    pub(crate) destinations6: Vec<[u8; 16]>,
    pub(crate) ports: Vec<u16>,
    /// Whether some frames are longer than a page.
    pub(crate) jumbo: bool,
}

impl Pool {
    /// Addresses and ports of no policy.
    pub(crate) fn plain() -> Self {
        Self {
            sources4: vec![[192, 0, 2, 7], [0; 4], [255; 4]],
            sources6: vec![[0x20; 16], [0; 16], [0xff; 16]],
            destinations4: vec![[203, 0, 113, 1]],
            destinations6: vec![[0xfd; 16]],
            ports: vec![0, 22, 53, 67, 68, 443, 546, 547, 1023, 1024, 40000, 65535],
            jumbo: false,
        }
    }

    fn port(&self, rng: &mut Rng) -> u16 {
        if rng.chance(85) {
            *rng.pick(&self.ports)
        } else {
            rng.word()
        }
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

pub(crate) fn sound(rng: &mut Rng, pool: &Pool) -> Vec<u8> {
    let mut frame = rng.bytes(12);
    let tags = *rng.pick(&[0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3]);
    for _ in 0..tags {
        frame.extend(*rng.pick(&[[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]]));
        frame.extend(rng.bytes(2));
    }
    match rng.below(20) {
        0 => {
            frame.extend([0x08, 0x06]);
            frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
            frame.extend(rng.bytes(20));
        }
        1 => {
            frame.extend(*rng.pick(&[[0x88, 0xcc], [0x00, 0x26], [0x90, 0x00], [0x88, 0x47]]));
            frame.extend(rng.bytes(46));
        }
        2..=10 => ipv4(rng, pool, &mut frame),
        _ => ipv6(rng, pool, &mut frame),
    }
    if rng.chance(10) {
        let padding = rng.below(46);
        frame.extend(vec![0; padding]);
    }
    frame
}

fn ipv4(rng: &mut Rng, pool: &Pool, frame: &mut Vec<u8>) {
    let options = if rng.chance(15) { 4 * rng.below(11) } else { 0 };
    let (protocol, piece) = (protocol(rng, ICMP), Piece::any(rng));
    let body = piece.body(rng, pool, protocol);
    let length = (20 + options + body.len()) as u16;
    let flags = match piece {
        Piece::Whole => *rng.pick(&[0x4000, 0]),
        Piece::First => 0x2000,
        Piece::Later(offset) => (offset & 0x1fff).max(1) | *rng.pick(&[0x2000, 0]),
    };
    frame.extend([0x08, 0x00, 0x45 + (options / 4) as u8, rng.byte()]);
    frame.extend(length.to_be_bytes());
    frame.extend(rng.bytes(2));
    frame.extend(u16::to_be_bytes(flags));
    frame.extend([hops(rng), protocol, 0, 0]);
    frame.extend(rng.pick(&pool.sources4));
    frame.extend(rng.pick(&pool.destinations4));
    frame.extend(vec![1; options]);
    frame.extend(body);
}

fn ipv6(rng: &mut Rng, pool: &Pool, frame: &mut Vec<u8>) {
    let protocol = protocol(rng, ICMPV6);
    let mut chain: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut piece = Piece::Whole;
    if rng.chance(45) {
        let longest = if rng.chance(10) { 11 } else { 4 };
        for position in 0..=rng.below(longest) {
            let number = *rng.pick(&[0, 43, 44, 44, 51, 60, 60, 135, 139, 140]);
            match number {
                // Behind another header it would be malformed: mutation sees to that.
                0 if position > 0 => continue,
                44 if !matches!(piece, Piece::Whole) => continue,
                44 => {
                    piece = Piece::any(rng);
                    chain.push((44, piece.header(rng)));
                    if matches!(piece, Piece::Later(_)) {
                        break;
                    }
                }
                51 => {
                    let words = 1 + rng.below(6);
                    let mut header = rng.bytes(4 * words + 8);
                    header[1] = words as u8;
                    chain.push((51, header));
                }
                _ => {
                    let length = if rng.chance(2) {
                        rng.below(256)
                    } else {
                        rng.below(3)
                    };
                    let mut header = rng.bytes(8 * length + 8);
                    header[1] = length as u8;
                    chain.push((number, header));
                }
            }
        }
    }
    let body = piece.body(rng, pool, protocol);
    let length = chain.iter().map(|(_, header)| header.len()).sum::<usize>() + body.len();
    frame.extend([0x86, 0xdd, 0x60 | (rng.byte() & 0x0f)]);
    frame.extend(rng.bytes(3));
    frame.extend((length as u16).to_be_bytes());
    let mut next_at = frame.len();
    frame.extend([protocol, hops(rng)]);
    frame.extend(rng.pick(&pool.sources6));
    frame.extend(rng.pick(&pool.destinations6));
    for (number, header) in chain {
        frame[next_at] = number;
        next_at = frame.len();
        frame.extend(header);
        frame[next_at] = protocol;
    }
    frame.extend(body);
}

fn hops(rng: &mut Rng) -> u8 {
    *rng.pick(&[64, 64, 64, 255, 255, 254, 1, 1, 2, 0])
}

fn protocol(rng: &mut Rng, icmp: u8) -> u8 {
    match rng.below(20) {
        0..=9 => TCP,
        10..=14 => UDP,
        15..=17 => icmp,
        18 => *rng.pick(&[ICMP, ICMPV6, 47, 50, 59, 132]),
        _ => rng.byte(),
    }
}

#[derive(Clone, Copy)]
enum Piece {
    Whole,
    First,
    /// In units of eight bytes.
    Later(u16),
}

impl Piece {
    fn any(rng: &mut Rng) -> Self {
        match rng.below(12) {
            0 => Self::First,
            1 | 2 => Self::Later(*rng.pick(&[1, 1, 2, 185, 0x1fff])),
            _ => Self::Whole,
        }
    }

    fn header(self, rng: &mut Rng) -> Vec<u8> {
        let piece: u16 = match self {
            Self::Whole => 0,
            Self::First => 1,
            Self::Later(offset) => offset << 3 | (rng.word() & 1),
        };
        let mut header = rng.bytes(8);
        header[2..4].copy_from_slice(&piece.to_be_bytes());
        header
    }

    fn body(self, rng: &mut Rng, pool: &Pool, protocol: u8) -> Vec<u8> {
        match self {
            Self::Whole => transport(rng, pool, protocol),
            Self::First => {
                let mut body = transport(rng, pool, protocol);
                if rng.chance(30) {
                    let length = rng.below(body.len() + 1);
                    body.truncate(length);
                }
                body
            }
            Self::Later(_) => {
                let length = rng.below(64);
                rng.bytes(length)
            }
        }
    }
}

fn transport(rng: &mut Rng, pool: &Pool, protocol: u8) -> Vec<u8> {
    let length = match rng.below(100) {
        0 if pool.jumbo => 3300 + rng.below(6000),
        1 => rng.below(1400),
        _ => rng.below(24),
    };
    let mut body = Vec::new();
    match protocol {
        TCP => {
            let options = if rng.chance(30) { rng.below(11) } else { 0 };
            body.extend(pool.port(rng).to_be_bytes());
            body.extend(pool.port(rng).to_be_bytes());
            body.extend(rng.bytes(8));
            let flags = *rng.pick(&[0x02, 0x02, 0x10, 0x12, 0x18, 0x11, 0x04, 0xc2, 0x00, 0xff]);
            body.extend([(5 + options as u8) << 4, flags]);
            body.extend(rng.bytes(6));
            body.extend(vec![1; 4 * options]);
        }
        UDP => {
            body.extend(pool.port(rng).to_be_bytes());
            body.extend(pool.port(rng).to_be_bytes());
            body.extend((8 + length as u16).to_be_bytes());
            body.extend(rng.bytes(2));
        }
        ICMP | ICMPV6 => {
            let kind = *rng.pick(&[
                0, 1, 2, 3, 4, 5, 8, 11, 12, 128, 130, 131, 133, 134, 135, 136, 137, 143,
            ]);
            body.extend([kind, 0]);
            body.extend(rng.bytes(6));
        }
        _ => {}
    }
    body.extend(vec![0xdb; length]);
    body
}
