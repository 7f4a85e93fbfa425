"""Spoilt network files, each with the line to run on it."""

import json
import shlex
from pathlib import Path
from random import Random
from typing import Any

import torch
from fingerprints import BN
from mutation_archives import joined, relabelled, split
from mutation_ways import FORGED, NUMBERS, STRANGE, put, raw, table, text_of, tree
from reliability_kills import TINY, WEIGHTS
from safetensors.torch import load, save
from torch import Tensor

from datafree import Card, InputSpec, Network, build
from datafree.networks.architectures import ARCHITECTURES

TIMM_RESNET, TIMM_VIT, TORCHVISION = "timm-resnet.safetensors", "timm-vit.safetensors", "torchvision.safetensors"
CARD = "datafree.card"

# Options of factories: those of this package, of timm and of torchvision, with those by which a file could do harm.
OURS = ("width", "widths", "depth", "n", "plan", "norm", "heads", "halved", "blocks", "shape", "classes")
TIMM = (
    "depth", "depths", "embed_dim", "num_heads", "patch_size", "img_size", "layers", "channels", "stem_width", "stem_type",
    "block", "block_args", "base_width", "cardinality", "global_pool", "act_layer", "norm_layer", "output_stride", "drop_rate",
    "drop_path_rate", "mlp_ratio", "class_token", "pos_embed", "reg_tokens", "dynamic_img_size", "weight_init", "features_only",
    "window_size", "in_chans", "num_classes", "scriptable", "exportable", "no_jit", "fixed_pos_embed", "out_indices",
)  # fmt: skip
SHOP = (
    "num_classes", "dropout", "version", "width_mult", "groups", "width_per_group", "zero_init_residual", "aux_loss",
    "init_weights", "transform_input", "replace_stride_with_dilation", "image_size", "stages_repeats",
)  # fmt: skip
HARM = (
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "weights", "weights_backbone",
    "pretrained_backbone", "progress", "device", "dtype", "pretrained_strict", "load_from",
)  # fmt: skip
WORDS = (
    "avg",
    "map",
    "",
    "relu",
    "silu",
    "cuda:7",
    "meta",
    "DEFAULT",
    "IMAGENET1K_V1",
    "hf-hub:a/b",
    "file:weights.pt",
    WEIGHTS,
)
WORDS += ("http://127.0.0.1:9/x", "float16", "jax", "token", FORGED)
TIMM_NAMES = (
    "test_resnet", "test_vit", "test_convnext", "test_nfnet", "test_maxvit", "test_mambaout", "test_efficientnet", "resnet18",
    "vit_tiny_patch16_224", "vit_giant_patch14_224", "convnext_atto", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224",
    "densenet121", "regnetx_002", "mixer_s32_224", "hrnet_w18_small", "nosuch", "resnet18.nosuchtag", "test_vit.", "hf-hub:a/b",
    "local-dir:.", "resnet18.a1_in1k", "..", "",
)  # fmt: skip
SHOP_NAMES = (
    "torchvision.models:squeezenet1_1", "torchvision.models:resnet18", "torchvision.models:googlenet",
    "torchvision.models:vit_b_16", "torchvision.models.segmentation:fcn_resnet50", "torchvision.models:get_model",
    "torchvision.models.segmentation:lraspp_mobilenet_v3_large", "torchvision.models.detection:ssd300_vgg16",
    "torchvision.datasets:MNIST", "torchvision.io:read_file", "torchvision:nothing", "torchvision.nothing:x", "os:system",
    "builtins:exec", "evil:make", ":", "torchvision.models:", "torchvision.models:resnet18.__init__",
)  # fmt: skip
# No size between: 3x1024x1024 is what some networks take, and seconds an image of work that was asked for.
SHAPES = (
    (1, 30_000, 30_000),
    (1, 8000, 8000),
    (3, 4096, 4096),
    (1, 2048, 2048),
    (65_536, 1, 1),
    (64, 1024, 1024),
    (1, 65_536, 900),
)
SHAPES += ((1, 1, 1), (1, 2, 2), (3, 7, 9), (1, 8, 65_536), (2, 8, 8), (1, 512, 512), (1, 1024, 1024), (3, 32, 32), (1, 9, 8))
BETWEEN = (
    (3, 1024, 1024),
    (3, 2048, 2048),
    (1, 1024, 1024),
    (1, 2048, 2048),
    (1, 4096, 4096),
    (3, 512, 512),
)  # only to look at
ANY_SIZE = {"resnet8": "classification", "resnet20": "classification", "compact-segmenter": "segmentation"}


def distil(teacher: str, options: str) -> str:
    """A short run of this teacher."""
    return f"distill {shlex.quote(teacher)} --student small-cnn-quarter {options} {TINY} --device cpu --out run"


def read(random: Random, file: str) -> str:
    """A line that reads the network `file`."""
    lines = (
        f"inspect {file}",
        f"inspect {file}",
        f"evaluate {file} --data digits.npz --device cpu",
        f"evaluate {BN} --data digits.npz --device cpu --against {file}",
        distil(file, "--recipe dfad-digits --method.batch 8"),
        distil(file, "--recipe procedural-light --method.supply.batch 4 --plan.images-per-round 8"),
        distil(file, "--recipe stored-mnist --method.path digits.npz"),
        distil(file, "--recipe auto --budget 8images").replace(TINY, ""),
        f"synthesize {file} --recipe dafl-mnist-light --n 4 --batch 4 --device cpu --out made.safetensors",
        f"pack {file} --arch small-cnn-half --inputs 1x8x8 --classes 10 --out packed.safetensors",
    )
    return random.choice(lines) + " --allow-code torchvision" * (TORCHVISION in file)


def _options(random: Random, names: tuple[str, ...]) -> dict[str, Any]:
    values = (*STRANGE, *NUMBERS, *WORDS, *WORDS)
    return {random.choice(names): random.choice(values) for _ in range(random.choice((1, 1, 1, 2, 3)))}


def _carded(random: Random, base: str, **changes: Any) -> tuple[str, str]:
    data = relabelled(Path(base).read_bytes(), CARD, lambda card: json.dumps(card | changes))
    name = put(Path(base), data)
    return json.dumps(changes), read(random, name)


def our_options(random: Random) -> tuple[str, str]:
    arch = random.choice((*ARCHITECTURES, "small-cnn-half", "nothing"))
    return _carded(random, BN, architecture=arch, options=_options(random, (*OURS, *HARM[-5:])))


def timm_options(random: Random) -> tuple[str, str]:
    base, own = random.choice(((TIMM_RESNET, "test_resnet"), (TIMM_VIT, "test_vit")))
    name = random.choice((own, random.choice(TIMM_NAMES)))
    options = _options(random, random.choice((TIMM, TIMM, HARM))) if random.random() < 0.9 else {}
    return _carded(random, base, architecture=f"timm:{name}", options=options)


def torchvision_options(random: Random) -> tuple[str, str]:
    put(Path("evil.py"), "open('canary', 'w')\ndef make(**options):\n    pass\n")
    name = random.choice((SHOP_NAMES[0], random.choice(SHOP_NAMES)))
    options = _options(random, random.choice((SHOP, HARM))) if random.random() < 0.9 else {}
    return _carded(random, TORCHVISION, architecture=name, options=options)


def shapes(random: Random) -> tuple[str, str]:
    inputs: dict[str, Any] = {
        "shape": random.choice(SHAPES),
        "mean": random.choice(((0.3,), (0.1, 0.2, 0.3), (1e30,), ())),
        "std": (0.4,),
    }
    if random.random() < 0.2:
        inputs["std"] = random.choice(((0.0,), (-1,), (1e-30,), (1e30,)))
    arch = random.choice(("small-cnn-half", "compact-segmenter-half", "resnet8", "vit-mini", "timm:test_resnet"))
    changes = {"architecture": arch, "inputs": inputs, "task": random.choice(("classification", "segmentation"))}
    base = random.choice((BN, "segmenter.safetensors", TIMM_RESNET, TORCHVISION))
    return _carded(random, base, **(changes if random.random() < 0.3 else {"inputs": inputs}))


def large(random: Random) -> tuple[str, str]:
    """A network that takes inputs of every size, whose weights fit its card."""
    (arch, task), shape = random.choice(list(ANY_SIZE.items())), random.choice(BETWEEN)
    inputs, file = InputSpec(shape=shape), Path("large.safetensors")
    pack = f"pack {file} --arch {arch} --inputs {inputs} --classes 10 --out packed.safetensors"
    with torch.random.fork_rng([]):
        torch.manual_seed(random.randrange(100))
        Network(build(arch, inputs, 10), Card(architecture=arch, classes=10, task=task, inputs=inputs)).save(file)
    return f"{arch} {inputs}", random.choice((f"inspect {file}", pack))


def card_tree(random: Random) -> tuple[str, str]:
    base = random.choice((BN, TIMM_RESNET, "segmenter.safetensors"))
    found: list[str] = []
    data = relabelled(Path(base).read_bytes(), CARD, lambda card: found.append(text_of(random, tree(random, card))) or found[0])
    return found[0], read(random, put(Path(base), data))


def network_header(random: Random) -> tuple[str, str]:
    return spoilt_header(random, BN), read(random, BN)


def spoilt_header(random: Random, base: str) -> str:
    header, body = split(Path(base).read_bytes())
    header = tree(random, header)
    length = random.choice((None, None, None, 0, 1, 2**63 - 1, 2**27, len(json.dumps(header)) - 1))
    put(Path(base), joined(header, body, length))
    return f"header of {base}, {length}: {json.dumps(header)[:400]}"


def network_bytes(random: Random) -> tuple[str, str]:
    base = random.choice((BN, "segmenter.safetensors", TIMM_VIT))
    data = raw(random, Path(base).read_bytes())
    return f"{len(data)} bytes", read(random, put(Path(base), data))


def network_tensors(random: Random) -> tuple[str, str]:
    base = random.choice((BN, BN, TIMM_RESNET, "segmenter.safetensors"))
    return spoilt_tensors(random, base), read(random, base)


def spoilt_tensors(random: Random, base: str) -> str:
    data = Path(base).read_bytes()
    before = dict(sorted(load(data).items()))  # which come in any order
    after = table(random, before)
    put(Path(base), save(after, metadata=split(data)[0].get("__metadata__")))
    changed = [name for name in after if name not in before or not _same(after[name], before[name])]
    return f"{base}: changed {changed[:3]}, without {sorted(before.keys() - after.keys())[:3]}"


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def descriptions(random: Random) -> tuple[str, str]:
    arch = random.choice((*ARCHITECTURES, *(f"timm:{name}" for name in TIMM_NAMES), *SHOP_NAMES))
    numbers = ("1x8x8", "1x8x8", "3x32x32", "0x8x8", "1x99999x9", "1x9000x7000", "-1x8x8", "x", "1e9x1x1", "²x1x1", "1x1x1", "")
    options = _options(random, (*OURS, *TIMM, *SHOP, *HARM)) if random.random() < 0.7 else random.choice(STRANGE)
    line = f"pack {random.choice((WEIGHTS, BN, TIMM_VIT))} --arch {shlex.quote(arch)} --inputs {random.choice(numbers)!r}"
    line += f" --mean {random.choice(('0.3', 'nan', '1 2 3', 'x', '1e400', '0.1 0.2'))}"
    line += f" --std {random.choice(('0.4', '0', 'inf', '1'))}"
    line += f" --classes {random.choice((10, 10, 7, 1, 0, -1, 10**6, 10**9, 'x'))} --out packed.safetensors"
    line += f" --options {shlex.quote(json.dumps(options))}" if random.random() < 0.7 else ""
    return "", line.replace("\0", "") + " --allow-code torchvision"


NETWORKS = {
    "options of ours": our_options,
    "options of timm": timm_options,
    "options of torchvision": torchvision_options,
    "shapes": shapes,
    "large": large,
    "cards": card_tree,
    "headers": network_header,
    "network bytes": network_bytes,
    "network tensors": network_tensors,
    "pack flags": descriptions,
}
