"""Sends the gateway what no sound TLS client sends, and prints a line of JSON for each probe: how the gateway answered.

A line has the probe's name, the local port (by which the audit log names the connection), the end, and the alert.
Ends: `finished`, `alert`, `closed`, `reset`, `silence`.
"""

import argparse
import json
import socket
import sys
import traceback

from tlslite.errors import TLSAbruptCloseError

import chains
import features
import foreign
import fragments
import macs
import order
import records
import shares
import verify
from client import Client, Refused, Target

GROUPS = {
    "shares": shares.PROBES,
    "records": records.PROBES,
    "macs": macs.PROBES,
    "fragments": fragments.PROBES,
    "order": order.PROBES,
    "verify": verify.PROBES,
    "chains": chains.PROBES,
    "features": features.PROBES,
    "foreign": foreign.PROBES,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, default=443)
    parser.add_argument("--chain", required=True, help="PEM: the client's certificate, then its issuer")
    parser.add_argument("--key", required=True, help="PEM: its key")
    parser.add_argument("--other-key", required=True, help="PEM: another key")
    parser.add_argument("--strangers", required=True, help="PEM: certificates of another PKI")
    parser.add_argument("group", choices=GROUPS)
    words = parser.parse_args()
    target = Target(words.address, words.port, words.chain, words.key, words.other_key, words.strangers)
    for name, probe in GROUPS[words.group].items():
        print(json.dumps({"probe": name, **run(target, probe)}), flush=True)


def run(target, probe):
    """Makes a connection, and lets a probe act on it until it ends; a probe that returns waits for the gateway's end."""
    client = Client(target)
    outcome = {"port": client.local_port, "alert": None}
    try:
        if probe(client) == "finished":
            return {**outcome, "end": "finished"}
        while True:
            client.next_record()
    except Refused as refused:
        outcome |= {"end": "alert", "alert": refused.number, "answer": client.wire.last_record().hex()}
    except (TLSAbruptCloseError, BrokenPipeError):
        outcome |= {"end": "closed"}
    except ConnectionResetError:
        outcome |= {"end": "reset"}
    except socket.timeout:
        outcome |= {"end": "silence"}
    except Exception:
        traceback.print_exc(file=sys.stderr)
        outcome |= {"end": "broken"}
    finally:
        client.socket.close()
    return outcome


if __name__ == "__main__":
    main()
