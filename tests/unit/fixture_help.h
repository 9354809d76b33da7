/* The number generators of the golden fixtures, as in tests/golden/generator.py, and of the probes. */
#ifndef WS2_TEST_FIXTURE_HELP_H
#define WS2_TEST_FIXTURE_HELP_H

#include <string.h>

#include "base/base.h"

static inline uint32_t generator_next(uint32_t *state)
{
    return *state = *state * 1664525u + 1013904223u;
}

/* One number of -1..1. */
static inline double generator_signed(uint32_t *state)
{
    return ((double)(generator_next(state) >> 8) / 16777216.0 - 0.5) * 2;
}

static inline void generator_values(const char *key, double *out, size_t count, double bound)
{
    uint32_t state = ws2_fnv1a(key, strlen(key));
    for (size_t i = 0; i < count; i++)
        out[i] = generator_signed(&state) * bound;
}

static inline void generator_floats(const char *key, float *out, size_t count, double bound)
{
    uint32_t state = ws2_fnv1a(key, strlen(key));
    for (size_t i = 0; i < count; i++)
        out[i] = (float)(generator_signed(&state) * bound);
}

/* u8 [count], the top byte of each state. */
static inline void generator_image(const char *key, uint8_t *out, size_t count)
{
    uint32_t state = ws2_fnv1a(key, strlen(key));
    for (size_t i = 0; i < count; i++)
        out[i] = (uint8_t)(generator_next(&state) >> 24);
}

/* The probes' fill rule: a hash of the key's hash and the element's number, 0..1. */
static inline double probe_uniform(uint32_t hash, uint32_t i)
{
    uint32_t x = hash + i * 0x9E3779B9u;
    x ^= x >> 16;
    x *= 0x85EBCA6Bu;
    x ^= x >> 13;
    x *= 0xC2B2AE35u;
    x ^= x >> 16;
    return (double)x / 4294967296.0;
}

#endif
