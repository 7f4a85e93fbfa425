"""The filter that keeps variations close to their sources, and a picture of them."""

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
    """Keeps a variation if the cosine of its embedding with that of its source is at least `omega`.

    (DDA, arXiv 2410.17606, abstract.) The embedding is the teacher's penultimate feature, or that of the CLIP image encoder
    `clip`. With `same_class` the teacher must also predict the likeliest class of the source's target.
    """

    def __init__(self, problem: Problem, runtime: Runtime, omega: float, same_class: bool, clip: str = ""):
        self.problem, self.runtime, self.omega, self.same_class = problem, runtime, omega, same_class
        self.embedding = Embedding(problem, runtime)
        self.clip = Clip(clip, runtime) if clip else None

    @torch.no_grad()
    def __call__(self, sources: Tensor, variations: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine of each variation and whether it is kept, both [N, K].

        `sources` are [N, C, H, W] and `variations` [N, K, C, H, W], in [0, 1]; `targets` [N, classes] are those of the sources.
        Logs the mean cosine, the share of variations in the class of their source, and the share that is kept, in total and for
        each class.
        """
        n, k = variations.shape[:2]
        images = torch.cat([sources, variations.flatten(0, 1)])
        features, logits = self._embed(images)
        source_features, variation_features = features[:n, None], features[n:].view(n, k, -1)
        similarity = F.cosine_similarity(source_features, variation_features, dim=2)
        classes = targets.argmax(1)
        same = logits[n:].argmax(1).view(n, k) == classes[:, None]
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
        """Embeddings [B, features] and the teacher's logits [B, classes] of images [B, C, H, W] in [0, 1], part by part."""
        pairs = [self.embedding(self.problem.inputs.to_network(some)) for some in images.split(part)]
        features, logits = (torch.cat(column) for column in zip(*pairs, strict=True))
        return (torch.cat([self.clip(some) for some in images.split(part)]) if self.clip else features), logits


class Preview:
    """The last few sources with their variations, as a picture for a person."""

    def __init__(self) -> None:
        self.images: list[Tensor] = []

    def update(self, sources: Tensor, variations: Tensor, similarity: Tensor, kept: Tensor) -> None:
        """Store the first sources and what belongs to them; images are in [0, 1], shapes as in `Filter`."""
        pixels = [(images[:SHOWN] * 255).round().to(torch.uint8) for images in (sources, variations)]
        self.images = [part.cpu() for part in (*pixels, similarity[:SHOWN], kept[:SHOWN])]

    def picture(self) -> Tensor:
        """The picture, uint8 [3, H, W]."""
        sources, variations, similarity, kept = self.images
        return variation_sheet(sources, variations, similarity, kept)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        seen = state_dict["seen"]
        if seen:
            sources, variations, similarity, kept = seen
            images, each = (sources, variations), variations.shape[:2]
            if sources.dim() != 4 or sources.shape != variations[:, 0].shape or any(x.dtype != torch.uint8 for x in images):
                raise ValueError("the sources and variations shown are no images")
            if (similarity.shape, kept.shape, kept.dtype) != (each, each, torch.bool):
                raise ValueError("what was found of the variations shown is not one number an image")
        self.images = list(seen)
