"""Lists of certificates with members too many, too few, out of order, or that are none."""

from tlslite.constants import HandshakeType

from client import message, vector


def shown(choose):
    """A whole handshake with the certificates that `choose` makes of the chain and of a stranger's."""

    def probe(client):
        client.begin()
        client.certificate(choose(client.target.chain, client.target.strangers))
        client.key_exchange()
        client.verify()
        client.end()
        client.request()
        return "finished"

    return probe


def sent(body):
    def probe(client):
        client.begin()
        client.send(message(HandshakeType.certificate, body(client.target.chain)))

    return probe


def cut_short(chain, strangers):
    return [chain[0][:-10], chain[1]]


PROBES = {
    "leaf_and_issuer": shown(lambda chain, strangers: chain),
    "leaf_alone": shown(lambda chain, strangers: chain[:1]),
    "leaf_twice": shown(lambda chain, strangers: [chain[0], *chain]),
    "a_stranger_behind": shown(lambda chain, strangers: [*chain, *strangers]),
    "a_stranger_between": shown(lambda chain, strangers: [chain[0], *strangers, chain[1]]),
    "issuer_before_leaf": shown(lambda chain, strangers: chain[::-1]),
    "issuer_alone": shown(lambda chain, strangers: chain[1:]),
    "a_strangers_leaf_with_our_issuer": shown(lambda chain, strangers: [strangers[0], chain[1]]),
    "a_strangers_issuer_with_our_leaf": shown(lambda chain, strangers: [chain[0], strangers[-1]]),
    "no_certificate": shown(lambda chain, strangers: []),
    "a_hundred_certificates": shown(lambda chain, strangers: chain + [chain[1]] * 99),
    "more_certificates_than_are_read": shown(lambda chain, strangers: chain + [chain[1]] * 999),
    "certificate_of_no_bytes": shown(lambda chain, strangers: [b""]),
    "certificate_of_garbage": shown(lambda chain, strangers: [b"\x30\x82\xff\xff" + bytes(64)]),
    "certificate_cut_short": shown(cut_short),
    "certificate_with_a_tail": shown(lambda chain, strangers: [chain[0] + b"\x00", chain[1]]),
    "list_beyond_the_message": sent(lambda chain: b"\xff\xff\xff" + vector(chain[0], 3)),
    "certificate_beyond_the_list": sent(lambda chain: vector(b"\xff\xff\xff" + chain[0], 3)),
    "list_with_a_tail": sent(lambda chain: vector(vector(chain[0], 3), 3) + b"\x00"),
    "list_without_a_length": sent(lambda chain: b""),
}
