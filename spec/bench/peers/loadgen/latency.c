/* spec/bench/peers/loadgen/latency.c - a histogram of latencies, exact to 1 in 64: no memory grows with the run; but for those
 * who want every single one. */
#include <stdio.h>

#include "loadgen.h"

enum { STEPS = 64, BUCKETS = STEPS * 40 };

static uint64_t histogram[BUCKETS], total, highest_ns;

static size_t bucket_of(uint64_t ns)
{
    if (ns < STEPS)
        return (size_t)ns;
    int power = 63 - __builtin_clzll(ns);
    size_t bucket = (size_t)(power - 5) * STEPS + (size_t)((ns >> (power - 6)) & (STEPS - 1));
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static double value_of(size_t bucket)
{
    if (bucket < STEPS)
        return (double)bucket;
    return (double)((uint64_t)(STEPS + bucket % STEPS) << (bucket / STEPS - 1));
}

void latency_add(uint64_t ns)
{
    histogram[bucket_of(ns)]++;
    total++;
    if (ns > highest_ns)
        highest_ns = ns;
}

double latency_us(double share)
{
    uint64_t seen = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (seen > 0 && (double)seen >= (double)total * share)
            return value_of(i) / 1000;
    }
    return 0;
}

double latency_max_us(void)
{
    return (double)highest_ns / 1000;
}

static struct buffer samples;

void sample_add(uint64_t due, uint64_t sent, uint64_t answered)
{
    char line[80];
    int size = snprintf(line, sizeof line, "%llu %llu %llu\n", (unsigned long long)due / 1000,
                        (unsigned long long)sent / 1000, (unsigned long long)answered / 1000);
    buffer_append(&samples, line, (size_t)size);
}

/* After the run: nothing is written to a disk while it is measured. */
bool samples_save(void)
{
    if (options.samples == NULL)
        return true;
    FILE *file = fopen(options.samples, "wb");
    bool done = file != NULL && fwrite(samples.data, 1, samples.size, file) == samples.size;
    done = file != NULL && fclose(file) == 0 && done;
    if (!done)
        fprintf(stderr, "loadgen: %s cannot be written\n", options.samples);
    return done;
}
