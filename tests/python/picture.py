"""Decodes a picture of examples/framebuffer.c with Python's own zlib, and compares it with what should be on it. Usage: picture.py FILE"""

import struct
import sys
import zlib

WIDTH, HEIGHT = 640, 480


def expected(x, y):
    """The rings, and between them what the device shows when it is switched on."""
    square = (x - WIDTH // 2) ** 2 + (y - HEIGHT // 2) ** 2
    if square < 200 * 200 and square // 4000 % 2 == 0:
        return 255 - square // 160, x * 255 // WIDTH, y * 255 // HEIGHT
    return (0x20, 0x28, 0x30) if (x ^ y) & 32 else (0x18, 0x20, 0x28)


def chunks(data):
    assert data[:8] == b"\x89PNG\r\n\x1a\n", "not a PNG"
    at = 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (crc,) = struct.unpack_from(">I", data, at + 8 + length)
        assert crc == zlib.crc32(kind + body), f"the checksum of {kind} is wrong"
        yield kind, body
        at += 12 + length


def main(path):
    with open(path, "rb") as file:
        (head, header), (pixels, packed), (end, nothing) = chunks(file.read())
    assert (head, pixels, end, nothing) == (b"IHDR", b"IDAT", b"IEND", b"")
    assert struct.unpack(">IIBBBBB", header) == (WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    rows = zlib.decompress(packed)
    wanted = b"".join(b"\0" + b"".join(bytes(expected(x, y)) for x in range(WIDTH)) for y in range(HEIGHT))
    assert rows == wanted, f"the first pixel that is wrong: {next(i for i in range(len(wanted)) if rows[i] != wanted[i])}"


main(sys.argv[1])
