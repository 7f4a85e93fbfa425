"""Which variations are close enough to their sources to be kept, and a picture of them."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datafree.core.runtime import Runtime
from datafree.data.drawing import variation_sheet
from datafree.engine.method import Problem
from datafree.methods.common.diffusion.pretrained import Clip
from datafree.methods.common.feature_match import Embedding

SHOWN = 8  # sources in the picture


class Filter:
    """Keeps a variation whose embedding's cosine with its source's is at least `omega` (DDA, arXiv 2410.17606, abstract).

    The embedding is the teacher's penultimate feature, or that of the CLIP image encoder `clip`. With `same_class` the teacher
    must also put the variation in its source's likeliest class.
    """

    def __init__(self, problem: Problem, runtime: Runtime, omega: float, same_class: bool, clip: str = ""):
        self.problem, self.runtime, self.omega, self.same_class = problem, runtime, omega, same_class
        self.embedding = Embedding(problem, runtime)
        self.clip = Clip(clip, runtime) if clip else None

    @torch.no_grad()
    def __call__(self, sources: Tensor, variations: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Similarity and whether it is kept, both [N, K], for sources [N, C, H, W] and variations [N, K, C, H, W] in [0, 1].

        Logs the share that is kept, in all and for each class of the sources' targets [N, classes], and how often the
        teacher changes its mind.
        """
        n, k = variations.shape[:2]
        images = torch.cat([sources, variations.flatten(0, 1)])
        features, answer = self._embed(images)
        theirs, own = features[:n, None], features[n:].view(n, k, -1)
        similarity = F.cosine_similarity(theirs, own, dim=2)
        classes = targets.argmax(1)
        same = answer[n:].argmax(1).view(n, k) == classes[:, None]
        kept = similarity >= self.omega
        kept = kept & same if self.same_class else kept
        self.runtime.note("similarity", similarity.mean())
        self.runtime.note("same_class", same.float().mean())
        self.runtime.note("kept", kept.float().mean())
        for each in classes.unique().tolist():
            self.runtime.note(f"kept/{each}", kept[classes == each].float().mean())
        self.runtime.counters.variations += n * k
        self.runtime.counters.kept += int(kept.sum())
        return similarity, kept

    def _embed(self, images: Tensor, part: int = 1024) -> tuple[Tensor, Tensor]:
        """Embeddings [B, features] of images in [0, 1], and the teacher's answers."""
        asked = [self.embedding(self.problem.inputs.to_network(some)) for some in images.split(part)]
        features, answers = (torch.cat(column) for column in zip(*asked, strict=True))
        return (torch.cat([self.clip(some) for some in images.split(part)]) if self.clip else features), answers


class Shown:
    """The last few sources with their variations, for a person to look at."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def take(self, sources: Tensor, variations: Tensor, similarity: Tensor, kept: Tensor) -> None:
        """Images in [0, 1]; shapes as in `Filter`."""
        pixels = [(images[:SHOWN] * 255).round().to(torch.uint8) for images in (sources, variations)]
        self.seen = [part.cpu() for part in (*pixels, similarity[:SHOWN], kept[:SHOWN])]

    def picture(self) -> Tensor:
        """Uint8 [3, H, W]."""
        sources, variations, similarity, kept = self.seen
        return variation_sheet(sources, variations, similarity, kept)

    def state_dict(self) -> dict[str, Any]:
        """What is shown."""
        return {"seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seen = state_dict["seen"]
