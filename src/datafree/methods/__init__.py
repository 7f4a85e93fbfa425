"""The data-free methods, one file each."""

from datafree.engine.method import Method
from datafree.methods.blend import Blend
from datafree.methods.cmi import CMI
from datafree.methods.csd import CSD
from datafree.methods.dafl import DAFL
from datafree.methods.dda import DDA
from datafree.methods.deepinversion import DeepInversion
from datafree.methods.dfad import DFAD
from datafree.methods.dfq import DFQ
from datafree.methods.fast import Fast
from datafree.methods.nayer import NAYER
from datafree.methods.procedural import Procedural
from datafree.methods.stored import Stored
from datafree.methods.sttss import STTSS
from datafree.methods.zskt import ZSKT

METHODS: dict[str, type[Method]] = {
    "blend": Blend,
    "cmi": CMI,
    "csd": CSD,
    "dafl": DAFL,
    "dda": DDA,
    "deepinversion": DeepInversion,
    "dfad": DFAD,
    "dfq": DFQ,
    "fast": Fast,
    "nayer": NAYER,
    "procedural": Procedural,
    "stored": Stored,
    "sttss": STTSS,
    "zskt": ZSKT,
}
