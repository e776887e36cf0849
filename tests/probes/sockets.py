"""Holds listening sockets as systemd does for a .socket unit: starts the agent with them, and again whenever it ends in order.

usage: sockets.py ADDRESS:PORT... -- COMMAND...
"""

import os
import signal
import socket
import sys

FIRST = 3


def listening(text):
    host, port = text.rsplit(":", 1)
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    held.bind((host.strip("[]"), int(port)))
    held.listen(1024)
    return held


def start(held, command):
    child = os.fork()
    if child:
        return child
    for position, one in enumerate(held):
        os.dup2(one, FIRST + position, inheritable=True)
    os.environ["LISTEN_FDS"] = str(len(held))
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.execv(command[0], command)


def main():
    split = sys.argv.index("--")
    sockets = [listening(text) for text in sys.argv[1:split]]
    # Out of the way of the numbers that they are passed under.
    held = [os.dup2(one.fileno(), 100 + position) for position, one in enumerate(sockets)]
    ending = []
    while not ending:
        child = start(held, sys.argv[split + 1:])

        def end(*_):
            ending.append(True)
            os.kill(child, signal.SIGTERM)

        signal.signal(signal.SIGTERM, end)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            sys.exit(code)


main()
