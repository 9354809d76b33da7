/* What has to hold for any input: a fuzzer sees the abort. */
#ifndef FUZZ_MUST_H
#define FUZZ_MUST_H

#include <stdio.h>
#include <stdlib.h>

#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "line %d: must hold: %s\n", __LINE__, #condition);                               \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

#endif
