"""Made data: bytes that are a function of (seed, offset), so that nothing has to be kept to check it.

`SeededStream` reads like a file of any length at constant memory, and can seek, as SDK retries demand.
"""

import hashlib
import io
import os
import random
import time

BLOCK_BYTES = 1 << 20


def block(seed, index):
    return random.Random(f"{seed}/{index % 64}").randbytes(BLOCK_BYTES)


def made_bytes(seed, size):
    return random.Random(f"bytes/{seed}").randbytes(size)


class SeededStream(io.RawIOBase):
    """`size` bytes; 64 different blocks of 1 MiB over and over, each stamped with its index in the first 8 bytes."""

    _cache: dict = {}

    def __init__(self, seed, size):
        self.seed, self.size, self.position = seed, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self.position

    def seek(self, offset, whence=io.SEEK_SET):
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = max(0, base + offset)
        return self.position

    def __len__(self):
        return self.size

    def _block(self, index):
        key = (self.seed, index % 64)
        if key not in self._cache:
            if len(self._cache) > 256:
                self._cache.clear()
            self._cache[key] = block(self.seed, index)
        return index.to_bytes(8, "big") + self._cache[key][8:]

    def readinto(self, buffer):
        left = min(len(buffer), self.size - self.position)
        if left <= 0:
            return 0
        index, start = divmod(self.position, BLOCK_BYTES)
        piece = self._block(index)[start : start + left]
        buffer[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)

    def read(self, count=-1):
        if count is None or count < 0:
            count = max(0, self.size - self.position)
        out = bytearray()
        while len(out) < count:
            piece = super().read(count - len(out))
            if not piece:
                break
            out += piece
        return bytes(out)


def digest_of(stream, piece_bytes=1 << 20):
    digest = hashlib.sha256()
    while piece := stream.read(piece_bytes):
        digest.update(piece)
    return digest.hexdigest()


def make_tree(folder, files, seed=1, age_seconds=3600):
    """A tree as people have them: many small files, some middling, a few large; deep, odd and unicode names.

    The files are an hour old: listings carry whole seconds, so a `sync` that follows within the second in which a file
    was made and stored takes the file for the newer one, and sends it again.
    """
    rng = random.Random(seed)
    made_at = time.time() - age_seconds
    made = {}
    for i in range(files):
        depth = rng.choice((1, 1, 2, 2, 3, 5))
        parts = [f"d{rng.randrange(12)}" for _ in range(depth)]
        name = rng.choice(("file{i}.txt", "naïve {i}.bin", "a+b {i}", "日本語-{i}.dat", "x={i}&y", "{i}")).format(i=i)
        size = rng.choice((0, 1, 100, 1000, 4096, 4096, 10_000, 20_000))
        if i % 500 == 7:
            size = rng.randrange(1 << 20, 12 << 20)
        elif i % 50 == 3:
            size = rng.randrange(100_000, 400_000)
        path = folder.joinpath(*parts, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(size))
        os.utime(path, (made_at, made_at))
        made[str(path.relative_to(folder))] = size
    return made


def tree_digest(folder):
    """{relative path: sha256} of every file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with open(path, "rb") as f:
                found[str(path.relative_to(folder))] = hashlib.file_digest(f, "sha256").hexdigest()
    return found
