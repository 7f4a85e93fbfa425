"""The methods, one file each, one line each in the table."""

from datafree.engine.method import Method
from datafree.methods.blend import Blend
from datafree.methods.cmi import CMI
from datafree.methods.csd import CSD
from datafree.methods.dda import DDA
from datafree.methods.deepinversion import DeepInversion
from datafree.methods.dfad import DFAD
from datafree.methods.procedural import Procedural
from datafree.methods.stored import Stored
from datafree.methods.sttss import STTSS

METHODS: dict[str, type[Method]] = {
    "blend": Blend,
    "cmi": CMI,
    "csd": CSD,
    "dda": DDA,
    "deepinversion": DeepInversion,
    "dfad": DFAD,
    "procedural": Procedural,
    "stored": Stored,
    "sttss": STTSS,
}
