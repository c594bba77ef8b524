/* gate.h: where workers and ranks of a node meet. A part of dkcore.h, which includes it. */
#ifndef DKCORE_GATE_H
#define DKCORE_GATE_H

/* A gate: members arrive and wait; a coordinator sees them come, does what is to be done, and opens. */
enum { DK_GATE_ROUND = 0, DK_GATE_FINISH = 1, DK_GATES = 2 };
typedef struct dk_gate_view {
    uint32_t members, arrived;
} dk_gate_view;
dk_status dk_gate_members(dk_center *center, uint32_t gate, int32_t change, int absolute);
dk_status dk_gate_arrive(dk_center *center, uint32_t gate, uint32_t *ticket); /* does not wait */
/* DK_TIMEOUT, without a sentence, when it was not opened in time. */
dk_status dk_gate_wait(dk_center *center, uint32_t gate, uint32_t ticket, double timeout_s);
/* Until all members have arrived, or the time is up: see what came. */
dk_status dk_gate_await(dk_center *center, uint32_t gate, double timeout_s, dk_gate_view *out);
dk_status dk_gate_open(dk_center *center, uint32_t gate, uint32_t arrived);

/* Members: as many as slots, each has reached a phase, 0 at first; phases only rise. Who leaves has reached them all. */
#define DK_LEFT UINT32_MAX
dk_status dk_member_reach(dk_center *center, uint32_t member, uint32_t phase);
/* Until the members first ... end - 1 have reached the phase, or the time is up. slowest: OUT, what all of them have reached. */
dk_status dk_member_await(dk_center *center, uint32_t first, uint32_t end, uint32_t phase, double timeout_s, uint32_t *slowest);

#endif
