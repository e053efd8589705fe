#!/usr/bin/env python3
"""trace2csv.py QEMU_LOG OUT.csv: QEMU's virtio_blk_handle_{read,write} lines as t_us,op,lba,blocks."""
import datetime
import re
import sys

REQUEST = re.compile(r"virtio_blk_handle_(read|write) .*sector (\d+) nsectors (\d+)")
ISO_TIME = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+)Z")


def microseconds(line):
    iso = ISO_TIME.match(line)
    if iso:
        return round(datetime.datetime.fromisoformat(iso[1] + "+00:00").timestamp() * 1e6)
    return round(float(re.search(r"@([\d.]+):", line)[1]) * 1e6)


def main(log, out):
    with open(log, errors="replace") as lines:
        found = [(microseconds(line), REQUEST.search(line)) for line in lines if REQUEST.search(line)]
    with open(out, "w") as csv:
        csv.write("t_us,op,lba,blocks\n")
        for at, request in found:
            csv.write(f"{at - found[0][0]},{'R' if request[1] == 'read' else 'W'},{request[2]},{request[3]}\n")
    print(out, len(found), "requests")


main(*sys.argv[1:])
