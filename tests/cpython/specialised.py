"""A transaction that is rolled back does not cost instructions their specialisation: ame python run tests/cpython/specialised.py

Was broken: a transaction remembered 256 instructions that it had specialised, and after its rollback each had to be
executed some 3,000 times before it was tried again.
"""

import dis
import os
import sys

FUNCTIONS, ROUNDS = 1000, 5


def general():
    """Functions that are executed twice, as often as it takes: how many are not specialised then."""
    functions = [eval("lambda: x", {"x": None}) for _ in range(FUNCTIONS)]
    for _ in range(2):
        for function in functions:
            function()
    return sum("LOAD_GLOBAL_MODULE" not in {step.opname for step in dis.get_instructions(function, adaptive=True)}
               for function in functions)


def main():
    if os.environ.get("AME_ALWAYS") != "1":
        os.execve(sys.executable, [sys.executable, *sys.argv],
                  dict(os.environ, AME_ALWAYS="1", AME_CHAOS="1,0.001"))
    left = [general() for _ in range(ROUNDS)]
    failed = sum(n != 0 for n in left)
    print(f"specialised: of {FUNCTIONS} functions not: {left}; {ROUNDS - failed} passed, {failed} failed")
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())
