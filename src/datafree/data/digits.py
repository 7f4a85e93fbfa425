"""Scikit-learn's handwritten digits, a real labelled set that needs no download."""

import importlib

import numpy as np
import torch

from datafree.data.labelled import Labelled


def digits() -> tuple[Labelled, Labelled]:
    """Scikit-learn's 1,797 handwritten digits, 8x8 pixels, as (training set, test set); every fifth is in the test set.

    Raises `ValueError` if scikit-learn is not installed.
    """
    try:
        sets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise ValueError("scikit-learn is not installed; pip install 'datafree[demo]'.") from error
    raw = sets.load_digits()
    pixels = torch.from_numpy((raw.images * (255 / 16)).round().astype(np.uint8))[:, None]
    labels = torch.from_numpy(raw.target.astype(np.int64))
    held_out = torch.arange(len(labels)) % 5 == 0
    name = "scikit-learn digits"
    return (
        Labelled(pixels[~held_out], labels[~held_out], 10, f"{name}, training set"),
        Labelled(pixels[held_out], labels[held_out], 10, f"{name}, held out"),
    )
