"""What is not TLS, or a part of TLS that this gateway does not speak."""

import struct

from tlslite.constants import ContentType

from client import extension, record

HEARTBEAT, HEARTBEAT_EXTENSION = 24, 15
# A request whose payload is said to be longer than it is (CVE-2014-0160).
BLEED = b"\x01\x40\x00"


def sent(content):
    def probe(client):
        client.raw(content)

    return probe


def heartbeat_within(client):
    client.begin(extra=extension(HEARTBEAT_EXTENSION, b"\x01"))
    client.raw(record(BLEED, kind=HEARTBEAT))


def heartbeat_after(client):
    client.shake_hands(extra=extension(HEARTBEAT_EXTENSION, b"\x01"))
    client.send(BLEED, HEARTBEAT)


def sslv2_hello():
    """A hello in the form of SSL 2.0 that offers TLS 1.2 and the right suite."""
    suites, challenge = b"\x00\x00\x6b", bytes(range(32))
    body = b"\x01\x03\x03" + struct.pack("!HHH", len(suites), 0, len(challenge)) + suites + challenge
    return struct.pack("!H", 0x8000 | len(body)) + body


def alert(level, number):
    return record(bytes([level, number]), kind=ContentType.alert)


def fatal_alert_after(client):
    client.begin()
    client.raw(alert(2, 48))


PROBES = {
    "http": sent(b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n"),
    "http_proxy": sent(b"CONNECT edge:443 HTTP/1.1\r\n\r\n"),
    "http_2": sent(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "proxy_protocol": sent(b"PROXY TCP4 10.239.14.31 10.239.14.26 40000 443\r\n"),
    "ssh": sent(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
    "zeros": sent(bytes(64)),
    "sslv2_hello": sent(sslv2_hello()),
    "sslv2_hello_of_ssl_2": sent(b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37)),
    "heartbeat_before_the_hello": sent(record(BLEED, kind=HEARTBEAT)),
    "heartbeat_within_the_handshake": heartbeat_within,
    "heartbeat_after_the_handshake": heartbeat_after,
    "fatal_alert_first": sent(alert(2, 40)),
    "close_notify_first": sent(alert(1, 0)),
    "fatal_alert_after_the_gateways_part": fatal_alert_after,
    "warnings_without_end": sent(alert(1, 90) * 64),
    "alert_of_an_unknown_level": sent(alert(7, 40)),
}
