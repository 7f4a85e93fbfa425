"""The methods, one file each, one line each in the table."""

from datafree.method import Method
from datafree.methods.dfad import DFAD
from datafree.methods.stored import Stored

METHODS: dict[str, type[Method]] = {
    "dfad": DFAD,
    "stored": Stored,
}
