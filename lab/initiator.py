#!/usr/bin/env python3
"""A small iSCSI initiator for what good ones do not do.

  initiator.py crowd URL --half-open N --idle N   opens connections and holds them until standard input closes
      A half-open login is connected and silent, or has sent its first request and no other, in turn; an idle session has
      logged in and says nothing but the answers to pings. Prints one JSON line when all that could be opened is open, and
      one more at the end.
  initiator.py reader URL FILE                     reads a LUN over and over in one session and compares it with the file
      that it serves, until standard input closes; prints one JSON line: how many reads, how many were wrong, the slowest.
  initiator.py replay URL FILE TRACE               reads what a trace of lab/traces read, one read after the other, and
      compares it with the file; prints one JSON line: reads, bytes, wrong reads, seconds.
  initiator.py each URL FILE                       reads more URLs from standard input, one per line, logs in to each LUN of
      them and to URL, reads its block 0 and compares it with the file's; prints one JSON line: how many, how many were wrong.
  initiator.py oddities URL                        asks for what is rarely asked for: every task management function,
      pings, texts, a SNACK, opcodes that do not exist, a logout; prints what came back. For a capture.

URL: iscsi://HOST:PORT/TARGET/LUN. Connections come from 127.0.0.2, 127.0.0.3, ... in turn.
"""
import argparse
import json
import resource
import select
import socket
import struct
import sys
import time
from urllib.parse import urlsplit

IMMEDIATE = 0x40
FINAL = 0x80
NOP_OUT, COMMAND, TASK_MANAGEMENT, LOGIN, TEXT, LOGOUT, SNACK = 0x00, 0x01, 0x02, 0x03, 0x04, 0x06, 0x10
ADDRESSES = 64
NO_TAG = 0xFFFFFFFF


def pdu(opcode, flags=FINAL, specific=b"", lun=bytes(8), tag=NO_TAG, rest=b"", data=b""):
    """A PDU: bytes 2 and 3 are `specific`, from byte 20 on `rest`."""
    header = bytes([opcode, flags]) + specific.ljust(2, b"\0") + struct.pack(">I", len(data))
    header += lun + struct.pack(">I", tag) + rest.ljust(28, b"\0")
    return header + data + bytes(-len(data) % 4)


class Session:
    """One connection to a target."""

    def __init__(self, host, port, number):
        self.socket = socket.socket()
        self.socket.settimeout(10)
        self.socket.bind((f"127.0.0.{2 + number % ADDRESSES}", 0))
        self.socket.connect((host, port))
        self.number = number
        self.command_number = 1
        self.status_number = 0
        self.tag = 0

    def login_request(self, target, last=True):
        """The one request that logs in, or the first of several, to be followed by more."""
        keys = [f"InitiatorName=iqn.2026-11.test.crowd:{self.number}", "SessionType=Normal", f"TargetName={target}"]
        if last:
            keys += ["HeaderDigest=None", "DataDigest=None"]
            flags = FINAL | 1 << 2 | 3  # from LoginOperationalNegotiation to FullFeaturePhase
        else:
            keys += ["AuthMethod=None"]
            flags = 0  # SecurityNegotiation, to be continued
        data = b"".join(key.encode() + b"\0" for key in keys)
        isid = b"\x80" + struct.pack(">I", self.number)[1:] + b"\0\0"
        rest = struct.pack(">HHII", 0, 0, self.command_number, self.status_number)
        return pdu(LOGIN | IMMEDIATE, flags, lun=isid + b"\0\0", tag=1, rest=rest, data=data)

    def log_in(self, target):
        self.socket.sendall(self.login_request(target))
        header, _data = self.receive()
        if header[0] & 0x3F != 0x23 or header[36] or not header[1] & FINAL:
            raise OSError(f"login refused: {header.hex(' ')}")

    def exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise OSError("the target closed the connection")
            data += part
        return data

    def receive(self):
        header = self.exactly(48)
        length = int.from_bytes(header[5:8], "big")
        data = self.exactly(length + -length % 4)[:length]
        if header[0] & 0x3F not in (0x20, 0x31) or header[16:20] != b"\xff" * 4:
            self.status_number = int.from_bytes(header[24:28], "big") + 1
        return header, data

    def answer_pings(self):
        """Reads what has come; answers a ping of the target."""
        header, _data = self.receive()
        if header[0] & 0x3F == 0x20 and header[20:24] != b"\xff" * 4:
            rest = header[20:24] + struct.pack(">II", self.command_number, self.status_number)
            self.socket.sendall(pdu(NOP_OUT | IMMEDIATE, lun=header[8:16], rest=rest))
        return header[0] & 0x3F

    def read(self, lba, blocks):
        """READ(10); what came is b"" if it was refused, for example with a unit attention."""
        self.tag += 1
        rest = struct.pack(">III", blocks * 512, self.command_number, self.status_number)
        rest += struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0).ljust(16, b"\0")
        self.socket.sendall(pdu(COMMAND, FINAL | 0x40, tag=self.tag, rest=rest))
        self.command_number += 1
        data = b""
        while True:
            header, part = self.receive()
            kind = header[0] & 0x3F
            if kind == 0x25:
                data += part
                if header[1] & 1:
                    return data
            elif kind == 0x21:
                return data if header[3] == 0 else b""

    def ask(self, opcode, flags=FINAL, field=NO_TAG, lun=bytes(8), specific=b"", data=b"", counts=False, extra=b""):
        """Sends a request and gives the header and data of the next PDU."""
        self.tag += 1
        rest = struct.pack(">III", field, self.command_number, self.status_number) + extra
        self.socket.sendall(pdu(opcode, flags, specific, lun, self.tag, rest, data))
        if counts:
            self.command_number += 1
        return self.receive()


def crowd(options, host, port, target):
    limit = options.half_open + options.idle + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    sessions, half_open, refused = [], [], 0
    start = time.monotonic()
    for number in range(options.idle):
        try:
            session = Session(host, port, number)
            session.log_in(target)
            sessions.append(session)
        except OSError:
            refused += 1
    refused_logins = 0
    for number in range(options.half_open):
        try:
            session = Session(host, port, options.idle + number)
            if number % 2:
                session.socket.sendall(session.login_request(target, last=False))
            half_open.append(session)
        except OSError:
            refused_logins += 1
    opened = {
        "idle": len(sessions),
        "idle_refused": refused,
        "half_open": len(half_open),
        "half_open_refused": refused_logins,
        "seconds": round(time.monotonic() - start, 2),
    }
    print(json.dumps(opened), flush=True)
    lost = hold(sessions)
    closed = sum(is_closed(session.socket) for session in half_open)
    print(json.dumps({"idle_lost": lost, "half_open_closed_by_target": closed}), flush=True)


def hold(sessions):
    """Answers pings until standard input closes; how many sessions the target ended."""
    poll = select.epoll()
    by_number = {session.socket.fileno(): session for session in sessions}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    poll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)
    lost = 0
    while True:
        for number, _event in poll.poll():
            if number == sys.stdin.fileno():
                return lost
            try:
                by_number[number].answer_pings()
            except OSError:
                poll.unregister(number)
                lost += 1


def is_closed(connection):
    """True if the target has closed it; what it sent before does not matter."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def reader(options, host, port, target):
    session = Session(host, port, 0xFFFF)
    session.log_in(target)
    with open(options.file, "rb") as file:
        content = file.read()
    chunk, reads, wrong, slowest = 64 * 1024, 0, 0, 0.0
    session.ask(COMMAND, FINAL, 0, counts=True, extra=bytes(16))  # takes the unit attention of the login
    print(json.dumps({"reading": len(content)}), flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        at = reads * chunk % len(content)
        start = time.monotonic()
        wrong += session.read(at // 512, chunk // 512) != content[at : at + chunk]
        slowest = max(slowest, time.monotonic() - start)
        reads += 1
    print(json.dumps({"reads": reads, "wrong": wrong, "slowest_ms": round(slowest * 1000, 1)}), flush=True)


def replay(options, host, port, target):
    session = Session(host, port, 0xFFFE)
    session.log_in(target)
    session.ask(COMMAND, FINAL, 0, counts=True, extra=bytes(16))  # takes the unit attention of the login
    reads, count, wrong, start = 0, 0, 0, time.monotonic()
    with open(options.file, "rb") as file, open(options.trace, encoding="ascii") as trace:
        for line in trace:
            _at, op, lba, blocks = line.strip().split(",")
            if op != "R":
                continue
            lba, blocks = int(lba), int(blocks)
            file.seek(lba * 512)
            wrong += session.read(lba, blocks) != file.read(blocks * 512)
            reads, count = reads + 1, count + blocks * 512
    print(json.dumps({"reads": reads, "bytes": count, "wrong": wrong, "seconds": round(time.monotonic() - start, 2)}))


def each(options, _host, _port, _target):
    with open(options.file, "rb") as file:
        block = file.read(512)
    urls, wrong = [options.url] + sys.stdin.read().split(), 0
    for number, url in enumerate(urls):
        url = urlsplit(url)
        session = Session(url.hostname, url.port, number)
        session.log_in(url.path.split("/")[1])
        session.ask(COMMAND, FINAL, 0, counts=True, extra=bytes(16))  # takes the unit attention of the login
        wrong += session.read(0, 1) != block
        session.socket.close()
    print(json.dumps({"luns": len(urls), "wrong": wrong}))


def oddities(_options, host, port, target):
    session = Session(host, port, 0)
    session.log_in(target)

    def tell(name, answer):
        header, data = answer
        text = data.replace(b"\0", b" ").decode(errors="replace") if header[0] & 0x3F == 0x24 else f"{len(data)} bytes"
        print(f"{name}: opcode {header[0] & 0x3F:02x}, response {header[2]:02x}, {text}", flush=True)

    tell("ping", session.ask(NOP_OUT | IMMEDIATE, data=b"hello"))
    ready = bytes(16)
    tell("test unit ready", session.ask(COMMAND, FINAL, 0, counts=True, extra=ready))
    tell("text SendTargets", session.ask(TEXT, data=b"SendTargets=\0", counts=True))
    tell("text of an unknown key", session.ask(TEXT, data=b"X-test.vmthunder.key=1\0", counts=True))
    tell("text that renegotiates", session.ask(TEXT, data=b"MaxRecvDataSegmentLength=65536\0", counts=True))
    for function, name in enumerate(
        ["abort task", "abort task set", "clear ACA", "clear task set", "LUN reset", "warm reset", "cold reset", "reassign"], 1
    ):
        if name == "cold reset":
            continue  # it ends the session: last
        tell(name, session.ask(TASK_MANAGEMENT | IMMEDIATE, FINAL | function, session.tag))
    tell("SNACK", session.ask(SNACK, FINAL, 0))
    tell("reserved opcode", session.ask(0x1C | IMMEDIATE))
    tell("vendor opcode", session.ask(0x1D | IMMEDIATE))
    tell("LUN that is not there", session.ask(COMMAND, FINAL, 0, lun=b"\0\x77" + bytes(6), counts=True, extra=ready))
    tell("unknown command", session.ask(COMMAND, FINAL, 0, counts=True, extra=b"\xff" + bytes(15)))
    tell("logout", session.ask(LOGOUT | IMMEDIATE, FINAL))
    session = Session(host, port, 1)
    session.log_in(target)
    tell("cold reset", session.ask(TASK_MANAGEMENT | IMMEDIATE, FINAL | 7))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for verb in (crowd, reader, replay, each, oddities):
        sub = verbs.add_parser(verb.__name__)
        sub.add_argument("url")
        sub.set_defaults(verb=verb)
        if verb is crowd:
            sub.add_argument("--half-open", type=int, default=10000)
            sub.add_argument("--idle", type=int, default=1000)
        elif verb in (reader, replay, each):
            sub.add_argument("file")
        if verb is replay:
            sub.add_argument("trace")
    options = parser.parse_args()
    url = urlsplit(options.url)
    options.verb(options, url.hostname, url.port, url.path.split("/")[1])


main()
