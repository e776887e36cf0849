"""Handshakes in pieces: legal, however small the pieces are (RFC 5246 section 6.2.1)."""

import time

from tlslite.constants import ContentType

from client import extension, record

PADDING = 21


def hello_in_records(size):
    def probe(client):
        whole = client.hello_message()
        client.transcript += whole
        client.raw(b"".join(record(whole[at : at + size]) for at in range(0, len(whole), size)))
        client.finish()
        return "finished"

    return probe


def hello_in_segments(client):
    whole = client.hello_message()
    client.transcript += whole
    for byte in record(whole):
        client.raw(bytes([byte]))
        time.sleep(0.001)
    client.finish()
    return "finished"


def certificate_in_records(client):
    client.begin()
    whole = client.certificate_message()
    for at in range(0, len(whole), 100):
        client.send(whole[at : at + 100])
    client.key_exchange()
    client.verify()
    client.end()
    client.request()
    return "finished"


def three_messages_in_one_record(client):
    client.begin()
    transcript = client.transcript
    certificate = client.certificate_message()
    share = client.share_message()
    verify = client.verify_message(signed=transcript + certificate + share)
    client.send(certificate + share + verify)
    client.end()
    client.request()
    return "finished"


def data_in_records_of_one_byte(client):
    client.shake_hands()
    request = b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n"
    for byte in request[:-1]:
        client.send(bytes([byte]), ContentType.application_data)
    client.send(request[-1:], ContentType.application_data)
    client.next_record()
    return "finished"


def empty_record_between(client):
    """RFC 5246 forbids it; OpenSSL takes a few, which changes nothing."""
    whole = client.hello_message()
    client.transcript += whole
    client.raw(record(whole[:20]) + record(b"") + record(whole[20:]))
    client.finish()
    return "finished"


def empty_records_without_end(client):
    client.raw(record(b"") * 64)


def long_hello(client):
    client.hello(extra=extension(PADDING, bytes(60_000)))
    client.finish()
    return "finished"


def other_record_between(client):
    whole = client.hello_message()
    client.raw(record(whole[:20]) + record(b"GET", kind=ContentType.application_data) + record(whole[20:]))


def alert_in_pieces(client):
    client.raw(record(b"\x01", kind=ContentType.alert) + record(b"\x00", kind=ContentType.alert))


PROBES = {
    "hello_in_records_of_one_byte": hello_in_records(1),
    "hello_in_records_of_seven_bytes": hello_in_records(7),
    "hello_in_segments_of_one_byte": hello_in_segments,
    "certificate_in_records_of_a_hundred_bytes": certificate_in_records,
    "three_messages_in_one_record": three_messages_in_one_record,
    "data_in_records_of_one_byte": data_in_records_of_one_byte,
    "hello_of_sixty_thousand_bytes": long_hello,
    "empty_record_within_the_hello": empty_record_between,
    "empty_records_without_end": empty_records_without_end,
    "data_within_the_hello": other_record_between,
    "alert_in_pieces": alert_in_pieces,
}
