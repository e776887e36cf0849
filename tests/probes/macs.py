"""Records whose MAC, padding or length is wrong: the answer to all of them must be one and the same.

Else a stranger could decrypt what others sent (Vaudenay 2002, Lucky Thirteen, POODLE over TLS).
"""

from tlslite.constants import ContentType


def first(mac):
    return bytes([mac[0] ^ 1]) + bytes(mac[1:])


def last(mac):
    return bytes(mac[:-1]) + bytes([mac[-1] ^ 1])


def padding_first(padded, length):
    """The first byte of several bytes of padding is wrong."""
    padded = longer(padded, length)
    padded[length] ^= 1
    return padded


def padding_last(padded, length):
    """The length of the padding is wrong."""
    padded[-1] ^= 0x40
    return padded


def padding_beyond(padded, length):
    """The padding would be longer than the record."""
    padded[-1] = 0xFF
    return padded


def longer(padded, length):
    """A whole block of padding more, which is legal."""
    more = len(padded) - length - 1 + 16
    return padded[:length] + bytearray([more] * (more + 1))


def blocks_of_padding(padded, length):
    """Nothing but padding: neither content nor MAC."""
    padded[:] = bytes([len(padded) - 1]) * len(padded)
    return padded


BENDS = {
    "mac_first_byte": ("bend_mac", first),
    "mac_last_byte": ("bend_mac", last),
    "padding_first_byte": ("bend_padding", padding_first),
    "padding_length": ("bend_padding", padding_last),
    "padding_beyond_the_record": ("bend_padding", padding_beyond),
    "padding_alone": ("bend_padding", blocks_of_padding),
}


def in_finished(etm, hand, bend):
    def probe(client):
        client.until_verified(etm=etm)
        client.change_cipher()
        setattr(client.records, hand, bend)
        client.finished()
        setattr(client.records, hand, None)

    return probe


def in_data(etm, hand, bend):
    def probe(client):
        client.shake_hands(etm=etm)
        setattr(client.records, hand, bend)
        client.send(b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n", ContentType.application_data)
        # What the gateway answers is sound.
        setattr(client.records, hand, None)

    return probe


def unaligned(etm):
    """The ciphertext is no whole number of blocks."""

    def probe(client):
        client.until_verified(etm=etm)
        client.change_cipher()
        client.raw(b"\x16\x03\x03\x00\x41" + bytes(65))

    return probe


def too_short(etm):
    def probe(client):
        client.until_verified(etm=etm)
        client.change_cipher()
        client.raw(b"\x16\x03\x03\x00\x10" + bytes(16))

    return probe


def more_padding(etm):
    def probe(client):
        client.shake_hands(etm=etm)
        client.records.bend_padding = longer
        client.request()
        return "finished"

    return probe


PROBES = {}
for name, etm in [("etm", True), ("mte", False)]:
    PROBES[f"{name}_more_padding"] = more_padding(etm)
    for bent, (hand, bend) in BENDS.items():
        PROBES[f"{name}_finished_{bent}"] = in_finished(etm, hand, bend)
        PROBES[f"{name}_data_{bent}"] = in_data(etm, hand, bend)
    PROBES[f"{name}_unaligned"] = unaligned(etm)
    PROBES[f"{name}_too_short"] = too_short(etm)
