"""Bodies that nobody should send, over a real socket: never a 5xx, and no memory that is kept."""

import base64
import io
import json
import random
import socket
import struct
import zlib

import psutil
import pytest
from PIL import Image
from served import gray_image

pytestmark = pytest.mark.integration  # a whole server

MAX_GROWTH_BYTES = 50 * 2**20
NUM_WARM_UP = 50  # bodies before memory is measured: codecs are loaded, threads have their stacks


def seeds() -> list[bytes]:
    """Small images of every kind that Pillow writes and a client may send, the odd ones among them."""
    sizes = {"size": (40, 30)}
    return [
        gray_image(125, "JPEG", **sizes),
        gray_image(125, "JPEG", progressive=True, exif=rotated(), **sizes),
        gray_image(125, "PNG", **sizes),
        gray_image(125, "GIF", **sizes),
        gray_image(125, "WEBP", **sizes),
        converted("CMYK", "JPEG"),
        converted("P", "PNG"),
        converted("LA", "PNG"),
        converted("1", "PNG"),
        converted("I;16", "PNG"),
        animated("GIF"),
        animated("PNG"),
        animated("WEBP"),
    ]


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: a quarter turn
    return exif.tobytes()


def converted(mode: str, kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("L", (40, 30), 125).convert(mode).save(file, kind)
    return file.getvalue()


def animated(kind: str) -> bytes:
    file = io.BytesIO()
    first, *others = [Image.new("RGB", (40, 30), (value,) * 3) for value in (0, 120, 240)]
    first.save(file, kind, save_all=True, append_images=others)
    return file.getvalue()


def mutated(chance: random.Random, content: bytes) -> bytes:
    """Returns the bytes with some overwritten, repeated, left out or cut off."""
    bytes_ = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5, 30))):
        at = chance.randrange(len(bytes_) or 1)
        kind = chance.randrange(5)
        if kind == 0:
            bytes_[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            bytes_[at : at + 4] = chance.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xd9\xff\xda"))
        elif kind == 2:
            bytes_[at:at] = bytes_[at : at + chance.randrange(64)]
        elif kind == 3:
            del bytes_[at : at + chance.randrange(64)]
        else:
            del bytes_[at:]
    return bytes(bytes_)


def mutated_png(chance: random.Random, content: bytes) -> bytes:
    """Returns a PNG with one chunk changed and its checksum made right again, which leads deeper into the decoder."""
    chunks, at = [], 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    which = chance.randrange(len(chunks))
    kind, data = chunks[which]
    chunks[which] = (kind, mutated(chance, data))
    if chance.random() < 0.3:
        name = chance.choice((b"tRNS", b"PLTE", b"eXIf", b"iCCP", b"acTL", b"fcTL", b"zTXt", b"IDAT", b"gAMA"))
        chunks.insert(which, (name, chance.randbytes(chance.randrange(40))))
    whole = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return content[:8] + whole


def requests(chance: random.Random):
    """Yields the media type and the body of one request after another."""
    images = seeds()
    pngs = [content for content in images if content.startswith(b"\x89PNG")]
    while True:
        content = chance.choice(
            (
                lambda: mutated(chance, chance.choice(images)),
                lambda: mutated(chance, chance.choice(images)),
                lambda: mutated_png(chance, chance.choice(pngs)),
                lambda: chance.choice(images),
                lambda: chance.randbytes(chance.randrange(2000)),
                lambda: bomb(chance.randrange(1, 2**31), chance.randrange(1, 2**31)),
            )
        )()
        kind = chance.randrange(10)
        if kind < 6:
            yield chance.choice(("image/jpeg", "image/png", "application/x-image")), content
        elif kind == 6:
            asked = {
                "image": base64.b64encode(content).decode(),
                "expected_count": chance.choice((None, 3, -1, "x", 1e9)),
            }
            text = json.dumps(asked).encode()
            yield "application/json", text if chance.random() < 0.5 else mutated(chance, text)
        elif kind == 7:
            form = b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n" + content + b"\r\n--b--\r\n"
            yield "multipart/form-data; boundary=b", form if chance.random() < 0.5 else mutated(chance, form)
        elif kind == 8:
            yield (
                chance.choice(("", "text/plain", "multipart/form-data", "image/", "application/json; charset=x")),
                content,
            )
        else:
            yield (
                "application/json",
                chance.choice((b"[" * 5000, b'{"image":' * 2000, b"1" * 6000, b'"\\ud800"', b"\xff")),
            )


def bomb(width: int, height: int) -> bytes:
    """Returns a PNG of a hundred bytes that says it is very large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, data)
    )


def raw_requests(chance: random.Random) -> bytes:
    """Returns what no HTTP library would send."""
    head = b"POST /invocations HTTP/1.1\r\nHost: a\r\n"
    return chance.choice(
        (
            head + b"Content-Type: " + b"x" * 200_000 + b"\r\n\r\n",
            head + b"".join(b"x-%d: y\r\n" % number for number in range(20_000)) + b"\r\n",
            head + b"Content-Type: image/png\r\nContent-Length: -5\r\n\r\nabc",
            head + b"Content-Type: image/png\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
            head + b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
            head + b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc",
            head + b"Content-Type: image/png\r\nContent-Length: 100\r\n\r\ngone",
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
            b"GET /%00%ff/../.. HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x16\x03\x01\x02\x00" + chance.randbytes(200),
            chance.randbytes(chance.randrange(1, 500)),
        )
    )


def send_raw(port: int, content: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        try:
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))
        except OSError:  # the server need not read all of it
            return b""


def check(server, num_bodies: int) -> None:
    chance = random.Random(0)
    process, before, seen = psutil.Process(server.process.pid), 0, set()
    for number, (media_type, body) in zip(range(num_bodies), requests(chance), strict=False):
        response = server.client.post("/invocations", content=body, headers={"Content-Type": media_type})
        seen.add(response.status_code)
        assert response.status_code < 500, (number, media_type, body[:200], response.text)
        assert response.is_success == ("count" in response.json()), response.text
        if number % 20 == 0:
            answer = send_raw(server.port, raw_requests(chance))
            assert not answer.startswith(b"HTTP/1.1 5"), answer[:300]
        if number == NUM_WARM_UP:
            before = process.memory_info().rss
    assert seen == {200, 400, 415, 422}
    assert server.client.get("/ping").status_code == 200
    growth = process.memory_info().rss - before
    print(f"{num_bodies} bodies: statuses {sorted(seen)}, resident memory {growth / 2**20:+.1f} MiB")
    assert growth < MAX_GROWTH_BYTES


def test_500_bodies(server):
    check(server, 500)


@pytest.mark.slow
def test_10_000_bodies(server):
    check(server, 10_000)
