"""The experiments of `datafree reproduce`: a teacher, a student, a recipe and data, with the number that a paper reports."""

from dataclasses import dataclass, replace
from functools import partial


@dataclass(frozen=True)
class Published:
    """The number that a paper reports, in percent."""

    value: float | None  # None: no number is published
    kind: str  # which of the run's numbers it is: of the best epoch, as reported, or of another method
    source: str


@dataclass(frozen=True)
class Experiment:
    """One row of the table of results; flags are those of the command line."""

    recipe: str
    task: str
    data: str  # FOLDER/{data}_train.npz and {data}_test.npz
    teacher: str
    student: str
    teach: str  # flags of `datafree teach`
    paper: Published
    distil: str = ""  # flags of `datafree distill` that change the recipe
    baseline: str = ""  # flags of `datafree distill` in both baselines, on real data and on noise
    real: str = ""  # further flags of the baseline on real data
    noise_images: int = 60_000
    label: str = ""  # name of the method in the table, if it is not that of the recipe


_DFAD = "Fang et al. 2019, arXiv 1912.11006, authors' README"
_STTSS = "Wang 2021, arXiv 2104.04868"
_DAFL_MNIST = Published(98.20, "best epoch", "Chen et al. 2019, arXiv 1904.01186")
_UNPUBLISHED = Published(None, "best epoch", "no number published")
_DFAD_MNIST = Published(98.3, "best epoch", _DFAD)
_LENET = "--inputs 1x32x32 --epochs 15 --weight-decay 3e-3"
_UNIT_PIXELS = "--inputs 1x32x32 --mean 0 --std 1 --epochs 15 --weight-decay 5e-4"  # inputs in [0, 1], as in ZSKD
_ALEXNET = "--mean 0 --std 1 --epochs 60 --lr 0.02 --schedule one-cycle --precision bf16"
_BF16 = "--precision bf16"
_on_resnets = partial(
    Experiment,
    teacher="resnet34",
    student="resnet18",
    teach="--epochs 100 --lr 0.1 --precision bf16",
    distil=_BF16,
    baseline=f"{_BF16} --plan.lr 0.1 --plan.weight-decay 5e-4 --plan.rounds 400",
    real="--method.look.augment.flip",
)
_CAMVID = Experiment(
    recipe="dfad-camvid-light",
    task="CamVid, 64 pixels, mIoU, each student sees 120,000 images, bf16",
    data="camvid128",
    teacher="compact-segmenter",
    student="compact-segmenter-half",
    teach="--inputs 3x64x64 --mean .5 .5 .5 --std .5 .5 .5 --epochs 120 --batch 16 --lr 0.1 --weight-decay 3e-3 "
    "--precision bf16",
    paper=Published(53.5, "best epoch, 128 pixels, DeepLabV3 ResNet-50 to MobileNetV2", _DFAD),
    distil=_BF16,
    baseline=f"{_BF16} --plan.rounds 75 --plan.batch 16 --plan.lr 0.1 --plan.weight-decay 5e-4 --plan.ema-decay 0.99",
    real="--method.look.augment.crop 8 --method.look.augment.flip",
    noise_images=4000,
)

EXPERIMENTS = {
    "dfad-mnist-light": Experiment("dfad-mnist-light", "MNIST", "mnist", "lenet5", "lenet5-half", _LENET, _DFAD_MNIST),
    # The effect of the teacher: the same student and recipe, with the usual weight decay for teachers of this size.
    "dfad-mnist-light-sharp-teacher": Experiment(
        recipe="dfad-mnist-light",
        task="MNIST, teacher's weight decay 5e-4",
        data="mnist",
        teacher="lenet5",
        student="lenet5-half",
        teach="--inputs 1x32x32 --epochs 15 --weight-decay 5e-4",
        paper=_DFAD_MNIST,
    ),
    "dfad-fashion-mnist": Experiment(
        "dfad-mnist-light", "Fashion-MNIST", "fashion_mnist", "lenet5", "lenet5-half", _LENET, _UNPUBLISHED
    ),
    "dfad-mnist": Experiment("dfad-mnist", "MNIST", "mnist", "lenet5", "lenet5-half", _LENET, _DFAD_MNIST),
    "dafl-mnist": Experiment("dafl-mnist", "MNIST", "mnist", "lenet5", "lenet5-half", _LENET, _DAFL_MNIST),
    "dafl-mnist-light": Experiment("dafl-mnist-light", "MNIST", "mnist", "lenet5", "lenet5-half", _LENET, _DAFL_MNIST),
    "dfad-cifar10": _on_resnets(
        recipe="dfad-cifar10", task="CIFAR-10", data="cifar10", paper=Published(93.3, "best epoch", _DFAD)
    ),
    "dfad-cifar100": _on_resnets(
        recipe="dfad-cifar100", task="CIFAR-100", data="cifar100", paper=Published(67.7, "best epoch", _DFAD)
    ),
    "dfad-camvid": Experiment(
        recipe="dfad-camvid",
        task="CamVid, 128 pixels, mIoU",
        data="camvid128",
        teacher="deeplabv3-resnet50",
        student="deeplabv3-mobilenetv2",
        teach="--mean .5 .5 .5 --std .5 .5 .5 --focal 2 --batch 16 --lr 0.1 --epochs 200 --precision bf16",
        paper=Published(53.5, "best epoch", _DFAD),
        distil=_BF16,
        baseline=_BF16,
        real="--method.look.augment.flip",
        noise_images=4000,
    ),
    "dfad-camvid-light": replace(_CAMVID, label="DFAD with batch-norm statistics"),
    # The effect of the statistics: the paper's loss without them, all else equal.
    "dfad-camvid-light-plain": replace(_CAMVID, distil=f"{_BF16} --method.statistics 0", label="DFAD"),
    # The effect of the gap: the statistics have so large a weight that the gap does not count.
    "dfad-camvid-light-statistics": replace(
        _CAMVID, distil=f"{_BF16} --method.statistics 1e6", label="DFAD's generator, held to the batch-norm statistics alone"
    ),
    "sttss-mnist-light": Experiment(
        recipe="sttss-mnist-light",
        task="MNIST",
        data="mnist",
        teacher="lenet5",
        student="lenet5-half-zskd",
        teach=_UNIT_PIXELS,
        paper=Published(99.08, "as reported", _STTSS),
    ),
    "sttss-fashion-mnist": Experiment(
        recipe="sttss-mnist-light",
        task="Fashion-MNIST",
        data="fashion_mnist",
        teacher="lenet5",
        student="lenet5-half-zskd",
        teach=_UNIT_PIXELS,
        paper=Published(79.62, "ZSKD", "Nayak et al. 2019, arXiv 1905.08114; none published for STTSS"),
    ),
    "sttss-cifar10-small": Experiment(
        recipe="sttss-cifar10",
        task="CIFAR-10, small: 4,000 images of 100 steps (full size: 40,000 of 1,500), each student sees 192,000, bf16",
        data="cifar10",
        teacher="alexnet",
        student="alexnet-half",
        teach="--mean 0 --std 1 --epochs 15 --lr 0.02 --schedule one-cycle --precision bf16",
        paper=Published(73.91, "as reported", _STTSS),
        distil="--precision bf16 --method.noise clouds --method.inversion.steps 100 --method.inversion.lr 0.03 "
        "--method.look.augment.jitter 0.5 "
        "--plan.pool-size 4000 --plan.warmup 40 --plan.synthesis-rounds 40 --plan.rounds 90 --plan.steps 60 --plan.batch 64",
        # As many images as the student of the recipe sees; with Adam, since SGD on noise became NaN.
        baseline="--precision bf16 --plan.rounds 15 --plan.optimizer adam --plan.lr 1e-3 --plan.weight-decay 0",
    ),
    "sttss-mnist": Experiment(
        "sttss-mnist", "MNIST", "mnist", "lenet5", "lenet5-half-zskd", _UNIT_PIXELS, Published(99.08, "as reported", _STTSS)
    ),
    "sttss-cifar10": Experiment(
        recipe="sttss-cifar10",
        task="CIFAR-10",
        data="cifar10",
        teacher="alexnet",
        student="alexnet-half",
        teach=_ALEXNET,
        paper=Published(73.91, "as reported", _STTSS),
        distil=_BF16,
        baseline=f"{_BF16} --plan.optimizer adam --plan.lr 1e-3 --plan.weight-decay 0",
    ),
    "deepinversion-cifar10": _on_resnets(
        recipe="deepinversion-cifar10",
        task="CIFAR-10",
        data="cifar10",
        paper=Published(93.26, "as reported", "Yin et al. 2020, arXiv 1912.08795"),
    ),
    "cmi-cifar10": _on_resnets(
        recipe="cmi-cifar10",
        task="CIFAR-10",
        data="cifar10",
        paper=Published(90.01, "as reported", "Fang et al. 2021, arXiv 2105.08584"),
        teacher="wrn-40-2",
        student="wrn-16-1",
    ),
}
