"""Handshake messages that are missing, doubled or out of their order, and the ChangeCipherSpec before its time."""

from tlslite.constants import ContentType, HandshakeType

from client import message

CHANGE = b"\x01"


def steps(*names, **offer):
    """Takes steps of a handshake in this order, after the gateway's flight."""

    def probe(client):
        client.begin(**offer)
        for name in names:
            STEPS[name](client)

    return probe


def change_alone(client):
    """A ChangeCipherSpec, while the records stay as they are."""
    client.send(CHANGE, ContentType.change_cipher_spec)


STEPS = {
    "certificate": lambda client: client.certificate(),
    "key_exchange": lambda client: client.key_exchange(),
    "verify": lambda client: client.verify(),
    "change": lambda client: client.change_cipher(),
    "change_alone": change_alone,
    "finished": lambda client: client.finished(),
    "finished_in_clear": lambda client: client.send(message(HandshakeType.finished, bytes(12))),
    "hello": lambda client: client.hello(),
    "data": lambda client: client.send(b"GET / HTTP/1.1\r\n\r\n", ContentType.application_data),
    "server_hello": lambda client: client.send(message(HandshakeType.server_hello, bytes(38))),
    "hello_request": lambda client: client.send(message(HandshakeType.hello_request, b"")),
    "next_protocol": lambda client: client.send(message(67, b"\x02h2" + bytes(30))),
    "unknown": lambda client: client.send(message(99, b"")),
    "key_update": lambda client: client.send(message(24, b"\x00")),
}


def change_before_hello(client):
    change_alone(client)
    client.hello()


def two_hellos(client):
    first = client.hello_message()
    client.send(first + first)


def renegotiation(client):
    client.shake_hands()
    client.random = bytes(32)
    client.send(client.hello_message())


def renegotiation_after_a_request(client):
    client.shake_hands()
    client.request()
    client.send(client.hello_message())


def finished_twice(client):
    client.shake_hands()
    client.finished()


def change_after_the_handshake(client):
    client.shake_hands()
    change_alone(client)


def wrong_finished(client):
    client.until_verified()
    client.change_cipher()
    client.send(message(HandshakeType.finished, bytes(12)))


def short_finished(client):
    client.until_verified()
    client.change_cipher()
    client.send(message(HandshakeType.finished, bytes(4)))


PROBES = {
    "key_exchange_before_certificate": steps("key_exchange", "certificate", "verify", "change", "finished"),
    "verify_before_key_exchange": steps("certificate", "verify", "key_exchange", "change", "finished"),
    "no_certificate_message": steps("key_exchange", "verify", "change", "finished"),
    "no_key_exchange": steps("certificate", "change_alone", "finished_in_clear"),
    "no_verify": steps("certificate", "key_exchange", "change", "finished"),
    "no_change": steps("certificate", "key_exchange", "verify", "finished_in_clear"),
    "no_finished": steps("certificate", "key_exchange", "verify", "change", "data"),
    "certificate_twice": steps("certificate", "certificate"),
    "key_exchange_twice": steps("certificate", "key_exchange", "key_exchange"),
    "verify_twice": steps("certificate", "key_exchange", "verify", "verify"),
    "change_twice": steps("certificate", "key_exchange", "verify", "change", "change_alone"),
    "second_hello_before_the_answer": two_hellos,
    "second_hello_after_the_answer": steps("hello"),
    "data_within_the_handshake": steps("data"),
    "change_before_the_hello": change_before_hello,
    "change_before_the_certificate": steps("change_alone"),
    "change_before_the_key_exchange": steps("certificate", "change_alone", "key_exchange"),
    "change_before_the_verify": steps("certificate", "key_exchange", "change", "finished"),
    "change_after_the_handshake": change_after_the_handshake,
    "finished_twice": finished_twice,
    "finished_with_wrong_content": wrong_finished,
    "finished_too_short": short_finished,
    "server_hello_from_the_client": steps("server_hello"),
    "hello_request_from_the_client": steps("hello_request"),
    "next_protocol_that_nobody_offered": steps("certificate", "key_exchange", "next_protocol"),
    "key_update_of_tls_1_3": steps("key_update"),
    "message_of_an_unknown_type": steps("unknown"),
    "renegotiation": renegotiation,
    "renegotiation_after_a_request": renegotiation_after_a_request,
}
