"""Pretrained diffusion pipelines, and CLIP's encoders, from a folder or the hub."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datafree.core.runtime import Runtime
from datafree.core.settings import first_line
from datafree.core.spec import InputSpec
from datafree.core.terminal import silent
from datafree.methods.common.diffusion.diffuser import Diffuser, Diffusion, import_package

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # arXiv 2103.00020, its code
CLIP_SIDE = 224  # pixels
VARIATION = "StableDiffusionImageVariationPipeline"


class Pretrained(Diffuser):
    """A pretrained pipeline of image variation or of image-to-image; the class that the pipeline was saved with decides.

    Stable Diffusion image variation gets only the CLIP embedding of an image (as in DDA, arXiv 2410.17606); an image-to-image
    pipeline starts from the image with noise. Raises `ValueError` if no pipeline can be loaded.
    """

    def __init__(self, settings: Diffusion, inputs: InputSpec, runtime: Runtime):
        self.settings, self.inputs, self.runtime = settings, inputs, runtime
        self.provenance = f"pretrained prior: {settings.pipeline}"
        self.pipeline, self.is_variation = _load(settings)
        self.pipeline.to(runtime.device, torch.bfloat16 if runtime.precision == "bf16" else torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def vary(self, images: Tensor, strength: float) -> Tensor:
        """One variation of each image, both [B, C, H, W] in [0, 1].

        The pipeline's output is scaled to the images' size with antialiasing. Grey images are passed as colour images, and
        their variations are averaged over the channels.
        """
        return torch.cat([self._vary(part, strength) for part in images.split(self.settings.batch)])

    def _vary(self, images: Tensor, strength: float) -> Tensor:
        options: dict[str, Any] = {
            "num_inference_steps": self.settings.steps,
            "guidance_scale": self.settings.guidance,
            "generator": torch.Generator("cpu").manual_seed(self._seed()),
            "output_type": "pt",
        }
        if self.is_variation:
            made = self.pipeline(clip_pixels(images), **options).images
        else:
            prompts, side = [""] * len(images), (self.settings.side, self.settings.side)
            large = F.interpolate(_colour(images), side, mode="bicubic", antialias=True).clamp(0, 1)
            made = self.pipeline(prompt=prompts, image=large, strength=strength, **options).images
        return _fit(made.to(images), images)

    def _seed(self) -> int:
        """A seed from the run's random numbers, so that a repeated run makes the same variations."""
        drawn = torch.randint(2**31, (1,), generator=self.runtime.random, device=self.runtime.device)
        return int(drawn.item())


class Clip:
    """CLIP's image encoder, from the folder or hub name `source`. Raises `ValueError` if it cannot be loaded."""

    def __init__(self, source: str, runtime: Runtime):
        encoder = import_package("transformers").CLIPVisionModelWithProjection
        self.network = _from_pretrained(encoder, source, {}).to(runtime.device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Embeddings [B, features], fp32, of images [B, C, H, W] in [0, 1]."""
        embedded: Tensor = self.network(pixel_values=clip_pixels(images)).image_embeds
        return embedded.float()


def clip_text(source: str, texts: Sequence[str], runtime: Runtime, without: str) -> Tensor:
    """CLIP's embeddings [texts, features]. Raises `ValueError` if transformers is missing or the model cannot be loaded."""
    transformers = import_package("transformers", without)
    tokens = _from_pretrained(transformers.CLIPTokenizer, source, {})(list(texts), padding=True, return_tensors="pt")
    encoder = _from_pretrained(transformers.CLIPTextModelWithProjection, source, {}).to(runtime.device).eval()
    with torch.no_grad():
        embedded: Tensor = encoder(**tokens.to(runtime.device)).text_embeds
    return embedded.float()


def clip_pixels(images: Tensor) -> Tensor:
    """Images [B, C, H, W] in [0, 1] as inputs of CLIP: colour, 224x224 pixels, scaled with CLIP's mean and deviation."""
    mean, std = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    large = F.interpolate(_colour(images), (CLIP_SIDE, CLIP_SIDE), mode="bicubic", antialias=True).clamp(0, 1)
    return (large - mean) / std


def _colour(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _fit(made: Tensor, images: Tensor) -> Tensor:
    """`made` [B, 3, h, w], resized to the size and the channels of `images` [B, C, H, W]."""
    small = F.interpolate(made, images.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
    return small if images.shape[1] == 3 else small.mean(1, keepdim=True).expand_as(images)


def _load(settings: Diffusion) -> tuple[Any, bool]:
    """The pipeline, and whether it is one of image variation."""
    diffusers = import_package("diffusers")
    import_package("transformers")
    revision = {"revision": settings.revision} if settings.revision else {}
    try:
        kind = diffusers.DiffusionPipeline.load_config(settings.pipeline, **revision)["_class_name"]
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(settings.pipeline, error) from error
    is_variation = kind == VARIATION
    with silent():  # it loads its modules here, and others', which warn of each other
        family = getattr(diffusers, VARIATION) if is_variation else diffusers.AutoPipelineForImage2Image
    return _from_pretrained(family, settings.pipeline, revision), is_variation


def _from_pretrained(family: Any, source: str, revision: dict[str, str]) -> Any:
    try:
        return family.from_pretrained(source, **revision)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise _unreadable(source, error) from error


def _unreadable(source: str, error: Exception) -> ValueError:
    return ValueError(
        f"{source} holds no pretrained model ({first_line(error)}); name a folder written by save_pretrained, or a hub name."
    )
