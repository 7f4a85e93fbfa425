"""Networks: the sizes the papers give, the shapes they promise, and the fused doubling against its two parts."""

import pytest
import torch
import torch.nn.functional as F
from plain import PlainUpsampleGenerator

from datafree.methods.common.generators import GENERATORS, Doubling
from datafree.networks.architectures.classifiers import CLASSIFIERS
from datafree.networks.saved.weights import parameters

# He et al. give 0.27M, 0.46M and 0.85M for ResNet-20/32/56; WRN's paper 0.6M for 40-1 and 2.2M for 40-2 (10 classes).
SIZES = {
    "lenet5": 61_706,
    "lenet5-half-zskd": 35_820,
    "resnet8": 75_290,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet56": 853_018,
    "wrn-16-1": 175_066,
    "wrn-16-2": 691_674,
    "wrn-40-1": 563_930,
    "wrn-40-2": 2_243_546,
    "resnet18": 11_173_962,
    "resnet34": 21_282_122,
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_answers_with_logits(name: str) -> None:
    channels = 1 if name.startswith("lenet") else 3
    network = CLASSIFIERS[name]((channels, 32, 32), 7).eval()
    assert network(torch.randn(2, channels, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", ["resnet8-gn", "vgg8-plain", "vit-mini"])
def test_networks_without_batch_norm_have_none_and_keep_the_signal(name: str) -> None:
    torch.manual_seed(0)
    network = CLASSIFIERS[name]((3, 32, 32), 7)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.modules())
    assert network(torch.randn(8, 3, 32, 32)).std(0).mean() > 0.01  # else nothing is learned for epochs
    assert parameters(CLASSIFIERS[name + "-half"]((3, 32, 32), 7)) < 0.35 * parameters(network)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_the_papers(name: str) -> None:
    channels = 1 if name.startswith("lenet") else 3
    assert parameters(CLASSIFIERS[name]((channels, 32, 32), 10)) == SIZES[name]


def test_half_of_lenet_has_half_the_units() -> None:
    half = CLASSIFIERS["lenet5-half"]((1, 32, 32), 10)
    assert [half.conv1.out_channels, half.conv2.out_channels, half.fc1.out_features, half.fc2.out_features] == [3, 8, 60, 42]


def test_half_of_alexnet_has_half_of_every_width() -> None:
    def widths(name: str) -> list[int]:
        layers = CLASSIFIERS[name]((3, 32, 32), 10).modules()
        return [layer.weight.shape[0] for layer in layers if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]

    assert widths("alexnet") == [48, 128, 192, 192, 128, 512, 256, 10]
    assert widths("alexnet-half") == [24, 64, 96, 96, 64, 256, 128, 10]


def test_sizes_that_networks_refuse_are_told() -> None:
    with pytest.raises(ValueError, match="takes 32x32 inputs, not 28x28"):
        CLASSIFIERS["lenet5"]((1, 28, 28), 10)
    with pytest.raises(ValueError, match="at least 16 pixels"):
        CLASSIFIERS["vgg11"]((3, 8, 8), 10)
    with pytest.raises(ValueError, match="multiples of 4, not 30x30"):
        CLASSIFIERS["vit-mini"]((3, 30, 30), 10)


@pytest.mark.parametrize(
    ("name", "size"), [("upsample", (12, 20)), ("upsample", (32, 32)), ("upsample-affine", (8, 12)), ("dcgan", (32, 48))]
)
def test_generators_make_any_fitting_size(name: str, size: tuple[int, int]) -> None:
    generator = GENERATORS[name]((3, *size), 10, 8)
    assert generator(torch.randn(4, 10)).shape == (4, 3, *size)


@pytest.mark.parametrize(("name", "side"), [("upsample", 30), ("dcgan", 24)])
def test_generators_refuse_other_sizes_in_words(name: str, side: int) -> None:
    with pytest.raises(ValueError, match=f"{side}x{side} must be multiples of"):
        GENERATORS[name]((3, side, side), 10, 8)


def test_the_affine_generator_learns_mean_and_scale_and_is_not_bounded() -> None:
    plain, affine = (GENERATORS[name]((1, 8, 8), 10, 8) for name in ("upsample", "upsample-affine"))
    assert [type(layer) for layer in affine.layers[:-1]] == [type(layer) for layer in plain.layers[:-2]]
    with torch.no_grad():
        affine.layers[-1].weight.fill_(5.0)
        affine.layers[-1].bias.fill_(3.0)
    x = affine(torch.randn(64, 10))
    assert x.mean().item() == pytest.approx(3.0, abs=1e-4)
    assert x.std().item() == pytest.approx(5.0, rel=1e-2)


def test_dcgan_starts_from_the_papers_initialisation() -> None:
    generator = GENERATORS["dcgan"]((3, 32, 32), 64, 64)
    for layer in generator.modules():
        if isinstance(layer, torch.nn.ConvTranspose2d):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert layer.bias is None


def test_doubling_is_nearest_upsampling_and_convolution_in_value_and_gradient() -> None:
    layer = Doubling(5, 3).double()
    x = torch.randn(2, 5, 6, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, 12, 8, dtype=torch.float64)
    fused = layer(x)
    apart = F.conv2d(F.interpolate(x, scale_factor=2), layer.weight, layer.bias, padding=1)
    assert torch.allclose(fused, apart, atol=1e-12)
    wanted = (x, layer.weight, layer.bias)
    for one, two in zip(
        torch.autograd.grad((fused * weight).sum(), wanted), torch.autograd.grad((apart * weight).sum(), wanted), strict=True
    ):
        assert torch.allclose(one, two, atol=1e-10)


def test_our_generator_is_the_plain_one() -> None:
    ours, plain = GENERATORS["upsample"]((3, 32, 32), 20, 16).double(), PlainUpsampleGenerator((3, 32, 32), 20, 16).double()
    plain.load_state_dict(dict(zip(plain.state_dict(), ours.state_dict().values(), strict=True)))
    z = torch.randn(6, 20, dtype=torch.float64)
    assert torch.allclose(ours(z), plain(z), atol=1e-9)
