"""Diffie-Hellman shares of the client that give a known secret, or are none (RFC 7919 section 5.1)."""

from tlslite.constants import HandshakeType
from tlslite.utils.cryptomath import numberToByteArray

from client import message, vector


def share(make):
    def probe(client):
        client.begin()
        client.certificate()
        body = make(client.prime)
        client.send(message(HandshakeType.client_key_exchange, body))
        client.verify()
        client.change_cipher()
        client.finished()

    return probe


def number(value):
    return vector(numberToByteArray(value, 256), 2)


PROBES = {
    "share_0": share(lambda prime: number(0)),
    "share_1": share(lambda prime: number(1)),
    "share_p_minus_1": share(lambda prime: number(prime - 1)),
    "share_p": share(number),
    "share_p_plus_1": share(lambda prime: number(prime + 1)),
    "share_of_no_bytes": share(lambda prime: vector(b"", 2)),
    "share_longer_than_the_prime": share(lambda prime: vector(b"\x01" * 512, 2)),
    "share_shorter_than_its_length": share(lambda prime: b"\x01\x00" + b"\x02" * 255),
    "share_longer_than_its_length": share(lambda prime: b"\x01\x00" + b"\x02" * 257),
    "share_without_a_length": share(lambda prime: b""),
}
