"""The operators that a program may use: those of ordinary networks, none of which reads a file or takes code."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Each with its overloads and its form that works in place. None draws random numbers or reads memory beyond a tensor's own.
_COMPUTING = """
conv1d conv2d conv3d convolution _convolution conv_transpose1d conv_transpose2d linear addmm mm bmm matmul baddbmm einsum dot
mv t batch_norm _native_batch_norm_legit_no_training native_batch_norm layer_norm native_layer_norm group_norm
native_group_norm instance_norm rms_norm local_response_norm max_pool1d max_pool2d max_pool2d_with_indices avg_pool1d
avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d relu relu6 leaky_relu prelu
_prelu_kernel elu celu selu gelu silu mish sigmoid tanh softplus softsign hardtanh hardsigmoid hardswish hardshrink softshrink
logsigmoid log_sigmoid glu threshold softmax _softmax log_softmax _log_softmax add sub rsub mul div true_divide floor_divide
remainder fmod neg abs exp expm1 log log1p log2 sqrt rsqrt square pow reciprocal sign sin cos erf floor ceil round trunc clamp
clamp_min clamp_max minimum maximum addcmul addcdiv lerp mean sum prod amax amin max min argmax argmin var std var_mean
std_mean norm linalg_vector_norm logsumexp cumsum all any eq ne lt le gt ge logical_and logical_or logical_not logical_xor
bitwise_and bitwise_or bitwise_not where isnan isinf masked_fill fill zero view reshape _unsafe_view flatten unflatten permute
transpose swapaxes swapdims movedim squeeze unsqueeze expand expand_as broadcast_to view_as reshape_as contiguous clone alias
detach lift_fresh_copy to _to_copy type_as float half double bool int long cat concat concatenate stack hstack vstack split
split_with_sizes chunk tensor_split unbind select narrow slice index index_select gather take_along_dim embedding roll flip
repeat repeat_interleave tile pad constant_pad_nd reflection_pad2d replication_pad2d pixel_shuffle pixel_unshuffle
channel_shuffle unfold im2col col2im tril triu diagonal meshgrid copy upsample_nearest1d upsample_nearest2d
_upsample_nearest_exact2d upsample_bilinear2d _upsample_bilinear2d_aa upsample_bicubic2d _upsample_bicubic2d_aa
upsample_linear1d grid_sampler grid_sampler_2d affine_grid_generator scaled_dot_product_attention zeros_like ones_like
full_like new_zeros new_ones new_full
""".split()
FACTORIES = frozenset("zeros ones full empty arange linspace eye scalar_tensor".split())  # make tensors of no other
OPERATORS = FACTORIES.union(_COMPUTING)
DROPOUT = frozenset("dropout feature_dropout alpha_dropout feature_alpha_dropout".split())  # as in eval mode: the identity
CHECKS = frozenset(
    "_assert_tensor_metadata _assert_async _assert_scalar sym_constrain_range_for_size sym_constrain_range".split()
)
MOST = 2**40  # of a number that a program computes with, as the size of a tensor

DTYPES = {
    str(kind).removeprefix("torch."): kind
    for kind in (
        torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64, torch.bool,
        torch.bfloat16,
    )
}  # fmt: skip
MEMORY_FORMATS = {
    str(each).removeprefix("torch."): each
    for each in (torch.contiguous_format, torch.channels_last, torch.preserve_format, torch.channels_last_3d)
}


def _bounded(compute: Callable[..., Any]) -> Callable[..., Any]:
    """`compute` of whole numbers, which may not grow without end."""

    def computed(*numbers: Any) -> Any:
        if any(isinstance(each, int | float) and not abs(each) <= MOST for each in numbers):
            raise ValueError(f"it computes with a number beyond {MOST:,}")
        return compute(*numbers)

    return computed


# Arithmetic with the sizes of tensors, in the names of an exported graph.
_ABOUT_TENSORS: dict[str, Callable[..., Any]] = {
    "sym_size": lambda x, dim: x.shape[dim],
    "sym_numel": lambda x: x.numel(),
}
SCALARS = _ABOUT_TENSORS | {
    name: _bounded(getattr(operator, name))
    for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge")
}


class Unknown(ValueError):
    """A program uses an operator that is not served; the message is its name."""


def operator_of(name: str) -> Callable[..., Any]:
    """The function of an operator, as `conv2d.default`, or of arithmetic with sizes, as `scalar.mul`.

    Raises `Unknown` for any other name.
    """
    base, _, overload = name.partition(".")
    if base == "scalar" and overload in SCALARS:
        return SCALARS[overload]
    if base in OPERATORS or (base.endswith("_") and base.removesuffix("_") in OPERATORS):
        packet = getattr(torch.ops.aten, base, None)
        if packet is not None and overload in packet.overloads():
            found = getattr(packet, overload)
            if not any(argument.is_out or "Dimname" in str(argument.type) for argument in found._schema.arguments):
                return found  # type: ignore[no-any-return]
    raise Unknown(name)


def makes_several(function: Callable[..., Any]) -> bool:
    """Whether an operator returns a list or a tuple of tensors."""
    schema = getattr(function, "_schema", None)
    return schema is not None and (len(schema.returns) > 1 or str(schema.returns[0].type).startswith("List"))


def bytes_of(value: object) -> int:
    """Bytes of a tensor, by its size; views count as if they had their own."""
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0
