/* test_kill.c: workers that kill -9 themselves at every labelled point of an exchange, on every stripe.
 *
 * Survivors add 1 an exchange and a victim adds VICTIM, so that an element reads: VICTIM * victims + survivors. Both parts are
 * known exactly, since the engine applies a victim's pieces whole and in order: those that were in when it died. Whatever it left
 * half done is taken back: its piece, or its stripe. tests/proof kills after every instruction; here others work meanwhile. */
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
enum { SURVIVORS = 2, SLOTS = 4, REPEATS = 4 };
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

static int within(int point) { return point >= DK_POINT_SAVED && point <= DK_POINT_ADDED; }

static int elements_in(int point, int times, uint32_t undo) {
    if (within(point)) {
        int pieces = times + (point == DK_POINT_ADDED || (undo == DK_UNDO_NONE && point == DK_POINT_HALF));
        return (undo == DK_UNDO_STRIPE ? times / 2 * 2 : pieces) * PIECE;
    }
    return (times + (point >= DK_POINT_WRITTEN)) * STRIPE;
}

/* What the center counts of deaths, and what it should. */
typedef struct books {
    uint64_t deaths, recovered, undone, kept, elements, victims[LENGTH], commits[STRIPES];
} books;

/* in: elements of the stripe that the victim died in. */
static void expect(books *books, int point, int in, uint32_t undo) {
    books->deaths++;
    books->recovered += point >= DK_POINT_LOCKED && point <= DK_POINT_VERSION;
    if (undo != DK_UNDO_NONE && within(point)) {
        books->undone += in == 0;
        books->kept += in > 0 && in < STRIPE;
        books->elements += in < STRIPE ? (uint64_t)in : 0;
    }
}

static void check_counts(dk_center *center, const books *books) {
    dk_counts counts;
    OK(dk_center_counts(center, &counts));
    CHECK(counts.deaths == books->deaths && counts.live == SURVIVORS, "%u deaths, %u live", counts.deaths, counts.live);
    CHECK(counts.recovered == books->recovered, "%d recovered, of %d", (int)counts.recovered, (int)books->recovered);
    CHECK(counts.undone == books->undone, "%d undone, of %d", (int)counts.undone, (int)books->undone);
    CHECK(counts.kept == books->kept, "%d kept, of %d", (int)counts.kept, (int)books->kept);
    CHECK(counts.elements == books->elements, "%d elements, of %d", (int)counts.elements, (int)books->elements);
}

/* Elements that the victim brought in; piece by piece, each at most once. */
static int applied(dk_center *center, books *books) {
    double now[LENGTH];
    int sum = 0, changed[LENGTH];
    OK(dk_center_snapshot(center, 0, now, 1));
    for (int i = 0; i < LENGTH; i++) {
        changed[i] = (int)((uint64_t)now[i] / VICTIM - books->victims[i]);
        books->victims[i] += changed[i];
        sum += changed[i];
        CHECK(changed[i] == 0 || changed[i] == 1, "element %d took %d updates of one victim", i, changed[i]);
        CHECK(i % PIECE == 0 || changed[i] == changed[i - 1], "a piece is torn at element %d", i);
        books->commits[i / STRIPE] += i % STRIPE == 0 && changed[i];
    }
    return sum;
}

static void one_death(dk_center *center, const char *name, books *books, uint32_t undo, int point, int times) {
    pid_t pid = fork();
    if (pid == 0)
        die(name, point, times);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "point %d: status %d", point, status);
    survivors_go_on(center);
    int in = applied(center, books), expected = elements_in(point, times, undo);
    /* On the way past a stripe that a survivor holds, the victim is before it once more than it has done stripes. */
    int passed = point == DK_POINT_BEFORE ? expected - in : 0;
    CHECK(in + passed == expected && passed >= 0 && passed % STRIPE == 0, "point %d on %d: %d elements", point, times, in);
    expect(books, point, within(point) ? in - times / 2 * STRIPE : 0, undo);
    check_counts(center, books);
}

/* A commit that was begun and of which nobody knows what is in counts, where nothing is undone. */
static void check_versions(dk_center *center, const books *books, uint64_t ones, uint32_t undo) {
    uint64_t versions[STRIPES];
    OK(dk_center_versions(center, versions));
    for (int s = 0; s < STRIPES; s++)
        CHECK(undo == DK_UNDO_NONE ? versions[s] > ones + books->commits[s] : versions[s] == ones + books->commits[s], "%d commits, of %d",
              (int)versions[s], (int)(ones + books->commits[s]));
}

static int kill_at_all_points(dk_center *center, const char *name, books *books, uint32_t undo) {
    int kills = 0;
    for (int repeat = 0; repeat < REPEATS; repeat++)
        for (int point = 0; point < DK_POINTS; point++)
            for (int times = 0; times < (within(point) ? PIECES : STRIPES); times++, kills++)
                one_death(center, name, books, undo, point, times);
    return kills;
}

static void check_end(dk_center *center, const books *books, uint32_t undo) {
    double end[LENGTH];
    OK(dk_center_snapshot(center, 0, end, 1));
    uint64_t ones = exchanges_of(center, 0) + exchanges_of(center, 1);
    for (int i = 0; i < LENGTH; i++)
        CHECK((uint64_t)end[i] % VICTIM == ones, "element %d: %g, of %d", i, end[i], (int)ones);
    check_versions(center, books, ones, undo);
}

static void deaths_among_survivors(uint32_t undo) {
    const char *name = segment_name("kill");
    dk_center *center;
    double initial[LENGTH] = {0};
    books books = {0};
    dk_layout layout = {.length = LENGTH, .stripe_length = STRIPE, .itemsize = 8, .slots = SLOTS, .undo = undo};
    OK(dk_center_create(name, &layout, initial, NULL, &center));
    _Atomic int *stop = mmap(NULL, sizeof *stop, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < SURVIVORS; i++) {
        if (fork() == 0)
            survive(name, stop);
        while (exchanges_of(center, i) == 0) /* so that survivor i has slot i */
            usleep(100);
    }
    int kills = kill_at_all_points(center, name, &books, undo);
    CHECK(kills >= 150, "%d kills", kills);
    atomic_store(stop, 1);
    for (int i = 0, status; i < SURVIVORS; i++)
        CHECK(wait(&status) > 0 && status == 0, "a survivor ended with %d", status);
    check_end(center, &books, undo);
    OK(dk_center_close(center));
    CHECK(shm_open(name, O_RDONLY, 0) < 0, "a segment was left behind");
}

int main(void) {
    for (uint32_t undo = DK_UNDO_BLOCK; undo <= DK_UNDO_NONE; undo++)
        deaths_among_survivors(undo);
    return 0;
}
