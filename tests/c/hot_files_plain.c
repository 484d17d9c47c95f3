long thrice(long value) { return 3 * value; }
