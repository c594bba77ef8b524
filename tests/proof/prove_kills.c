/* prove_kills.c: a process is killed after every single instruction of what it does to a tiny center; glibc's lock is among them.
 *
 *     prove_kills SCENARIO...      (without: all; see `scenarios`)
 *
 * Each time a survivor comes by, and the laws of aftermath.h must hold. Then the survivor is killed, too, after every instruction, where
 * the scenario's name ends in +: the first death is then at each labelled point of the engine. Prints one line a scenario. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <sys/mman.h>

#include "aftermath.h"
#include "books.h"
#include "steps.h"

static const scenario scenarios[] = {
    {"downpour32", "downpour", 4, 0, DK_UNDO_BLOCK, EXCHANGE, 0, LOOKER},
    {"downpour64", "downpour", 8, 0, DK_UNDO_BLOCK, EXCHANGE, 0, MONITOR},
    {"adagrad32", "adagrad", 4, 1, DK_UNDO_BLOCK, EXCHANGE, 0, LESSOR},
    {"adagrad64", "adagrad", 8, 1, DK_UNDO_BLOCK, EXCHANGE, 0, LOOKER},
    {"several32", "several", 4, 2, DK_UNDO_BLOCK, EXCHANGE, 0, LOOKER},
    {"several64", "several", 8, 2, DK_UNDO_BLOCK, EXCHANGE, 0, LOOKER},
    {"downpour32/stripe", "downpour", 4, 0, DK_UNDO_STRIPE, EXCHANGE, 0, LOOKER},
    {"downpour64/stripe", "downpour", 8, 0, DK_UNDO_STRIPE, EXCHANGE, 0, NEWCOMER},
    {"adagrad32/stripe", "adagrad", 4, 1, DK_UNDO_STRIPE, EXCHANGE, 0, LOOKER},
    {"adagrad64/stripe", "adagrad", 8, 1, DK_UNDO_STRIPE, EXCHANGE, 0, LESSOR},
    {"several32/stripe", "several", 4, 2, DK_UNDO_STRIPE, EXCHANGE, 0, MONITOR},
    {"several64/stripe", "several", 8, 2, DK_UNDO_STRIPE, EXCHANGE, 0, LOOKER},
    {"downpour32/none", "downpour", 4, 0, DK_UNDO_NONE, EXCHANGE, 0, LESSOR},
    {"adagrad64/none", "adagrad", 8, 1, DK_UNDO_NONE, EXCHANGE, 0, LOOKER},
    {"several32/none", "several", 4, 2, DK_UNDO_NONE, EXCHANGE, 0, MONITOR},
    {"looked-at", "adagrad", 4, 1, DK_UNDO_BLOCK, EXCHANGE, 1, LOOKER},
    {"looked-at/stripe", "adagrad", 4, 1, DK_UNDO_STRIPE, EXCHANGE, 1, LOOKER},
    {"newcomer", "downpour", 4, 0, DK_UNDO_BLOCK, EXCHANGE, 0, NEWCOMER},
    {"round", "hand_in", 4, 1, DK_UNDO_BLOCK, ROUND, 0, LOOKER},
    {"round/stripe", "hand_in", 8, 1, DK_UNDO_STRIPE, ROUND, 0, LOOKER},
    {"pass", "downpour", 4, 0, DK_UNDO_BLOCK, PASS, 0, LOOKER},
    {"pass/stripe", "downpour", 8, 0, DK_UNDO_STRIPE, PASS, 0, LOOKER},
    {"restore", "downpour", 8, 0, DK_UNDO_BLOCK, RESTORE, 0, LOOKER},
    {"restore/stripe", "downpour", 4, 0, DK_UNDO_STRIPE, RESTORE, 0, LOOKER},
    {"several64+", "several", 8, 2, DK_UNDO_BLOCK, EXCHANGE, 0, LOOKER},
    {"round/stripe+", "hand_in", 4, 1, DK_UNDO_STRIPE, ROUND, 0, LOOKER},
    {"leases/stripe+", "downpour", 8, 0, DK_UNDO_STRIPE, EXCHANGE, 0, LESSOR},
};
enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0], LAST = -1 };
/* Where the first dies, in points of its exchange, before each instruction of who comes by is tried. Blocks between the second and the last
 * are as the second. In the first stripe, and once when the second one has it, too; of leases: none of it is in; the first stripe has
 * it, and the slot does not say so; a part; all. */
static const int deaths_in_blocks[] = {0, 1, 2, 3, 4, 5, 6, 7, 17, 18, 19, LAST},
                 deaths_in_stripes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 19, LAST};
static const int decisions[] = {3, 8, 14, 19, LAST};

static int to_be_stepped, stepped;  /* in a child; from its first mark on */
static int to_die = -1, fatal = -1; /* the same; points that are passed; then it dies there, without being stepped. -1: never */

void dk_fault(int point) {
    (void)point;
    if (fatal >= 0 && fatal-- == 0)
        kill(getpid(), SIGKILL);
    if (stepped)
        mark();
}

/* What follows is stepped, or ends, if this process is. */
static void begin(void) {
    fatal = to_die;
    if (to_be_stepped) {
        stepped = 1;
        mark();
    }
}

static void exchange(world *world) {
    dk_worker *worker;
    dk_tickets leased;
    dk_place place = place_after(world->number), next = place_after(world->number + 1);
    OK(dk_worker_claim(world->center, 1, &worker));
    OK(dk_worker_resume(worker, world->number, &place));
    for (int i = 0; i < LEASES; i++)
        OK(dk_lease_take(worker, LEASED, UINT64_MAX, &leased));
    char *w = world->w.bytes;
    uint32_t item = world->scenario->itemsize;
    void *addresses[PIECES] = {w, w + lengths[0] * item, w + (lengths[0] + lengths[1]) * item};
    dk_call call = call_of(world, worker, world->p.bytes);
    if (world->scenario->act == ROUND)
        call.previous = NULL;
    OK(dk_pull(&call, PIECES, addresses, lengths));
    add_fresh(world, &world->w);
    OK(dk_worker_place(worker, &next));
    call.settles = SETTLES;
    begin();
    OK(dk_exchange(&call, PIECES, addresses, lengths));
}

static void pass(world *world) {
    numbers r = {0};
    uint64_t raise[STRIPES] = {PASS_COUNTS, PASS_COUNTS};
    add_fresh(world, &r);
    dk_pass pass = {.vectors = 2, .role = {DK_CENTER, DK_OUTSIDE}, .only_read = 2, .outside = {NULL, &r}, .end = STRIPES, .timeout_s = 5};
    pass.kernel = kernel_of("merge_put_back", world->scenario->itemsize), pass.raise = raise;
    begin();
    OK(dk_center_pass(world->center, &pass));
}

static void restore(world *world) {
    numbers data = world->before[0];
    add_fresh(world, &data);
    begin();
    OK(dk_center_restore(world->center, 0, &data, 5));
}

static void act_on(world *world) {
    if (world->scenario->act == PASS)
        pass(world);
    else if (world->scenario->act == RESTORE)
        restore(world);
    else
        exchange(world);
}

static void be_stepped(void *argument) {
    to_be_stepped = 1;
    act_on(argument);
}

static void come_by(const world *world) {
    numbers seen;
    dk_leases leases;
    dk_slot_view view;
    if (world->scenario->survivor == LESSOR)
        OK(dk_lease_look(world->center, &leases));
    if (world->scenario->survivor == MONITOR)
        OK(dk_center_slot(world->center, 0, &view));
    OK(dk_center_snapshot(world->center, 0, &seen, 5)); /* whatever it is that was looked at first, the laws are of all */
}

static void be_stepped_coming_by(void *argument) {
    to_be_stepped = 1;
    begin();
    come_by(argument);
}

/* A worker whose own exchange brings nothing, but takes the area. */
static void exchange_nothing(world *world) {
    dk_worker *worker;
    OK(dk_worker_claim(world->center, 1, &worker));
    dk_call call = call_of(world, worker, world->p.bytes);
    void *address = world->w.bytes;
    uint64_t length = LENGTH;
    memset(&world->w, 0, sizeof world->w), memset(&world->p, 0, sizeof world->p); /* no pull: that would come by all stripes first */
    OK(dk_exchange(&call, 1, &address, &length));
    dk_worker_free(worker);
}

typedef struct tally {
    uint64_t kills, in_part, whole;
} tally;

/* killed: the worker was; whoever mended after it may have been, too. */
static void conclude(world *world, const remains *found, tally *tally, outcome outcome, int killed) {
    int newcomer = world->scenario->survivor == NEWCOMER, in[STRIPES];
    if (newcomer)
        exchange_nothing(world);
    else
        come_by(world);
    int sum = check_aftermath(world, found, (uint64_t)newcomer, in);
    if (world->scenario->act <= ROUND)
        check_books(world, in, killed);
    tally->kills += outcome == KILLED;
    tally->whole += sum == LENGTH;
    tally->in_part += sum > 0 && sum < LENGTH;
}

static dk_center *create(const scenario *scenario) {
    dk_center *center;
    numbers initial = {0};
    dk_layout layout = {.length = LENGTH, .stripe_length = STRIPE, .itemsize = scenario->itemsize, .slots = 1};
    layout.states = scenario->states, layout.undo = scenario->undo, layout.statistics = scenario->act == ROUND ? STATISTICS : 0;
    OK(dk_center_create(segment_name("proof"), &layout, &initial, NULL, &center));
    shm_unlink(segment_name("proof")); /* nothing is left, however this ends */
    if (scenario->act <= ROUND)
        OK(dk_lease_open(center, BATCHES));
    return center;
}

static void prove_each_instruction(world *world, tally *tally) {
    outcome outcome = KILLED;
    for (uint64_t marks = 0; outcome != ENDED; marks++) {
        outcome = KILLED;
        for (uint64_t steps = 0; outcome == KILLED; steps++, world->number++) {
            look(world);
            outcome = kill_after(marks, steps, be_stepped, world);
            remains found = examine(world);
            conclude(world, &found, tally, outcome, outcome != ENDED);
        }
    }
}

/* The first to die does so at a labelled point, at full speed. 0: it met fewer. */
static int die_at(world *world, int point) {
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        to_die = point;
        act_on(world);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
    return WIFSIGNALED(status);
}

/* 0: the first did not die, for it met fewer points. */
static int prove_each_instruction_of_the_mender(world *world, tally *tally, int point) {
    int died = 1;
    outcome outcome = KILLED;
    for (uint64_t marks = 0; died && outcome != ENDED; marks++) {
        outcome = KILLED;
        for (uint64_t steps = 0; died && outcome == KILLED; steps++, world->number++) {
            look(world);
            died = die_at(world, point);
            remains found = examine(world);
            if (died)
                outcome = kill_after(marks, steps, be_stepped_coming_by, world);
            memcpy(found.again, examine(world).orphaned, sizeof found.again);
            conclude(world, &found, tally, died ? outcome : ENDED, died);
        }
    }
    return died;
}

static void prove(const scenario *scenario) {
    static world world;
    tally tally = {0};
    world.scenario = scenario, world.number = 0, world.center = create(scenario);
    int twice = strchr(scenario->name, '+') != NULL;
    const int *deaths = scenario->undo == DK_UNDO_BLOCK ? deaths_in_blocks : scenario->survivor == LESSOR ? decisions : deaths_in_stripes;
    for (; twice && *deaths != LAST; deaths++)
        CHECK(prove_each_instruction_of_the_mender(&world, &tally, *deaths), "no point %d", *deaths);
    if (!twice)
        prove_each_instruction(&world, &tally);
    OK(dk_center_close(world.center));
    dk_center_free(world.center);
    CHECK(tally.kills > 100, "%s: only %d kills", scenario->name, (int)tally.kills);
    printf("%s: %d kills, %d left a part, %d left all, 0 faults\n", scenario->name, (int)tally.kills, (int)tally.in_part, (int)tally.whole);
    fflush(stdout);
}

int main(int count, char **names) {
    for (int k = 0; k < SCENARIOS; k++) {
        int wanted = count == 1;
        for (int i = 1; i < count; i++)
            wanted |= !strcmp(names[i], scenarios[k].name);
        if (wanted)
            prove(&scenarios[k]);
    }
    return 0;
}
