"""Ways in which networks are saved that `datafree pack` reads."""

import argparse
import collections
import datetime
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_rows import Attributes, Config, Row, StateDict, inside, lightning, optimizer_state, saved, under, wrapped
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel


def on_gpu(path: Path, first: nn.Module, _: nn.Module) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(first.state_dict(), path)


def safetensors(path: Path, first: nn.Module, _: nn.Module) -> None:
    save_file(dict(first.state_dict()), path)


def timm_training(path: Path, first: nn.Module, second: nn.Module) -> None:
    timm = pytest.importorskip("timm.utils", reason="it is timm's own saver")
    args = argparse.Namespace(model="tiny", output=Path("runs"), mean=None)
    step = torch.optim.SGD(first.parameters(), 0.1)
    averaged = timm.ModelEmaV3(second)
    timm.CheckpointSaver(first, step, args, averaged, checkpoint_dir=str(path.parent))._save(str(path), 3, 0.9)


def torchvision_training(first: StateDict, second: StateDict) -> dict[str, Any]:
    return {
        "model": first,
        "optimizer": optimizer_state(),
        "lr_scheduler": {"last_epoch": 3, "milestones": collections.Counter([30, 60])},
        "epoch": 3,
        "args": argparse.Namespace(data_path="/data", lr=0.1, world_size=1),
        "scaler": {},
        "model_ema": {"n_averaged": torch.tensor(9), **under("module.", second)},
    }


def imagenet_example(first: StateDict, _: StateDict) -> dict[str, Any]:
    return {
        "epoch": 90,
        "arch": "tiny",
        "state_dict": under("module.", first),
        "best_acc1": torch.tensor(76.1),
        "optimizer": optimizer_state(),
        "scheduler": {"last_epoch": 90, "_last_lr": [0.001]},
    }


def values(first: StateDict, _: StateDict) -> dict[str, Any]:
    counts: dict[str, list[int]] = collections.defaultdict(list)
    counts["x"].append(1)
    return {
        "model": first,
        "time": datetime.datetime(2026, 1, 1),
        "best": np.float64(0.9),
        "history": np.ones(3),
        "out": Path("runs"),
        "counts": counts,
        "last": collections.deque([1, 2]),
        "space": types.SimpleNamespace(x=1),
    }


def objects(first: StateDict, _: StateDict) -> dict[str, Any]:
    step = torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)
    schedule = torch.optim.lr_scheduler.StepLR(step, 1)
    return {"model": first, "torch": torch.__version__, "optimizer": step, "lr_scheduler": schedule, "loss": nn.MSELoss()}


def apart(first: StateDict, _: StateDict) -> dict[str, StateDict]:
    parts: dict[str, StateDict] = {}
    for name, value in first.items():
        layer, _, rest = name.partition(".")
        parts.setdefault(layer, {})[rest] = value
    return parts


def with_criterion(first: StateDict) -> StateDict:
    return {**under("model.", first), "criterion.weight": torch.ones(10), "val_acc.tp": torch.tensor(7)}


def averaging(first: StateDict, second: StateDict) -> StateDict:
    return {**under("model.", first), **under("ema_model.module.", second), "ema_model.n_averaged": torch.tensor(9)}


def doubles(state: StateDict) -> StateDict:
    return {name: value.double() if value.is_floating_point() else value for name, value in state.items()}


BOTH = {"weights": "averaged"}

KEPT = [
    Row("a state dict", saved(lambda a, b: a)),
    Row("a state dict in the form before torch 1.6", saved(lambda a, b: a, _use_new_zipfile_serialization=False), file="w.pth"),
    Row("safetensors", safetensors, file="model.safetensors"),
    Row("safetensors under another ending", safetensors, file="weights.bin"),
    Row("`pytorch_model.bin`", saved(lambda a, b: a), file="pytorch_model.bin"),
    Row("a state dict saved on a GPU", on_gpu),
    Row(
        "parameters and buffers in a dict",
        lambda path, a, b: torch.save(dict([*a.named_parameters(), *a.named_buffers()]), path),
    ),
    Row(
        "without `num_batches_tracked`, from before torch 0.4.1",
        saved(lambda a, b: {name: value for name, value in a.items() if "num_batches" not in name}),
    ),
    Row("weights in double precision", saved(lambda a, b: doubles(a))),
    Row("tensors that are views of larger ones", saved(lambda a, b: {n: torch.stack([v, v])[1] for n, v in a.items()})),
    Row("storage in another order, as of `channels_last`", wrapped(lambda a: a.to(memory_format=torch.channels_last))),
    Row("a state dict with numbers and texts beside", saved(lambda a, b: {**a, "epoch": 3, "name": "tiny"})),
    Row("`DataParallel` or `DistributedDataParallel`", wrapped(nn.DataParallel), entries={"dropped": "module."}),
    Row("`torch.compile`", wrapped(torch.compile), entries={"dropped": "_orig_mod."}),
    Row(
        "compiled, then `DataParallel`",
        wrapped(lambda a: nn.DataParallel(torch.compile(a))),
        entries={"dropped": "module._orig_mod."},
    ),
    Row(
        "`DataParallel`, then compiled",
        wrapped(lambda a: torch.compile(nn.DataParallel(a))),
        entries={"dropped": "_orig_mod.module."},
    ),
    Row("inside a module, as `model`", wrapped(inside("model")), entries={"dropped": "model."}),
    Row(
        "inside a module, as `backbone`, as `net`",
        wrapped(lambda a: inside("backbone")(inside("net")(a))),
        entries={"dropped": "backbone.net."},
    ),
    Row("inside a module of any name", wrapped(inside("my_resnet")), entries={"dropped": "my_resnet."}),
    Row(
        "FSDP, wrapped within the network",
        saved(lambda a, b: {n.replace(".", "._fsdp_wrapped_module.", 1): v for n, v in a.items()}),
        entries={"dropped": "_fsdp_wrapped_module."},
    ),
    Row(
        "`DistributedDataParallel` around the layers",
        saved(lambda a, b: {n.replace(".", ".module.", 1): v for n, v in a.items()}),
        entries={"dropped": "module."},
    ),
    Row("`state_dict`", saved(lambda a, b: {"state_dict": a}), entries={"taken": "state_dict"}),
    Row(
        "`model_state_dict`, of torch's tutorial",
        saved(
            lambda a, b: {
                "epoch": 1,
                "model_state_dict": a,
                "optimizer_state_dict": optimizer_state(),
                "loss": torch.tensor(0.1),
            }
        ),
        entries={"taken": "model_state_dict"},
    ),
    Row(
        "`net` of `DataParallel`, beside its accuracy",
        saved(lambda a, b: {"net": under("module.", a), "acc": 93.2, "epoch": 9}),
        entries={"taken": "net", "dropped": "module."},
    ),
    Row(
        "`model_best.pth.tar`, of torch's ImageNet example",
        saved(imagenet_example),
        entries={"taken": "state_dict", "dropped": "module."},
        file="model_best.pth.tar",
    ),
    Row(
        "`module`, of DeepSpeed",
        saved(lambda a, b: {"module": a, "ds_config": {"lr": 0.1}, "global_steps": 9}),
        entries={"taken": "module"},
    ),
    Row(
        "`state_dict` with `backbone.`, of mmengine",
        saved(lambda a, b: {"meta": Attributes(epoch=3), "state_dict": under("backbone.", a)}),
        entries={"taken": "state_dict", "dropped": "backbone.", "unread": "checkpoint_rows.Attributes"},
    ),
    Row(
        "three levels down",
        saved(lambda a, b: {"checkpoint": {"model": {"state_dict": a}}}),
        entries={"taken": "checkpoint/model/state_dict"},
    ),
    Row("a list with the state dict and the epoch", saved(lambda a, b: [a, 3]), entries={"taken": "0"}),
    Row("a dict of each part's state dict", saved(apart)),
    Row(
        "Lightning's `.ckpt`, with criterion and metrics",
        saved(lambda a, b: lightning(with_criterion(a))),
        entries={
            "taken": "state_dict",
            "dropped": "model.",
            "left": "criterion.weight, val_acc.tp",
            "unread": "checkpoint_rows.Attributes",
        },
        file="last.ckpt",
    ),
    Row(
        "Lightning's, where the module is the network",
        saved(lambda a, b: lightning({**a, "criterion.weight": torch.ones(10)})),
        entries={"taken": "state_dict", "left": "criterion.weight", "unread": "checkpoint_rows.Attributes"},
        file="last.ckpt",
    ),
    Row(
        "Lightning's, with averaged weights beside",
        saved(lambda a, b: lightning(averaging(a, b))),
        entries={
            "taken": "state_dict",
            **BOTH,
            "beside": "state_dict/model",
            "dropped": "ema_model.module.",
            "left": "ema_model.n_averaged",
            "unread": "checkpoint_rows.Attributes",
        },
        second=True,
        file="last.ckpt",
    ),
    Row(
        "Lightning's, with averaged weights beside",
        saved(lambda a, b: lightning(averaging(a, b))),
        entries={
            "taken": "state_dict",
            "weights": "ordinary",
            "beside": "state_dict/ema_model.module",
            "dropped": "model.",
            "left": "ema_model.n_averaged",
            "unread": "checkpoint_rows.Attributes",
        },
        which="model",
        file="last.ckpt",
    ),
    Row(
        "Lightning's `WeightAveraging`, which moves the ordinary weights",
        saved(lambda a, b: lightning(under("net.", b)) | {"current_model_state": under("net.", a), "averaging_state": {}}),
        entries={
            "taken": "state_dict",
            **BOTH,
            "beside": "current_model_state/net",
            "dropped": "net.",
            "unread": "checkpoint_rows.Attributes",
        },
        second=True,
        file="last.ckpt",
    ),
    Row(
        "timm's training checkpoint",
        timm_training,
        entries={"taken": "state_dict_ema", **BOTH, "beside": "state_dict"},
        second=True,
    ),
    Row(
        "timm's training checkpoint",
        timm_training,
        entries={"taken": "state_dict", "weights": "ordinary", "beside": "state_dict_ema"},
        which="model",
    ),
    Row(
        "torchvision's training checkpoint",
        saved(torchvision_training),
        entries={
            "taken": "model_ema",
            **BOTH,
            "beside": "model",
            "dropped": "module.",
            "left": "n_averaged",
        },
        second=True,
    ),
    Row(
        "torchvision's training checkpoint",
        saved(torchvision_training),
        entries={"taken": "model", "weights": "ordinary"},
        which="model",
    ),
    Row(
        "`AveragedModel`, of torch (SWA or EMA)",
        wrapped(AveragedModel),
        entries={**BOTH, "dropped": "module.", "left": "n_averaged"},
    ),
    Row(
        "`params` and `params_ema`, of BasicSR",
        saved(lambda a, b: {"params": a, "params_ema": b}),
        entries={"taken": "params_ema", **BOTH},
        second=True,
    ),
    Row(
        "`ema` with its own `state_dict`",
        saved(lambda a, b: {"model": a, "ema": {"decay": 0.999, "state_dict": b}}),
        entries={"taken": "ema/state_dict", **BOTH},
        second=True,
    ),
    Row(
        "`student` and `teacher`",
        saved(lambda a, b: {"student": a, "teacher": b}),
        entries={"taken": "teacher"},
        second=True,
        which="teacher",
    ),
    Row("values of Python and numpy beside", saved(values), entries={"taken": "model"}),
    Row(
        "a config of one's own class beside",
        saved(lambda a, b: {"model": a, "config": Config()}),
        entries={"taken": "model", "unread": "checkpoint_rows.Attributes, checkpoint_rows.Config, checkpoint_rows.Mode"},
    ),
    Row("objects of torch beside: optimizer, schedule, loss", saved(objects), entries={"taken": "model"}),
]
