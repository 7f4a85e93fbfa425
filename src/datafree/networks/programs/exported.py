"""Programs of `torch.export`: what their JSON says, as a `Graph`."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datafree.core.settings import first_line
from datafree.networks.programs.archive import SCALAR_TYPES, Archive
from datafree.networks.programs.graph import Argument, Graph, Named, Node, Value, Weight, check
from datafree.networks.programs.operators import CHECKS, DROPOUT, DTYPES, MEMORY_FORMATS, SCALARS, Unknown, operator_of

_ATEN, _SIZES = "torch.ops.aten.", ("_operator.", "math.", "torch.")
_NAMES = {kind: name for name, kind in DTYPES.items()}
_FORMATS = {1: "contiguous_format", 2: "channels_last", 3: "channels_last_3d", 4: "preserve_format"}
_NUMBERS = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}
_COUNTER = "num_batches_tracked"  # which a network that was exported in train mode counts on


def read_exported(path: Path) -> tuple[Graph, dict[str, Tensor], int | None]:
    """The graph and the weights of a file that `torch.export.save` wrote, and its number of images if that is fixed.

    Nothing in the file is run. Raises `ValueError`, a sentence's middle, for a file of another kind, an operator that is not
    served, and a program of several inputs.
    """
    archive = Archive(path)
    try:
        return _Reader(archive.graph, archive.weights).read()
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"has a graph of another form than torch writes ({reason[:120]}); export the network again") from error


class _Reader:
    """Reads one program; knows what each name in it stands for."""

    def __init__(self, program: Any, weights: dict[str, Tensor]):
        self.module = program["graph_module"]
        self.graph = self.module["graph"]
        self.weights = weights
        self.known: dict[str, Argument] = {}  # what the name of a tensor or a size stands for
        self.nodes: list[Node] = []
        self.made = 1
        self.buffers: set[str] = set()

    def read(self) -> tuple[Graph, dict[str, Tensor], int | None]:
        images, shape = self._inputs()
        for node in self.graph["nodes"]:
            self._node(node)
        outputs, names = self._outputs()
        graph = Graph(shape, tuple(self.nodes), outputs, names, frozenset(self.buffers))
        check(graph)
        if missing := [name for name in graph.weights() if name not in self.weights]:
            raise ValueError(f"lacks {len(missing)} of its weights, {missing[0][:80]!r} first; export it again")
        return graph, self.weights, images

    def _inputs(self) -> tuple[int | None, tuple[int, ...]]:
        """The fixed number of images, and the shape of one."""
        given: list[str] = []
        for spec in self.module["signature"]["input_specs"]:
            ((kind, described),) = spec.items()
            if kind == "user_input" and "as_tensor" in described["arg"]:
                given.append(described["arg"]["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                name = described[f"{kind}_name"]
                self.known[described["arg"]["name"]] = Weight(name)
                if kind != "parameter":
                    self.buffers.add(name)
            elif kind == "constant_input" and "as_none" in described["value"]:
                continue
            else:
                raise ValueError(
                    f"takes an input that is no tensor ({kind[:40]!r}); export a network that takes one batch of images"
                )
        if len(given) != 1:
            raise ValueError(f"takes {len(given)} tensors; export a network that takes one batch of images")
        self.known[given[0]] = Value(0)
        described = self.graph["tensor_values"][given[0]]
        if described["dtype"] != 7 or len(described["sizes"]) != 4:
            raise ValueError("takes no float32 tensor [B, C, H, W]; export a network that takes one batch of images")
        batch, *shape = described["sizes"]
        return batch.get("as_int"), tuple(_hinted(size) for size in shape)

    def _node(self, node: Any) -> None:
        target, outputs = node["target"], node["outputs"]
        name = _operator_name(target)
        base = name.partition(".")[0]
        if base in CHECKS:
            return
        arguments = [self._argument(each["arg"]) for each in node["inputs"]]
        names = [each["name"] for each in node["inputs"]]
        path = _path(node["metadata"].get("nn_module_stack", ""))
        if base.removesuffix("_") in DROPOUT or base == "native_dropout":
            return self._same(outputs, arguments[0])
        if base.endswith("_") and not base.startswith("_") and isinstance(arguments[0], Weight):
            if arguments[0].name.endswith(_COUNTER):
                return self._same(outputs, arguments[0])
            raise ValueError(f"changes its own buffer {arguments[0].name!r}; export the network in eval mode, model.eval()")
        function = operator_of_exported(name)
        positional, options = _by_schema(function, names, arguments)
        tensors = [one["name"] for each in outputs for one in _tensors(each)]
        self.nodes.append(Node(name, positional, options, len(tensors), path))
        for each in tensors:
            self.known[each] = Value(self.made)
            self.made += 1
        return None

    def _same(self, outputs: Any, argument: Argument) -> None:
        """Let the first output be `argument`."""
        for each in outputs[:1]:
            for one in _tensors(each):
                self.known[one["name"]] = argument

    def _argument(self, written: Any) -> Argument:
        ((kind, value),) = written.items()
        match kind:
            case "as_none":
                return None
            case "as_tensor" | "as_sym_int" | "as_sym_float" | "as_sym_bool" | "as_optional_tensor":
                return self._named(value)
            case "as_tensors" | "as_sym_ints" | "as_sym_floats" | "as_sym_bools" | "as_optional_tensors":
                return tuple(self._named(each) for each in value)
            case "as_int" | "as_bool" | "as_string":
                return value  # type: ignore[no-any-return]
            case "as_float":
                return _number(value)
            case "as_ints" | "as_bools":
                return tuple(value)
            case "as_floats":
                return tuple(_number(each) for each in value)
            case "as_scalar_type" if value in SCALAR_TYPES:
                return Named("dtype", _NAMES[SCALAR_TYPES[value]])
            case "as_memory_format" if value in _FORMATS and _FORMATS[value] in MEMORY_FORMATS:
                return Named("memory_format", _FORMATS[value])
            case "as_layout" if value == 7:
                return Named("layout", "strided")
            case "as_device":
                return Named("device", "input")
        raise ValueError(
            f"has an argument of a kind that is not served ({kind[:40]!r}); give the network's weights and architecture"
        )

    def _named(self, written: Any) -> Argument:
        if "name" in written:  # a tensor
            return self.known[written["name"]]
        ((kind, value),) = written.items()
        if kind == "as_none":
            return None
        if kind == "as_tensor":
            return self.known[value["name"]]
        return self.known[value] if kind == "as_name" else value  # type: ignore[no-any-return]

    def _outputs(self) -> tuple[tuple[Value, ...], tuple[str, ...]]:
        """The values that the network returns, and their names if it returns a mapping."""
        returned: list[Value] = []
        for spec in self.module["signature"]["output_specs"]:
            ((kind, described),) = spec.items()
            if kind == "user_output" and "as_tensor" in described["arg"]:
                value = self.known[described["arg"]["as_tensor"]["name"]]
                if isinstance(value, Value):
                    returned.append(value)
        structure = self.module["module_call_graph"][0]["signature"]["out_spec"]
        return tuple(returned), _output_names(structure, len(returned))


def operator_of_exported(name: str) -> Any:
    """The function of an operator. Raises `ValueError`, a sentence's middle, if it is not served."""
    try:
        return operator_of(name)
    except Unknown as error:
        raise ValueError(
            f"uses the operator {name[:80]!r}, which is not among those that are served; give the network's weights and "
            "architecture instead"
        ) from error


def _operator_name(target: str) -> str:
    """`conv2d.default` for `torch.ops.aten.conv2d.default`, `scalar.mul` for `_operator.mul`; others as they are."""
    if target.startswith(_ATEN):
        base, _, overload = target.removeprefix(_ATEN).partition(".")
        return f"scalar.{base}" if base in ("sym_size", "sym_numel") else f"{base}.{overload}"
    last = target.rpartition(".")[2]
    return f"scalar.{last}" if target.startswith(_SIZES) and last in SCALARS else target


def _by_schema(function: Any, names: list[str], arguments: list[Argument]) -> tuple[tuple[Argument, ...], tuple[Any, ...]]:
    """The positional arguments, those that are left out before the last one by their defaults, and the options by name."""
    schema = getattr(function, "_schema", None)
    if schema is None:
        return tuple(arguments), ()
    given = dict(zip(names, arguments, strict=True))
    places = [each for each in schema.arguments if not each.kwarg_only]
    last = max((i for i, each in enumerate(places) if each.name in given), default=-1)
    positional = tuple(given[each.name] if each.name in given else _default(each.default_value) for each in places[: last + 1])
    options = tuple((each.name, given[each.name]) for each in schema.arguments if each.kwarg_only and each.name in given)
    if len(positional) + len(options) < len(given):
        raise ValueError(f"gives {schema.name.partition('::')[2]} an argument that it has not; export the network again")
    return positional, options


def _default(value: Any) -> Argument:
    if isinstance(value, torch.dtype):
        return Named("dtype", _NAMES[value])
    return tuple(value) if isinstance(value, list) else value


def _tensors(output: Any) -> list[Any]:
    """The named values in one output of a node."""
    ((kind, value),) = output.items()
    if kind in ("as_tensor", "as_optional_tensor"):
        return [value] if "name" in value else [value["as_tensor"]]
    if kind == "as_tensors":
        return list(value)
    if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
        return [{"name": value["as_name"]}]
    if kind == "as_none":
        return []
    raise ValueError(
        f"has an operator that makes values of a kind that is not served ({kind[:40]!r}); export the network again"
    )


def _number(value: Any) -> float:
    return _NUMBERS[value] if isinstance(value, str) else float(value)


def _hinted(size: Any) -> int:
    """The size of a dimension, if it is not fixed that of the example by which the network was exported."""
    if "as_int" in size:
        return int(size["as_int"])
    hint = size["as_expr"].get("hint") or {}
    if "as_int" not in hint:
        raise ValueError(
            "takes images of any size, and does not say of which it was exported; export it for images of one size"
        )
    return int(hint["as_int"])


def _path(stack: str) -> str:
    """The module that a node belongs to, by the last entry of torch's list: `L__self___layer1,layer1,torch.nn...;...`."""
    parts = stack.rpartition(";")[2].split(",")
    return parts[1].partition("@")[0] if len(parts) >= 3 else ""


def _output_names(structure: str, count: int) -> tuple[str, ...]:
    """The keys of a mapping that the network returns; none if it returns a tensor or a tuple."""
    (_, described) = json.loads(structure)
    keys = json.loads(described["context"]) if isinstance(described.get("context"), str) else None
    if isinstance(keys, dict):
        keys = next((value for value in keys.values() if isinstance(value, list)), None)
    if isinstance(keys, list) and len(keys) == count and all(isinstance(key, str) for key in keys):
        return tuple(keys)
    return ()
