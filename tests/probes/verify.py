"""CertificateVerify that proves nothing: of another key, of other messages, or by an algorithm that was not offered."""

from tlslite.constants import HandshakeType

from client import message, vector

RSA_PSS_RSAE_SHA256 = 0x0804
RSA_PKCS1_SHA1 = 0x0201
RSA_PKCS1_SHA512 = 0x0601
ECDSA_SHA256 = 0x0403


def verified(**choices):
    def probe(client):
        client.begin()
        client.certificate()
        client.key_exchange()
        client.verify(**choices)
        client.end()
        client.request()
        return "finished"

    return probe


def by_another_key(client):
    return verified(key=client.target.other_key)(client)


def of_an_earlier_transcript(client):
    client.begin()
    client.certificate()
    signed = client.transcript
    client.key_exchange()
    client.verify(signed=signed)
    client.change_cipher()
    client.finished()


def sent(body):
    def probe(client):
        client.begin()
        client.certificate()
        client.key_exchange()
        client.send(message(HandshakeType.certificate_verify, body))

    return probe


def bent(client):
    client.begin()
    client.certificate()
    client.key_exchange()
    whole = bytearray(client.verify_message())
    whole[-1] ^= 1
    client.send(bytes(whole))


PROBES = {
    "verify_by_the_right_key": verified(),
    "verify_by_pss": verified(scheme=RSA_PSS_RSAE_SHA256, padding="PSS"),
    "verify_by_sha512": verified(scheme=RSA_PKCS1_SHA512, digest="sha512"),
    "verify_by_another_key": by_another_key,
    "verify_of_an_earlier_transcript": of_an_earlier_transcript,
    "verify_with_a_bit_flipped": bent,
    "verify_by_sha1": verified(scheme=RSA_PKCS1_SHA1, digest="sha1"),
    "verify_by_ecdsa_with_an_rsa_key": verified(scheme=ECDSA_SHA256),
    "verify_by_an_unknown_algorithm": verified(scheme=0xFEFE),
    "verify_by_another_digest_than_it_says": verified(scheme=RSA_PKCS1_SHA512),
    "verify_without_a_signature": sent(b"\x04\x01" + vector(b"", 2)),
    "verify_without_content": sent(b""),
    "verify_beyond_its_end": sent(b"\x04\x01\x01\x00" + bytes(10)),
}
