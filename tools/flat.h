/* What the programs of dense networks share: --flat-field, a belt for each camera. */
#ifndef TOOLS_FLAT_H
#define TOOLS_FLAT_H

#include "belt.h"

enum { FLAT_ROLES = WS2_ROLE_AFTER + 1 };

struct flat_fields {
    struct ws2_text_list file;       /* what was asked for */
    struct ws2_flat *of[FLAT_ROLES]; /* by role, NULL where there is none */
    char digest[FLAT_ROLES][17];     /* of their belts */
};

/* Dies where a file is no belt, or not of one camera that no other file is of. */
static inline void flat_open(struct flat_fields *flat, const struct ws2_common *common,
                             const struct ws2_flat_params *params)
{
    for (int i = 0; i < flat->file.count; i++) {
        struct ws2_error error = {0};
        struct belt_file file;
        belt_open(&file, common, flat->file.item[i], false);
        if (file.role == WS2_ROLE_NONE)
            ws2_die_text(WS2_ERR_INPUT, "%s: no role: of which camera is this belt?", file.path);
        if (flat->of[file.role])
            ws2_die_text(WS2_ERR_INPUT, "%s: a second belt of the camera '%s'", file.path,
                         ws2_role_name(file.role));
        belt_must(&file, ws2_flat_new(&flat->of[file.role], &file.belt, params, &error), &error);
        memcpy(flat->digest[file.role], file.digest, sizeof file.digest);
        belt_close(&file);
    }
}

static inline void flat_close(struct flat_fields *flat)
{
    for (int role = 0; role < FLAT_ROLES; role++)
        ws2_flat_free(flat->of[role]);
}

/* For learning: as is usual, and dies where one camera has a flat field and the other has none. */
static inline void flat_open_both(struct flat_fields *flat, const struct ws2_common *common)
{
    const struct ws2_flat_params usual = ws2_flat_defaults();
    flat_open(flat, common, &usual);
    for (int role = WS2_ROLE_BEFORE; flat->file.count && role < FLAT_ROLES; role++)
        if (flat->of[role] == NULL)
            ws2_die_text(WS2_ERR_USAGE, "--flat-field: no belt of the camera '%s': give one for each",
                         ws2_role_name((enum ws2_role)role));
}

#endif
