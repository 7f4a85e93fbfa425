"""Scikit-learn's real handwritten digits, the one labelled set that is at hand everywhere."""

import importlib

import numpy as np
import torch

from datafree.data.labelled import Labelled


def digits() -> tuple[Labelled, Labelled]:
    """Scikit-learn's 1,797 handwritten digits, 8x8, as (train, held out), every fifth held out.

    Raises `ValueError` where scikit-learn is not installed.
    """
    try:
        sets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise ValueError("scikit-learn is not installed; pip install 'datafree[demo]'.") from error
    raw = sets.load_digits()
    pixels = torch.from_numpy((raw.images * (255 / 16)).round().astype(np.uint8))[:, None]
    labels = torch.from_numpy(raw.target.astype(np.int64))
    held = torch.arange(len(labels)) % 5 == 0
    name = "scikit-learn digits"
    return (
        Labelled(pixels[~held], labels[~held], 10, f"{name}, taught on"),
        Labelled(pixels[held], labels[held], 10, f"{name}, held out"),
    )
