/* node.h: what the leader of a node does to a center while its workers go on, and what it is told of other nodes. A part of dkcore.h, which
 * includes it. */
#ifndef DKCORE_NODE_H
#define DKCORE_NODE_H

/* One kernel over the stripes first ... end - 1, each under its lock; over those of their elements from `begin` on, before `until`. */
typedef struct dk_pass {
    dk_kernel kernel;
    int32_t vectors, role[DK_MAX_VECTORS]; /* DK_CENTER, DK_STATE + k or DK_OUTSIDE */
    uint32_t only_read;                    /* as in dk_call */
    void *outside[DK_MAX_VECTORS];         /* of roles DK_OUTSIDE: where the first of these elements belongs */
    double scalars[DK_MAX_SCALARS];
    uint64_t first, end;
    uint64_t begin, until; /* until 0: to the last of the stripes */
    uint64_t *versions;    /* OUT, may be NULL: commits of each stripe, before they are raised */
    const uint64_t *raise; /* IN, may be NULL: what to add to the commits of each stripe; without it a pass counts as none */
    uint64_t *arrivals;    /* OUT, may be NULL: hand-ins that are in each stripe, before some are taken out */
    const uint64_t *taken; /* IN, may be NULL: how many of them the pass takes out */
    double timeout_s;      /* for one stripe */
} dk_pass;
dk_status dk_center_pass(dk_center *center, const dk_pass *pass);

/* From now on every exchange and every wait on this center is DK_BROKEN, with this reason. The first reason stays. */
dk_status dk_center_break(dk_center *center, const char *reason);
dk_status dk_center_check(dk_center *center); /* DK_BROKEN or DK_OK */
/* Workers on other nodes, and the exchanges of the slowest of them (UINT64_MAX: there is none). */
dk_status dk_center_others(dk_center *center, uint32_t workers, uint64_t slowest);
/* Name the rule that workers exchange by; the last one stays. */
dk_status dk_center_declare(dk_center *center, const char *rule);

typedef struct dk_pulse {
    uint32_t live, waiting; /* workers; those of them that wait for a slower one */
    uint64_t slowest;       /* exchanges of the slowest live worker; UINT64_MAX: there is none */
    char rule[DK_RULE];
} dk_pulse;
dk_status dk_center_pulse(dk_center *center, dk_pulse *out);

#endif
