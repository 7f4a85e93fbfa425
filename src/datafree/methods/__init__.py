"""The data-free methods, one file each."""

from datafree.engine.method import Method
from datafree.methods.cmi import CMI
from datafree.methods.csd import CSD
from datafree.methods.dda import DDA
from datafree.methods.deepinversion import DeepInversion
from datafree.methods.dfad import DFAD
from datafree.methods.stored import Stored
from datafree.methods.sttss import STTSS

METHODS: dict[str, type[Method]] = {
    "cmi": CMI,
    "csd": CSD,
    "dda": DDA,
    "deepinversion": DeepInversion,
    "dfad": DFAD,
    "stored": Stored,
    "sttss": STTSS,
}
