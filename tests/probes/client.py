"""A TLS 1.2 client that is driven message by message, so that each of them can be wrong, missing or out of turn.

tlslite-ng has the arithmetic and the record protocol; what is sent when is up to the probe.
"""

import secrets
import socket
import struct

from tlslite.api import parsePEMKey
from tlslite.constants import CipherSuite, ContentType, HandshakeType
from tlslite.handshakehashes import HandshakeHashes
from tlslite.mathtls import calc_key
from tlslite.messages import Message, ServerHello, ServerKeyExchange
from tlslite.recordlayer import RecordLayer
from tlslite.utils.codec import Parser
from tlslite.utils.cryptomath import numberToByteArray
from tlslite.utils.pem import dePemList

TLS_1_2 = (3, 3)
SUITE = CipherSuite.TLS_DHE_RSA_WITH_AES_256_CBC_SHA256
RENEGOTIATION_SCSV = CipherSuite.TLS_EMPTY_RENEGOTIATION_INFO_SCSV
RSA_PKCS1_SHA256 = 0x0401

SUPPORTED_GROUPS, SIGNATURE_ALGORITHMS = 10, 13
ENCRYPT_THEN_MAC, EXTENDED_MASTER_SECRET = 22, 23

LONGEST_RECORD = 16_384
# An answer that takes longer is none.
PATIENCE = 4.0


def vector(content, width):
    """A vector of RFC 5246 section 4.3: its length in so many bytes, and its content."""
    return len(content).to_bytes(width, "big") + bytes(content)


def extension(number, content=b""):
    return struct.pack("!H", number) + vector(content, 2)


def message(kind, body):
    return bytes([kind]) + vector(body, 3)


def record(content, kind=ContentType.handshake, version=TLS_1_2):
    return bytes([kind, *version]) + vector(content, 2)


class Target:
    """Where the gateway is, and who speaks to it."""

    def __init__(self, address, port, chain, key, other_key, strangers):
        self.address, self.port = address, port
        self.chain, self.key = certificates(chain), private_key(key)
        self.other_key = private_key(other_key)
        self.strangers = certificates(strangers)


def certificates(path):
    with open(path, encoding="ascii") as file:
        return [bytes(der) for der in dePemList(file.read(), "CERTIFICATE")]


def private_key(path):
    with open(path, encoding="ascii") as file:
        return parsePEMKey(file.read(), private=True)


class Refused(Exception):
    """The gateway sent an alert."""

    def __init__(self, level, number):
        super().__init__(f"alert {number}")
        self.level, self.number = level, number


class Records(RecordLayer):
    """The record protocol, with hands in its MAC and its padding."""

    bend_mac = bend_padding = None

    def calculateMAC(self, mac, seqnumBytes, contentType, data):
        found = super().calculateMAC(mac, seqnumBytes, contentType, data)
        return self.bend_mac(found) if self.bend_mac else found

    def addPadding(self, data):
        length = len(data)
        padded = super().addPadding(data)
        return self.bend_padding(padded, length) if self.bend_padding else padded


class Listener:
    """A socket that remembers what it received."""

    def __init__(self, inner):
        self.inner, self.heard = inner, bytearray()

    def recv(self, length):
        content = self.inner.recv(length)
        self.heard += content
        return content

    def send(self, content):
        return self.inner.send(content)

    def last_record(self):
        rest = self.heard
        while len(rest) > 5 + (length := int.from_bytes(rest[3:5], "big")):
            rest = rest[5 + length :]
        return bytes(rest)


class Client:
    """One connection, and what of the handshake has been said on it."""

    def __init__(self, target):
        self.target = target
        self.socket = socket.create_connection((target.address, target.port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local_port = self.socket.getsockname()[1]
        self.wire = Listener(self.socket)
        self.records = Records(self.wire)
        self.records.version, self.records.client = TLS_1_2, True
        self.transcript = b""
        self.received = bytearray()
        self.random = secrets.token_bytes(32)
        self.etm = self.ems = False

    # What is sent

    def raw(self, content):
        self.socket.sendall(content)

    def send(self, content, kind=ContentType.handshake):
        """Sends a record as the connection's state protects it. A handshake message becomes part of the transcript."""
        if kind == ContentType.handshake:
            self.transcript += content
        for at in range(0, len(content), LONGEST_RECORD):
            for _ in self.records.sendRecord(Message(kind, bytearray(content[at : at + LONGEST_RECORD]))):
                pass

    def hello_body(self, etm=True, ems=True, suites=(SUITE, RENEGOTIATION_SCSV), extra=b"", version=TLS_1_2):
        extensions = extension(SIGNATURE_ALGORITHMS, vector(struct.pack("!H", RSA_PKCS1_SHA256), 2))
        if etm:
            extensions += extension(ENCRYPT_THEN_MAC)
        if ems:
            extensions += extension(EXTENDED_MASTER_SECRET)
        suites = b"".join(struct.pack("!H", suite) for suite in suites)
        return bytes(version) + self.random + vector(b"", 1) + vector(suites, 2) + b"\x01\x00" + vector(extensions + extra, 2)

    def hello_message(self, **offer):
        return message(HandshakeType.client_hello, self.hello_body(**offer))

    def hello(self, **offer):
        self.send(self.hello_message(**offer))

    def certificate_message(self, chain=None):
        chain = self.target.chain if chain is None else chain
        return message(HandshakeType.certificate, vector(b"".join(vector(der, 3) for der in chain), 3))

    def certificate(self, chain=None):
        self.send(self.certificate_message(chain))

    def share_message(self, share=None):
        share = self.share if share is None else share
        return message(HandshakeType.client_key_exchange, vector(share, 2))

    def key_exchange(self, share=None):
        self.send(self.share_message(share))

    def verify_message(self, key=None, scheme=RSA_PKCS1_SHA256, padding="PKCS1", digest="sha256", signed=None):
        key = self.target.key if key is None else key
        signed = self.transcript if signed is None else signed
        salt = 32 if padding == "PSS" else 0
        signature = key.hashAndSign(bytearray(signed), padding, digest, salt)
        return message(HandshakeType.certificate_verify, struct.pack("!H", scheme) + vector(signature, 2))

    def verify(self, **choices):
        self.send(self.verify_message(**choices))

    def change_cipher(self):
        """From here on the client's records are protected."""
        self.derive()
        self.send(b"\x01", ContentType.change_cipher_spec)
        self.records.changeWriteState()

    def finished_message(self):
        digest = calc_key(TLS_1_2, self.master, SUITE, b"client finished", handshake_hashes=self.hashes(), output_length=12)
        return message(HandshakeType.finished, digest)

    def finished(self):
        self.send(self.finished_message())

    # What is received

    def next_message(self):
        """The next handshake message: its type, its body."""
        while True:
            if len(self.received) >= 4:
                length = 4 + int.from_bytes(self.received[1:4], "big")
                if len(self.received) >= length:
                    whole = bytes(self.received[:length])
                    del self.received[:length]
                    self.transcript += whole
                    return whole[0], whole[4:]
            kind, content = self.next_record()
            if kind != ContentType.handshake:
                raise ValueError(f"a record of type {kind} within the handshake")
            self.received += content

    def next_record(self):
        """The next record, unprotected. An alert ends the matter."""
        for result in self.records.recvRecord():
            if result not in (0, 1):
                break
        header, parser = result
        content = bytes(parser.bytes)
        if header.type == ContentType.alert:
            raise Refused(content[0], content[1])
        return header.type, content

    def server_flight(self):
        """From the ServerHello to the ServerHelloDone."""
        kind, body = self.next_message()
        while kind != HandshakeType.server_hello_done:
            if kind == HandshakeType.server_hello:
                hello = ServerHello().parse(Parser(bytearray(body_with_length(body))))
                self.server_random = hello.random
                numbers = [one.extType for one in hello.extensions or []]
                self.etm, self.ems = ENCRYPT_THEN_MAC in numbers, EXTENDED_MASTER_SECRET in numbers
            if kind == HandshakeType.server_key_exchange:
                exchange = ServerKeyExchange(SUITE, TLS_1_2).parse(Parser(bytearray(body_with_length(body))))
                self.prime = exchange.dh_p
                exponent = secrets.randbits(256) | 1 << 255
                self.share = numberToByteArray(pow(exchange.dh_g, exponent, self.prime))
                self.premaster = numberToByteArray(pow(exchange.dh_Ys, exponent, self.prime))
            kind, body = self.next_message()

    def finish(self):
        """Everything after the ClientHello, and a request."""
        self.server_flight()
        self.certificate()
        self.key_exchange()
        self.verify()
        self.end()
        self.request()

    def server_finished(self):
        kind, content = self.next_record()
        if (kind, content) != (ContentType.change_cipher_spec, b"\x01"):
            raise ValueError(f"a record of type {kind} instead of ChangeCipherSpec")
        self.records.changeReadState()
        expected = calc_key(TLS_1_2, self.master, SUITE, b"server finished", handshake_hashes=self.hashes(), output_length=12)
        kind, body = self.next_message()
        if kind != HandshakeType.finished or body != bytes(expected):
            raise ValueError("the gateway's Finished is wrong")

    # The handshake's usual course

    def begin(self, **offer):
        self.hello(**offer)
        self.server_flight()
        return self

    def until_verified(self, **offer):
        self.begin(**offer)
        self.certificate()
        self.key_exchange()
        self.verify()
        return self

    def end(self):
        self.change_cipher()
        self.finished()
        self.server_finished()
        return self

    def shake_hands(self, **offer):
        return self.until_verified(**offer).end()

    def request(self):
        """Asks for something over the finished connection: whatever the answer is, it is HTTP."""
        self.send(b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n", ContentType.application_data)
        kind, content = self.next_record()
        if kind != ContentType.application_data or not content.startswith(b"HTTP/1.1 "):
            raise ValueError(f"no HTTP but {content[:20]!r}")

    # Secrets

    def hashes(self):
        hashes = HandshakeHashes()
        hashes.update(bytearray(self.transcript))
        return hashes

    def derive(self):
        """Makes the keys, over the transcript up to the ClientKeyExchange where the extended master secret is in use."""
        if self.ems:
            upto = HandshakeHashes()
            upto.update(bytearray(self.transcript_of_key_exchange()))
            self.master = calc_key(
                TLS_1_2, self.premaster, SUITE, b"extended master secret", handshake_hashes=upto, output_length=48
            )
        else:
            self.master = calc_key(
                TLS_1_2, self.premaster, SUITE, b"master secret",
                client_random=bytearray(self.random), server_random=self.server_random, output_length=48,
            )
        self.records.encryptThenMAC = self.etm
        self.records.calcPendingStates(SUITE, self.master, bytearray(self.random), self.server_random, ["python"])

    def transcript_of_key_exchange(self):
        rest, end = self.transcript, 0
        while len(rest) >= 4:
            length = 4 + int.from_bytes(rest[1:4], "big")
            end += length
            if rest[0] == HandshakeType.client_key_exchange:
                break
            rest = rest[length:]
        return self.transcript[:end]


def body_with_length(body):
    # tlslite's parsers begin behind the type.
    return vector(body, 3)
