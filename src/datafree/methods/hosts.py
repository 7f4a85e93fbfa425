"""Methods that another method can be wrapped around."""

from typing import Annotated

from pydantic import Field

from datafree.methods.cmi import CMI
from datafree.methods.csd import CSD
from datafree.methods.deepinversion import DeepInversion
from datafree.methods.dfad import DFAD
from datafree.methods.procedural import Procedural
from datafree.methods.stored import Stored
from datafree.methods.sttss import STTSS

Host = Annotated[CMI | CSD | DeepInversion | DFAD | Procedural | Stored | STTSS, Field(discriminator="name")]
