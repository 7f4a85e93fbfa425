"""A program as a function from images to logits: it reads batches as `.npy` files and writes its answers as such."""

import os
import shlex
import weakref
from typing import Self

import numpy as np
import torch
from torch import Tensor

from datafree.core.settings import first_line
from datafree.networks.black_box.npy import encoded, read_array
from datafree.networks.black_box.pipes import GRACE, Ended, Pipes, Slow
from datafree.networks.outputs import Refused

_HOW = "it must read one .npy after the other from standard input, answer each, and go on until that is closed"


class Command:
    """A program that answers batches of images, one after the other.

    It is started at the first call, without a shell, and gets each batch on its standard input as one `.npy` file (version 1.0,
    float32 [B, C, H, W], C order, network units). To each it answers on its standard output with one `.npy` file of logits [B,
    classes], or [B, classes, H, W] for segmentation, and it ends when its standard input is closed: by `close`, at the end of a
    `with` block, or at the end of this process, however that comes.

    Args:
        line: the program and its arguments, as in a shell: `python vendor.py --model 'a b'`.
        seconds: most time for one answer, the first one with the start of the program.

    Raises:
        ValueError: here for a line without a program; in a call if the program cannot be started, ends, takes longer, or
            writes something else. It is ended then, and the message has the end of its standard error.
    """

    def __init__(self, line: str, seconds: float = 600.0):
        try:
            self.words = shlex.split(line)
        except ValueError as error:
            raise ValueError(f"The command {line!r} does not read ({first_line(error)}); quote it as in a shell.") from error
        if not self.words:
            raise ValueError("The command is empty; give a program and its arguments.")
        if not seconds > 0:
            raise ValueError(f"An answer in {seconds:g} seconds is not possible; give a positive time.")
        self.seconds = seconds
        self._pipes: Pipes | None = None
        self._finalizer: weakref.finalize[[], Command] | None = None

    @property
    def __name__(self) -> str:
        return os.path.basename(self.words[0])  # noqa: PTH119 - a name, not a path of this machine

    def __call__(self, x: Tensor) -> Tensor:
        """The answers to x [B, C, H, W], float32 on the CPU: a tensor [B, classes] or [B, classes, H, W], float32."""
        pipes = self._pipes or self._start()
        try:
            pipes.write(encoded(x.numpy()), self.seconds)
            return torch.from_numpy(np.array(read_array(pipes.read), dtype=np.float32))
        except (Ended, Slow, ValueError) as error:
            reason = self._reason(pipes, len(x), error)
            self.close(grace=0)
            raise Refused(reason) from error
        except BaseException:  # also Ctrl-C: half an answer is left in the pipe
            self.close(grace=0)
            raise

    def _start(self) -> Pipes:
        try:
            self._pipes = Pipes(self.words)
        except (OSError, ValueError) as error:  # a name with a zero byte is no OSError
            raise Refused(
                f"The command {self.words[0]!r} cannot be started ({first_line(error)}); check its path and its rights."
            ) from error
        self._finalizer = weakref.finalize(self, self._pipes.end)
        return self._pipes

    def _reason(self, pipes: Pipes, images: int, error: Exception) -> str:
        """The sentence for what happened instead of an answer."""
        name = f"The command {self.words[0]!r}"
        if isinstance(error, Slow):
            what = (
                f"did not answer {images} images within {self.seconds:g} seconds; give it more time (--teacher-timeout), or "
                "fewer images at a time (--teacher-batch)"
            )
        elif isinstance(error, Ended):
            what = f"ended{pipes.status()} instead of answering {images} images; {_HOW}"
        else:
            what = f"wrote {first_line(error)}"
        said = pipes.last_words()
        return f"{name} {what}{f'; on standard error it wrote last: {said}' if said else ''}."

    def close(self, grace: float = GRACE) -> None:
        """End the program, which has `grace` seconds to do so by itself; a later call starts it again."""
        if self._finalizer and self._pipes:
            self._finalizer.detach()
            self._pipes.end(grace)
        self._pipes = self._finalizer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
