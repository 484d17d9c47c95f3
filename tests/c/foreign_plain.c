/* The part of foreign.c that the plugin never sees. */
long foreign_pair[2];
long foreign_calls;

void foreign_bump(void)
{
    foreign_pair[0]++;
    for (volatile int i = 0; i < 200; i++)
        ;
    foreign_pair[1]++;
    foreign_calls++;
}

long foreign_apply(long (*fn)(long), long value)
{
    foreign_pair[0]++;
    long result = fn(value);
    foreign_pair[1]++;
    return result;
}
