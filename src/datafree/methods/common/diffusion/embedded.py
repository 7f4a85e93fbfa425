"""A small diffusion model trained on the bank, so that the run needs no download and no data."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from datafree.core.distributed import parallel
from datafree.core.modes import fastest_layout
from datafree.core.runtime import Runtime
from datafree.core.spec import InputSpec
from datafree.core.state import Counter, Stateful
from datafree.core.terminal import silent
from datafree.methods.common.diffusion.diffuser import Diffuser, Diffusion, import_package

SLICE = 50  # training steps in a slice, after which a run can save
LEVELS = 1000  # noise levels


class Embedded(Diffuser):
    """A DDPM (Ho et al., arXiv 2006.11239) with a cosine schedule (Nichol and Dhariwal, arXiv 2102.09672).

    A variation is made as in SDEdit (Meng et al., arXiv 2108.01073): noise is added to an image, which is then denoised by
    DDIM (Song et al., arXiv 2010.02502). Raises `ValueError` if diffusers is missing, or for a width that is not possible.
    """

    def __init__(self, settings: Diffusion, inputs: InputSpec, runtime: Runtime):
        diffusers = import_package("diffusers")
        self.settings, self.runtime = settings, runtime
        schedule = {"num_train_timesteps": LEVELS, "beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing"}
        with silent():  # it loads its modules here, and others', which warn of each other
            self.scheduler = diffusers.DDIMScheduler(**schedule)
            network = _unet(diffusers, inputs.shape, settings.width)
        self.scheduler.set_timesteps(settings.steps)
        self.network = fastest_layout(network.to(runtime.device)).train()
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay))
        self.trainable = parallel(self.network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), settings.lr, fused=True)
        self.trained = Counter()

    def training(self) -> tuple[int, int]:
        """Number of slices of `SLICE` steps: those done, and all."""
        return math.ceil(self.trained.count / SLICE), math.ceil(self.settings.updates / SLICE)

    def train(self, bank: Tensor) -> None:
        """Do up to `SLICE` steps of noise prediction (arXiv 2006.11239, eq. 14) on random images of the bank."""
        settings, random = self.settings, self.runtime.random
        for _ in range(min(SLICE, settings.updates - self.trained.count)):
            rows = torch.randint(len(bank), (settings.batch,), generator=random, device=bank.device)
            x = bank[rows].float() / 127.5 - 1
            levels = torch.randint(LEVELS, (len(x),), generator=random, device=x.device)
            noise = self.runtime.noise(*x.shape)
            loss = F.mse_loss(self._predict(self.trainable, self.scheduler.add_noise(x, noise, levels), levels), noise)
            self.optimizer.param_groups[0]["lr"] = settings.lr * _rate(self.trained.count / settings.updates)
            self.runtime.minimize(loss, self.optimizer)
            self.average.update_parameters(self.network)
            self.trained.count += 1
            self.runtime.note("diffusion_loss", loss)

    @torch.no_grad()
    def vary(self, images: Tensor, strength: float) -> Tensor:
        """One variation of each image, both [B, C, H, W] in [0, 1], by at least one denoising step."""
        steps = max(1, round(strength * self.settings.steps))
        return torch.cat([self._denoise(part * 2 - 1, steps) for part in images.split(self.settings.batch)])

    def state(self) -> dict[str, Stateful]:
        return {"network": self.network, "average": self.average, "optimizer": self.optimizer, "trained": self.trained}

    def _denoise(self, x: Tensor, steps: int) -> Tensor:
        levels = self.scheduler.timesteps[-steps:]
        x = self.scheduler.add_noise(x, self.runtime.noise(*x.shape), levels[:1].expand(len(x)))
        for level in levels:
            x = self.scheduler.step(self._predict(self.average, x, level.expand(len(x))), level, x).prev_sample
        return ((x + 1) / 2).clamp_(0, 1)

    def _predict(self, network: nn.Module, x: Tensor, levels: Tensor) -> Tensor:
        """The noise in x [B, C, H, W] at the noise levels [B], fp32."""
        with self.runtime.autocast():
            noise: Tensor = network(x, levels.to(x.device)).sample
        return noise.float()


def _rate(done: float) -> float:
    """Factor of the learning rate after the share `done` of the training: a short rise, then a cosine to 0."""
    return min(1.0, (done + 1e-3) / 0.03) * 0.5 * (1 + math.cos(math.pi * done))


def _unet(diffusers: Any, shape: tuple[int, int, int], width: int) -> nn.Module:
    """A U-Net that halves the sides as often as possible, at most twice; attention only at its smallest size."""
    channels, rows, columns = shape
    halvings = min(2, _halvings(rows), _halvings(columns))
    if width % 8:
        raise ValueError(f"The diffusion model's width must be a multiple of 8, not {width}; pass --method.diffusion.width.")
    widths = (width, *(2 * width for _ in range(halvings)))
    network: nn.Module = diffusers.UNet2DModel(
        sample_size=(rows, columns),
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=widths,
        down_block_types=("DownBlock2D",) * len(widths),
        up_block_types=("UpBlock2D",) * len(widths),
        norm_num_groups=8,
    )
    return network


def _halvings(side: int) -> int:
    """How many times `side` can be divided by 2."""
    return (side & -side).bit_length() - 1
