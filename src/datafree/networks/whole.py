"""Networks from any file: a network file, or a whole network without code in another's format."""

from collections.abc import Collection, Sequence
from pathlib import Path

from pydantic import ValidationError

from datafree.core.settings import explain
from datafree.core.spec import InputSpec
from datafree.networks.building.work import refuse_costly
from datafree.networks.folders import is_folder, load_folder
from datafree.networks.network import Card, Network
from datafree.networks.network import load as load_file
from datafree.networks.outputs import TASKS, probe, refuse_bound
from datafree.networks.programs.files import kind_of, read_network
from datafree.networks.saved.weights import existing_file

_PIXELS = "given as pixels in [0, 1]; if it was trained on others, make a file with --mean and --std by `datafree pack`"


def load(path: str | Path, allow_code: Collection[str] = (), inputs: InputSpec | None = None) -> Network:
    """Read a network file, a whole network without code, or a folder.

    Args:
        path: file written by `Network.save` or `datafree pack`, a program that `torch.export.save` wrote, ONNX or
            TorchScript; or a folder of transformers or timm, or `hf-hub:OWNER/NAME`.
        allow_code: packages whose code may be imported and called to build the network; this package and timm need not be
            named. A file of TorchScript, which is code, by its path.
        inputs: shape and scaling of one input of a whole network; None: the shape that its file says, and pixels in [0, 1].

    Returns:
        The network, on the CPU, in eval mode.

    Raises:
        ValueError: the file does not exist, has no valid card or weights that do not fit it, cannot be served, or needs code
            that is not in `allow_code`.
    """
    if is_folder(path):
        return load_folder(path, inputs, allow_code)
    kind = kind_of(existing_file(path))
    if not kind:
        return load_file(path, allow_code)
    return load_whole(path, kind, allow_code, inputs)


def load_whole(
    path: str | Path,
    kind: str,
    allow_code: Collection[str] = (),
    inputs: InputSpec | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Network:
    """The network in a file of this kind, as `kind_of` names it, with a card; `mean` and `std` are those of a shape that the
    file says. Raises as `load` does.
    """
    found = read_network(Path(path), kind, allow_code, inputs.shape if inputs else None)
    notes = [*found.notes]
    name = f"{kind} in {path}"
    try:
        if inputs is None:
            inputs = InputSpec.model_validate({"shape": found.shape, "mean": mean or (0.0,), "std": std or (1.0,)})
            why = "the only usual square size that fits" if found.probed else "as its file says"
            notes.append(f"inputs of {inputs}, {why}" + ("" if mean or std else f", {_PIXELS}"))
        refuse_costly(name, found.module, inputs, small=0)
        logits = probe(name, found.module, inputs)
        if found.images is not None:
            refuse_bound(found.module, inputs, name)
        history = ({"event": "read", "from": Path(path).name, "kind": kind},)
        task = TASKS[logits.dim()]
        card = Card(architecture=found.architecture, classes=logits.shape[1], task=task, inputs=inputs, history=history)
    except ValidationError as error:
        raise ValueError(f"The {name} is not of a shape that is served: {explain(error)}") from error
    return Network(found.module, card, tuple(notes))
