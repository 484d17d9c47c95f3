"""CPython 3.13.5 as a test subject for Ame: fetch, build, test, measure. See ../README.md."""
