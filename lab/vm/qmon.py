#!/usr/bin/env python3
"""qmon.py SOCKET COMMAND...: send commands to a QEMU monitor (-monitor unix:SOCKET,server,nowait) and print its replies."""
import socket
import sys

PROMPT = b"(qemu)"


def reply(monitor):
    text = b""
    try:
        while not text.rstrip().endswith(PROMPT):
            part = monitor.recv(65536)
            if not part:
                break
            text += part
    except TimeoutError:
        pass
    return text.decode(errors="replace")


with socket.socket(socket.AF_UNIX) as monitor:
    monitor.connect(sys.argv[1])
    monitor.settimeout(5)
    reply(monitor)
    for command in sys.argv[2:]:
        monitor.sendall(command.encode() + b"\n")
        print(reply(monitor))
