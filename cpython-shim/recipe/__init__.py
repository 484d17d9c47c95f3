"""CPython 3.13.5 from Debian's source package, compiled by one of several compilers, in a cache.

The one recipe behind `ame python` (../build) and bench/cpython.
"""
