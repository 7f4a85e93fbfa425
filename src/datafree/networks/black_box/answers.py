"""Answers of a black box in a file, so that it is not asked twice for the same image, also after a restart."""

import hashlib
import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datafree.networks.black_box.box import BlackBox
from datafree.networks.saved.weights import fingerprint

MOST = 500_000  # answers in a file: its index takes some 100 MB then
MOST_BYTES = 2**28  # of a file: 66,000 answers of 1,000 classes
_MARK = b"datafree answers 1"
_HEAD = struct.Struct("<18s32sQQQ")  # mark, fingerprint of the box, numbers in an answer, images asked, answers reused
_FRAME = struct.Struct("<II")  # answers in it, and the checksum of what follows: their keys, then the answers, float32
_KEY = 16  # bytes of an image's hash


class Answers:
    """What a black box answered in one run, by the hash of each image's numbers; what does not fit in the file is not kept.

    The file grows by frames, each the answers to one batch. One that a kill cut short is dropped, so that the batch is asked
    again as a whole: an answer may depend on the batch in its last bits. A file of another black box, or of something else,
    begins anew. It holds numbers only.

    Args:
        file: is made if it does not exist.
        box: the black box, with its hooks.
        since: images that it had been asked before this run.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, file: Path, box: BlackBox, since: int = 0):
        self.box, self.reused, self._before = box, 0, -since
        self._known = bytes.fromhex(fingerprint(box))
        assert box.questions.shape  # of its first answers
        self._shape = box.questions.shape
        self._row = 4 * math.prod(self._shape)  # bytes of an answer
        self._places: dict[bytes, int] = {}  # of an answer in the file, by its image
        self._file = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        self._end = self._read()
        os.ftruncate(self._file, self._end)
        self._note()

    @property
    def asked(self) -> int:
        """Images that were sent to the box in all sessions of the run, those of checks and of measurements included."""
        return self._before + self.box.asked

    def __call__(self, x: Tensor) -> Tensor:
        """The answers to x [B, C, H, W], float32, on its device."""
        parts = x.detach().float().cpu().contiguous().split(self.box.questions.batch)
        return torch.cat([self._part(part) for part in parts]).to(x.device)

    def _part(self, x: Tensor) -> Tensor:
        keys = [hashlib.blake2b(image.numpy().tobytes(), digest_size=_KEY).digest() for image in x]
        rows = {key: row for row, key in reversed([*enumerate(keys)]) if key not in self._places}
        first = sorted(rows.values())
        made = {keys[row]: answer for row, answer in zip(first, self.box(x[first]), strict=True)} if first else {}
        found = torch.stack([made[key] if key in made else self._kept(self._places[key]) for key in keys])
        self.reused += len(x) - len(first)
        if made:
            self._keep(made)
        self._note()
        return found

    def _kept(self, place: int) -> Tensor:
        return torch.frombuffer(bytearray(os.pread(self._file, self._row, place)), dtype=torch.float32).view(self._shape)

    def _keep(self, made: dict[bytes, Tensor]) -> None:
        """Add a frame, unless the file is full, or the disk is: then the run goes on, and its next checkpoint says so."""
        content = b"".join(made) + torch.stack([*made.values()]).float().contiguous().numpy().tobytes()
        frame = _FRAME.pack(len(made), zlib.crc32(content)) + content
        if len(self._places) + len(made) > MOST or self._end + len(frame) > MOST_BYTES:
            return
        try:
            if os.pwrite(self._file, frame, self._end) < len(frame):
                return
        except OSError:
            return
        self._add(made, self._end)
        self._end += len(frame)

    def _add(self, keys: dict[bytes, Tensor] | list[bytes], start: int) -> None:
        answers = start + _FRAME.size + _KEY * len(keys)
        self._places |= {key: answers + self._row * row for row, key in enumerate(keys)}

    def _note(self) -> None:
        """Write the counts, which a kill must not lose."""
        head = _HEAD.pack(_MARK, self._known, self._row, max(0, self.asked), self.reused)
        try:
            os.pwrite(self._file, head, 0)
        except OSError:  # as in `_keep`
            return

    def _read(self) -> int:
        """Take up what is in the file; returns where its last whole frame ends."""
        head = os.pread(self._file, _HEAD.size, 0)
        if len(head) < _HEAD.size or head[:-16] != _HEAD.pack(_MARK, self._known, self._row, 0, 0)[:-16]:
            return _HEAD.size
        *_, asked, reused = _HEAD.unpack(head)
        self._before, self.reused = self._before + asked, reused
        end = _HEAD.size
        for keys, start, end in self._frames():  # noqa: B007 - where the last one ends
            self._add(keys, start)
        return end

    def _frames(self) -> Iterator[tuple[list[bytes], int, int]]:
        """The keys of each whole frame, and where it begins and ends."""
        start = _HEAD.size
        while len(head := os.pread(self._file, _FRAME.size, start)) == _FRAME.size and start < MOST_BYTES:
            count, checksum = _FRAME.unpack(head)
            size = count * (_KEY + self._row)
            content = os.pread(self._file, size, start + _FRAME.size) if count <= MOST and size <= MOST_BYTES else b""
            if not content or len(content) < size or zlib.crc32(content) != checksum:
                return
            if not np.isfinite(np.frombuffer(content, dtype="<f4", offset=_KEY * count)).all():
                return
            end = start + _FRAME.size + size
            yield [content[i : i + _KEY] for i in range(0, _KEY * count, _KEY)], start, end
            start = end

    def close(self) -> None:
        """Write the counts, and close the file."""
        self._note()
        os.close(self._file)
