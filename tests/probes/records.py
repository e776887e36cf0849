"""Records and ClientHellos that are cut off, or say of themselves what is not so."""

import socket

from tlslite.constants import ContentType, HandshakeType

from client import SUITE, extension, message, record, vector


def sent(make):
    """Sends bytes, and waits."""

    def probe(client):
        client.raw(make(client))

    return probe


def cut(make):
    """Sends bytes, and ends its half of the connection."""

    def probe(client):
        client.raw(make(client))
        client.socket.shutdown(socket.SHUT_WR)

    return probe


def hello(client, **offer):
    return client.hello_message(**offer)


def body(client, session=b"", suites=None, compression=b"\x01\x00", extensions=b""):
    suites = vector(SUITE.to_bytes(2, "big"), 2) if suites is None else suites
    content = b"\x03\x03" + client.random + vector(session, 1) + suites + compression + extensions
    return record(message(HandshakeType.client_hello, content))


def mutated_certificate(client):
    client.begin()
    whole = bytearray(client.certificate_message())
    whole[7] ^= 0xFF
    client.send(bytes(whole))


def cut_off_after(step):
    def probe(client):
        client.begin()
        step(client)
        client.socket.shutdown(socket.SHUT_WR)

    return probe


def half_a_certificate(client):
    client.raw(record(client.certificate_message())[:200])


PROBES = {
    "nothing_at_all": cut(lambda client: b""),
    "half_a_record_header": cut(lambda client: record(hello(client))[:3]),
    "half_a_message_header": cut(lambda client: record(hello(client)[:2])),
    "half_a_hello": cut(lambda client: record(hello(client))[:60]),
    "half_a_hello_in_a_whole_record": cut(lambda client: record(hello(client)[:60])),
    "half_a_certificate": cut_off_after(half_a_certificate),
    "certificate_alone": cut_off_after(lambda client: client.certificate()),
    "mutated_certificate_list": mutated_certificate,
    "record_without_content": cut(lambda client: record(b"")),
    "record_of_an_unknown_type": sent(lambda client: record(hello(client), kind=99)),
    "record_of_application_data": sent(lambda client: record(hello(client), kind=ContentType.application_data)),
    "record_of_another_protocol": sent(lambda client: record(hello(client), version=(5, 5))),
    "record_longer_than_allowed": sent(lambda client: b"\x16\x03\x03\x48\x01" + bytes(0x4801)),
    "message_longer_than_allowed": sent(lambda client: record(b"\x01\xff\xff\xff" + hello(client)[4:])),
    "hello_with_a_byte_too_much": sent(
        lambda client: record(message(HandshakeType.client_hello, client.hello_body() + b"\x00"))
    ),
    "hello_with_a_byte_too_little": sent(
        lambda client: record(message(HandshakeType.client_hello, client.hello_body()[:-1]))
    ),
    "session_id_too_long": sent(lambda client: body(client, session=bytes(33))),
    "suites_of_an_odd_length": sent(lambda client: body(client, suites=vector(b"\x00\x6b\x00", 2))),
    "no_suites": sent(lambda client: body(client, suites=vector(b"", 2))),
    "suites_beyond_the_end": sent(lambda client: body(client, suites=b"\xff\xfe\x00\x6b")),
    "no_compression_method": sent(lambda client: body(client, compression=b"\x00")),
    "deflate_alone": sent(lambda client: body(client, compression=b"\x01\x01")),
    "extension_twice": sent(
        lambda client: body(client, extensions=vector(extension(23) + extension(23), 2))
    ),
    "extension_beyond_the_end": sent(lambda client: body(client, extensions=b"\x00\x04\x00\x17\x00\x09")),
    "renegotiation_info_of_an_earlier_handshake": sent(
        lambda client: body(client, extensions=vector(extension(0xFF01, vector(bytes(12), 1)), 2))
    ),
    "signature_algorithms_of_an_odd_length": sent(
        lambda client: body(client, extensions=vector(extension(13, vector(b"\x04\x01\x04", 2)), 2))
    ),
    "hello_longer_than_is_read": sent(
        lambda client: record(b"\x01\x02\x02\x00" + hello(client)[4:])
    ),
}
