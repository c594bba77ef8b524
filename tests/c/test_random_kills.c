/* test_random_kills.c: workers that exchange at full speed, killed from outside at any moment, as many as the argument says.
 *
 * Survivors add 1 an exchange and victims VICTIM, so an element reads: VICTIM * exchanges of all victims + those of survivors. Each
 * victim's are in as often as it has made them, and once more where its last one came: in whole blocks, in their order. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "check.h"
#include "internal.h"

enum {
    BLOCK = DK_SAVED / sizeof(double),
    STRIPES = 8,
    STRIPE = 16 * BLOCK,
    LENGTH = STRIPES * STRIPE,
    SURVIVORS = 2,
    SLOTS = 4,
    PAUSE = 300 /* us */
};
#define VICTIM (1ull << 26) /* survivors add less than this altogether, and all is exact below 2^53 */

static double initial[LENGTH], w[LENGTH], p[LENGTH];

typedef struct shared {
    _Atomic int stop, claimed; /* claimed: 1 + the slot of who was started last */
} shared;

/* The accounts of all victims so far. */
typedef struct books {
    uint64_t exchanges[LENGTH], commits[STRIPES], kept, elements, kills;
} books;

/* A worker, survivor or victim, that adds a number as often as it can. */
static void work(const char *name, double number, shared *all) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dk_center *center;
    dk_worker *worker;
    uint64_t length = LENGTH;
    void *address = w;
    OK(dk_center_attach(name, NULL, 5, &center));
    OK(dk_worker_claim(center, -1, &worker));
    atomic_store(&all->claimed, 1 + (int)dk_worker_slot(worker));
    dk_call call = downpour(worker, 8, p);
    OK(dk_pull(&call, 1, &address, &length));
    while (!atomic_load(&all->stop)) {
        for (int i = 0; i < LENGTH; i++)
            w[i] += number;
        OK(dk_exchange(&call, 1, &address, &length));
    }
    OK(dk_worker_release(worker));
    OK(dk_center_close(center));
    _exit(0);
}

static pid_t start(const char *name, double number, shared *all) {
    atomic_store(&all->claimed, 0);
    pid_t pid = fork();
    if (pid == 0)
        work(name, number, all);
    while (!atomic_load(&all->claimed))
        usleep(20);
    return pid;
}

static uint64_t exchanges_of(dk_center *center, int slot) {
    dk_slot_view view;
    OK(dk_center_slot(center, slot, &view));
    return view.exchanges;
}

static void survivors_go_on(dk_center *center) {
    double deadline = dk_now(CLOCK_MONOTONIC) + 20;
    for (int i = 0; i < SURVIVORS; i++)
        for (uint64_t before = exchanges_of(center, i); exchanges_of(center, i) < before + 2; usleep(20))
            CHECK(dk_now(CLOCK_MONOTONIC) < deadline, "survivor %d hangs", i);
}

/* Compare the center with what it was before a victim of so many exchanges; undo says whether a stripe may be in in part. */
static void account(books *books, const double *now, uint64_t made, uint32_t undo) {
    uint64_t least = UINT64_MAX, partial = 0;
    static uint64_t new[LENGTH];
    for (int i = 0; i < LENGTH; i++) {
        new[i] = (uint64_t)now[i] / VICTIM - books->exchanges[i];
        books->exchanges[i] += new[i];
        least = new[i] < least ? new[i] : least;
    }
    for (int s = 0; s < STRIPES; s++) {
        uint64_t *stripe = new + s * STRIPE, in = 0;
        for (int i = 0; i < STRIPE; i++) {
            CHECK(stripe[i] - least <= 1, "element %d has %d exchanges, another one %d", i, (int)stripe[i], (int)least);
            CHECK(i % BLOCK == 0 || stripe[i] == stripe[i - 1], "a block is torn at element %d of stripe %d", i, s);
            CHECK(i == 0 || stripe[i] <= stripe[i - 1], "a later block of stripe %d came before element %d", s, i);
            in += stripe[i] - least;
        }
        books->commits[s] += stripe[0];
        if (in > 0 && in < STRIPE) {
            partial++;
            books->elements += in;
        }
    }
    books->kept += partial;
    CHECK(partial <= (undo == DK_UNDO_BLOCK), "%d stripes are in in part", (int)partial);
    CHECK(least == made || least == made + 1, "%d exchanges are in, of %d", (int)least, (int)made);
}

static void one_death(dk_center *center, const char *name, shared *all, books *books, uint32_t undo) {
    static double now[LENGTH];
    pid_t victim = start(name, (double)VICTIM, all);
    usleep((useconds_t)(rand() % PAUSE));
    kill(victim, SIGKILL);
    int status;
    CHECK(waitpid(victim, &status, 0) == victim && WIFSIGNALED(status), "a victim ended with %d", status);
    OK(dk_center_snapshot(center, 0, now, 20));
    account(books, now, exchanges_of(center, atomic_load(&all->claimed) - 1), undo);
    books->kills++;
    survivors_go_on(center);
}

static void check_end(dk_center *center, const books *books) {
    static double end[LENGTH];
    uint64_t versions[STRIPES], ones = exchanges_of(center, 0) + exchanges_of(center, 1);
    dk_counts counts;
    OK(dk_center_snapshot(center, 0, end, 20));
    OK(dk_center_versions(center, versions));
    OK(dk_center_counts(center, &counts));
    for (int i = 0; i < LENGTH; i++)
        CHECK((uint64_t)end[i] % VICTIM == ones, "element %d: %g, of %d by survivors", i, end[i], (int)ones);
    for (int s = 0; s < STRIPES; s++)
        CHECK(versions[s] == ones + books->commits[s], "version %d, of %d", (int)versions[s], (int)(ones + books->commits[s]));
    CHECK(counts.deaths == books->kills, "%d deaths, of %d", (int)counts.deaths, (int)books->kills);
    CHECK(counts.kept == books->kept && counts.elements == books->elements, "%d stripes kept in part, of %d", (int)counts.kept,
          (int)books->kept);
    printf("%d kills: %d within a stripe, of which %d were in in part, %d not at all; %d exchanges of survivors\n", (int)books->kills,
           (int)counts.recovered, (int)counts.kept, (int)counts.undone, (int)ones);
}

static void deaths(int kills, uint32_t undo) {
    const char *name = segment_name("random");
    static books books;
    memset(&books, 0, sizeof books);
    shared *all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    dk_center *center;
    dk_layout layout = {.length = LENGTH, .stripe_length = STRIPE, .itemsize = 8, .slots = SLOTS, .undo = undo};
    OK(dk_center_create(name, &layout, initial, NULL, &center));
    pid_t survivors[SURVIVORS];
    for (int i = 0; i < SURVIVORS; i++) /* one after the other, so that survivor i has slot i */
        survivors[i] = start(name, 1, all);
    while (books.kills < (uint64_t)kills)
        one_death(center, name, all, &books, undo);
    atomic_store(&all->stop, 1);
    for (int i = 0, status; i < SURVIVORS; i++)
        CHECK(waitpid(survivors[i], &status, 0) > 0 && status == 0, "a survivor ended with %d", status);
    check_end(center, &books);
    OK(dk_center_close(center));
    CHECK(shm_open(name, O_RDONLY, 0) < 0, "a segment was left behind");
}

int main(int count, char **arguments) {
    int kills = count > 1 ? atoi(arguments[1]) : 2000;
    srand(count > 2 ? (unsigned)atoi(arguments[2]) : (unsigned)getpid());
    deaths(kills / 2, DK_UNDO_BLOCK);
    deaths(kills - kills / 2, DK_UNDO_STRIPE);
    return 0;
}
