#!/usr/bin/env python3
"""opuscap.py IN.opus OUT.pcap PAYLOAD_TYPE: an Ogg Opus file (RFC 7845) of 20 ms frames as a capture of RTP
packets (RFC 7587), which SIPp can play."""

import struct
import sys


def packets(data):
    """The packets of an Ogg stream (RFC 3533 section 6): segments of 255 bytes go on."""
    at, packet = 0, b""
    while at < len(data):
        count = data[at + 26]
        table = data[at + 27 : at + 27 + count]
        at += 27 + count
        for length in table:
            packet += data[at : at + length]
            at += length
            if length < 255:
                yield packet
                packet = b""


def main():
    source, target, payload_type = sys.argv[1], sys.argv[2], int(sys.argv[3])
    frames = list(packets(open(source, "rb").read()))[2:]  # two headers come first
    with open(target, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number, frame in enumerate(frames):
            first = 0x80 if number == 0 else 0
            rtp = struct.pack("!BBHII", 0x80, payload_type | first, number & 0xFFFF, number * 960, 0x600D) + frame
            udp = struct.pack("!HHHH", 6000, 6002, 8 + len(rtp), 0) + rtp
            host = bytes([127, 0, 0, 1])
            ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), number & 0xFFFF, 0, 64, 17, 0, host, host)
            link = bytes(12) + b"\x08\x00" + ip + udp
            seconds, micros = divmod(number * 20_000, 1_000_000)
            out.write(struct.pack("<IIII", seconds, micros, len(link), len(link)) + link)


main()
