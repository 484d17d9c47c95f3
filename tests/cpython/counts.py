"""Reference counts: ame python run tests/cpython/counts.py

Names of cases as arguments run only these, in this process.
"""

import ctypes
import sys

import cases

SECONDS = 30
IMMORTAL = 0xffffffff


def carried():
    """An extension that was compiled for a Python before 3.12 adds to all 64 bits, also where an object is immortal. It is
    mortal then, and lives on (Include/object.h)."""
    class Field(ctypes.Structure):
        _fields_ = [("count", ctypes.c_uint64)]

    for named in ValueError, sys.float_info, "a string".__class__:
        field = Field.from_address(id(named))
        before = field.count
        field.count = IMMORTAL + 1
        for _ in range(3):
            holders = [named for _ in range(10)]
            for i in range(10):
                holders.pop()
        assert field.count >= IMMORTAL, hex(field.count)
        field.count = before


CASES = [carried]

if __name__ == "__main__":
    sys.exit(cases.main(CASES, SECONDS, {"AME_ALWAYS": "0"}, {"AME_ALWAYS": "1"}))
