/* test_kill.c: workers that kill -9 themselves at every labelled point of an exchange, on every stripe.
 *
 * Survivors add 1 an exchange and a victim adds VICTIM, so that an element reads: VICTIM * victims + survivors. Both parts are
 * known exactly, since the engine applies a victim's pieces whole and in order: up to the point where it died. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "check.h"
#include "internal.h"

enum { STRIPES = 4, STRIPE = 64, LENGTH = STRIPES * STRIPE, PIECE = STRIPE / 2, PIECES = 2 * STRIPES };
enum { SURVIVORS = 2, SLOTS = 4, REPEATS = 8 };
#define VICTIM (1ull << 32) /* survivors add less than this altogether, and all is exact below 2^53 */

static int fatal_point = -1, spare; /* die at this point, when it is met for the (1 + spare)th time */

void dk_fault(int point) {
    if (point == fatal_point && spare-- == 0)
        kill(getpid(), SIGKILL);
}

typedef struct weights {
    double w[LENGTH], p[LENGTH];
    uint64_t lengths[PIECES];
    void *addresses[PIECES];
} weights;

static void add(dk_call *call, weights *mine, double number) {
    for (int i = 0; i < LENGTH; i++)
        mine->w[i] += number;
    OK(dk_exchange(call, PIECES, mine->addresses, mine->lengths));
}

/* Attach, claim and pull, as any worker does. The segments cut each stripe in two, so that a worker can die between. */
static dk_call join(const char *name, weights *mine, dk_center **center, dk_worker **worker) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    OK(dk_center_attach(name, NULL, 5, center));
    OK(dk_worker_claim(*center, -1, worker));
    for (int i = 0; i < PIECES; i++) {
        mine->lengths[i] = PIECE;
        mine->addresses[i] = mine->w + i * PIECE;
    }
    dk_call call = downpour(*worker, 8, mine->p);
    OK(dk_pull(&call, PIECES, mine->addresses, mine->lengths));
    return call;
}

static void survive(const char *name, _Atomic int *stop) {
    weights mine;
    dk_center *center;
    dk_worker *worker;
    dk_call call = join(name, &mine, &center, &worker);
    while (!atomic_load(stop))
        add(&call, &mine, 1);
    OK(dk_worker_release(worker));
    OK(dk_center_close(center));
    _exit(0);
}

static void die(const char *name, int point, int times) {
    weights mine;
    dk_center *center;
    dk_worker *worker;
    dk_call call = join(name, &mine, &center, &worker);
    fatal_point = point, spare = times;
    add(&call, &mine, (double)VICTIM);
    _exit(1); /* it should not have come so far */
}

static uint64_t exchanges_of(dk_center *center, int slot) {
    dk_slot_view view;
    OK(dk_center_slot(center, slot, &view));
    return view.exchanges;
}

/* Both survivors end two exchanges within a second: one may have been under way at the death, the next cannot. */
static void survivors_go_on(dk_center *center) {
    double deadline = dk_now(CLOCK_MONOTONIC) + 1;
    uint64_t before[SURVIVORS];
    for (int i = 0; i < SURVIVORS; i++)
        before[i] = exchanges_of(center, i);
    for (int i = 0; i < SURVIVORS; i++)
        while (exchanges_of(center, i) < before[i] + 2) {
            CHECK(dk_now(CLOCK_MONOTONIC) < deadline, "survivor %d hangs", i);
            usleep(100);
        }
}

static int elements_applied(int point, int times) {
    if (point == DK_POINT_HALF)
        return (times + 1) * PIECE;
    return (times + (point > DK_POINT_HALF)) * STRIPE;
}

static void one_death(dk_center *center, const char *name, int point, int times) {
    static int deaths;
    static uint64_t recovered;
    static uint64_t victims[LENGTH];
    pid_t pid = fork();
    if (pid == 0)
        die(name, point, times);
    int status, applied = 0, changed[LENGTH];
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "point %d: status %d", point, status);
    survivors_go_on(center);

    double now[LENGTH];
    OK(dk_center_snapshot(center, 0, now, 1));
    for (int i = 0; i < LENGTH; i++) {
        changed[i] = (int)((uint64_t)now[i] / VICTIM - victims[i]);
        victims[i] += changed[i];
        applied += changed[i];
        CHECK(changed[i] == 0 || changed[i] == 1, "element %d took %d updates of one victim", i, changed[i]);
        CHECK(i % PIECE == 0 || changed[i] == changed[i - 1], "a piece is torn at element %d", i);
    }
    /* On the way past a stripe that a survivor holds, the victim is before it once more than it has done stripes. */
    int expected = elements_applied(point, times), passed = point == DK_POINT_BEFORE ? expected - applied : 0;
    CHECK(applied + passed == expected && passed >= 0 && passed % STRIPE == 0, "point %d on %d: %d elements", point, times, applied);

    dk_counts counts;
    OK(dk_center_counts(center, &counts));
    deaths++;
    recovered += point >= DK_POINT_LOCKED && point <= DK_POINT_VERSION;
    CHECK(counts.deaths == (uint32_t)deaths && counts.live == SURVIVORS, "%u deaths of %d, %u live", counts.deaths, deaths, counts.live);
    CHECK(counts.recovered == recovered, "%d recovered, of %d", (int)counts.recovered, (int)recovered);
}

int main(void) {
    const char *name = segment_name("kill");
    dk_center *center;
    double initial[LENGTH] = {0}, end[LENGTH];
    dk_layout layout = {.length = LENGTH, .stripe_length = STRIPE, .itemsize = 8, .slots = SLOTS};
    OK(dk_center_create(name, &layout, initial, NULL, &center));
    _Atomic int *stop = mmap(NULL, sizeof *stop, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < SURVIVORS; i++) {
        if (fork() == 0)
            survive(name, stop);
        while (exchanges_of(center, i) == 0) /* so that survivor i has slot i */
            usleep(100);
    }
    int kills = 0;
    for (int repeat = 0; repeat < REPEATS; repeat++)
        for (int point = 0; point < DK_POINTS; point++)
            for (int times = 0; times < (point == DK_POINT_HALF ? PIECES : STRIPES); times++, kills++)
                one_death(center, name, point, times);
    CHECK(kills >= 200, "%d kills", kills);

    atomic_store(stop, 1);
    for (int i = 0, status; i < SURVIVORS; i++)
        CHECK(wait(&status) > 0 && status == 0, "a survivor ended with %d", status);
    OK(dk_center_snapshot(center, 0, end, 1));
    uint64_t ones = exchanges_of(center, 0) + exchanges_of(center, 1);
    for (int i = 0; i < LENGTH; i++)
        CHECK((uint64_t)end[i] % VICTIM == ones, "element %d: %g, of %d", i, end[i], (int)ones);
    OK(dk_center_close(center));
    CHECK(shm_open(name, O_RDONLY, 0) < 0, "a segment was left behind");
    return 0;
}
