"""Methods that another method can be wrapped around."""

from typing import Annotated

from pydantic import Field

from datafree.methods.cmi import CMI
from datafree.methods.csd import CSD
from datafree.methods.dafl import DAFL
from datafree.methods.deepinversion import DeepInversion
from datafree.methods.dfad import DFAD
from datafree.methods.dfq import DFQ
from datafree.methods.fast import Fast
from datafree.methods.nayer import NAYER
from datafree.methods.procedural import Procedural
from datafree.methods.stored import Stored
from datafree.methods.sttss import STTSS
from datafree.methods.zskt import ZSKT

Host = Annotated[
    CMI | CSD | DAFL | DeepInversion | DFAD | DFQ | Fast | NAYER | Procedural | Stored | STTSS | ZSKT,
    Field(discriminator="name"),
]
