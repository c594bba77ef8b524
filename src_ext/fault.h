/* fault.h: where tests have a process die, or wait for another. */
#ifndef DKCORE_FAULT_H
#define DKCORE_FAULT_H

/* Labelled points where a test build kills the process; nothing in any other build. */
enum {
    DK_POINT_BEFORE,
    DK_POINT_LOCKED,
    DK_POINT_SAVED, /* a block is about to be written */
    DK_POINT_HALF,  /* it is written, and not yet in */
    DK_POINT_ADDED,
    DK_POINT_WRITTEN,
    DK_POINT_VERSION,
    DK_POINT_UNLOCKED,
    DK_POINTS, /* of an exchange; then those of who waits for a stripe, and of who mends one */
    DK_POINT_WAIT,
    DK_POINT_PUT_BACK,
    DK_POINT_FORESEEN,
    DK_POINT_MENDED,
    DK_POINT_LEDGER /* between two stores of one who changes leases */
};
#ifdef DK_FAULTS
void dk_fault(int point);
#define DK_FAULT(point) dk_fault(point)
#else
#define DK_FAULT(point) ((void)0)
#endif

#endif
