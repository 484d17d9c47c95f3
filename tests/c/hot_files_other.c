void twice(long *value) { *value *= 2; }
