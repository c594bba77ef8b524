/* test_gate.c: where the workers of a node meet, with threads for workers. Nobody passes a round before all have come. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "check.h"

enum { WORKERS = 4, STEPS = 100 };

static dk_center *center;
static _Atomic int here, rounds, broken;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static dk_center *members;

static void create(void) {
    dk_layout layout = {.length = 1, .stripe_length = 64, .itemsize = 8, .slots = 1};
    OK(dk_center_create(segment_name("gate"), &layout, &(double){0}, NULL, &center));
}

/* The k-th worker leaves after STEPS * (k + 1) rounds; all others go on. */
static void *meet(void *number) {
    int last = STEPS * ((int)(intptr_t)number + 1);
    for (int round = 0; round < last; round++) {
        uint32_t ticket;
        atomic_fetch_add(&here, 1);
        OK(dk_gate_arrive(center, DK_GATE_ROUND, &ticket));
        OK(dk_gate_wait(center, DK_GATE_ROUND, ticket, 30));
        CHECK(atomic_load(&rounds) > round, "round %d opened before its coordinator had seen it", round);
    }
    OK(dk_gate_members(center, DK_GATE_ROUND, -1, 0));
    return NULL;
}

static void all_meet_in_each_round_and_who_leaves_holds_up_nobody(void) {
    pthread_t threads[WORKERS];
    create();
    OK(dk_gate_members(center, DK_GATE_ROUND, WORKERS, 1));
    for (intptr_t k = 0; k < WORKERS; k++)
        CHECK(!pthread_create(&threads[k], NULL, meet, (void *)k), "thread");
    for (;;) {
        dk_gate_view view;
        OK(dk_gate_await(center, DK_GATE_ROUND, 30, &view));
        CHECK(view.arrived >= view.members, "%u of %u arrived within 30 s", view.arrived, view.members);
        if (!view.members)
            break;
        int round = atomic_load(&rounds), left = round / STEPS; /* of each, its last round is behind it */
        CHECK(view.members >= (uint32_t)(WORKERS - left), "%u members in round %d", view.members, round);
        CHECK(atomic_load(&here) == (int)view.arrived, "%d came, and %u arrived", atomic_load(&here), view.arrived);
        atomic_fetch_sub(&here, (int)view.arrived);
        atomic_fetch_add(&rounds, 1);
        OK(dk_gate_open(center, DK_GATE_ROUND, view.arrived));
    }
    for (int k = 0; k < WORKERS; k++)
        pthread_join(threads[k], NULL);
    CHECK(atomic_load(&rounds) == STEPS * WORKERS, "%d rounds", atomic_load(&rounds));
    OK(dk_center_close(center));
}

static void *hang(void *unused) {
    uint32_t ticket;
    OK(dk_gate_arrive(center, DK_GATE_FINISH, &ticket));
    REFUSED(DK_BROKEN, "node1 fell silent", dk_gate_wait(center, DK_GATE_FINISH, ticket, 60));
    atomic_fetch_add(&broken, 1);
    return unused;
}

static void a_broken_center_wakes_all_who_wait(void) {
    pthread_t threads[WORKERS];
    dk_gate_view view = {0, 0};
    create();
    OK(dk_gate_members(center, DK_GATE_FINISH, WORKERS, 1));
    for (int k = 0; k < WORKERS; k++)
        CHECK(!pthread_create(&threads[k], NULL, hang, NULL), "thread");
    OK(dk_gate_await(center, DK_GATE_FINISH, 30, &view));
    CHECK(view.arrived == WORKERS && atomic_load(&broken) == 0, "%u arrived", view.arrived);
    double began = now();
    OK(dk_center_break(center, "node1 fell silent"));
    for (int k = 0; k < WORKERS; k++)
        pthread_join(threads[k], NULL);
    CHECK(now() - began < 10, "they woke after %g s", now() - began);
    OK(dk_center_break(center, "another reason")); /* the first one stays */
    REFUSED(DK_BROKEN, "node1 fell silent", dk_center_check(center));
    OK(dk_center_close(center));
}

static void waits_end_in_time(void) {
    uint32_t ticket;
    dk_gate_view view;
    create();
    OK(dk_gate_members(center, DK_GATE_ROUND, 2, 1));
    OK(dk_gate_arrive(center, DK_GATE_ROUND, &ticket));
    double began = now();
    CHECK(dk_gate_wait(center, DK_GATE_ROUND, ticket, 0.05) == DK_TIMEOUT, "nobody opened");
    OK(dk_gate_await(center, DK_GATE_ROUND, 0.05, &view));
    CHECK(view.arrived == 1 && view.members == 2, "%u of %u", view.arrived, view.members);
    CHECK(now() - began > 0.09 && now() - began < 10, "%g s", now() - began);
    OK(dk_gate_open(center, DK_GATE_ROUND, 1));
    OK(dk_gate_wait(center, DK_GATE_ROUND, ticket, 0)); /* opened before we wait */
    OK(dk_gate_arrive(center, DK_GATE_ROUND, &ticket));
    CHECK(dk_gate_wait(center, DK_GATE_ROUND, ticket, 0) == DK_TIMEOUT, "an opening served twice");
    OK(dk_gate_await(center, DK_GATE_FINISH, 60, &view)); /* a gate without members waits for none */
    CHECK(view.arrived == 0 && view.members == 0, "%u of %u", view.arrived, view.members);
    REFUSED(DK_INVALID, "gate 2 of 2", dk_gate_arrive(center, DK_GATES, &ticket));
    OK(dk_center_close(center));
}

static void *finish(void *number) {
    uint32_t rank = (uint32_t)(intptr_t)number, slowest;
    for (uint32_t phase = 1; phase <= STEPS * (rank + 1); phase++) {
        OK(dk_member_reach(members, rank, phase));
        OK(dk_member_await(members, 0, WORKERS, phase, 30, &slowest));
        CHECK(slowest >= phase, "member %u of phase %u saw %u", rank, phase, slowest);
    }
    OK(dk_member_reach(members, rank, DK_LEFT)); /* the others go on, and do not wait for it */
    OK(dk_member_reach(members, rank, 1));       /* nobody comes back */
    return NULL;
}

static void who_left_holds_up_no_member(void) {
    pthread_t threads[WORKERS];
    uint32_t slowest;
    dk_layout layout = {.length = 1, .stripe_length = 64, .itemsize = 8, .slots = WORKERS};
    OK(dk_center_create(segment_name("members"), &layout, &(double){0}, NULL, &members));
    OK(dk_member_await(members, 0, WORKERS, 1, 0.05, &slowest));
    CHECK(slowest == 0, "%u before anybody came", slowest);
    for (intptr_t k = 0; k < WORKERS; k++)
        CHECK(!pthread_create(&threads[k], NULL, finish, (void *)k), "thread");
    for (int k = 0; k < WORKERS; k++)
        pthread_join(threads[k], NULL);
    OK(dk_member_await(members, 0, WORKERS, DK_LEFT, 0, &slowest));
    CHECK(slowest == DK_LEFT, "%u after all had left", slowest);
    REFUSED(DK_INVALID, "member", dk_member_reach(members, WORKERS, 1));
    REFUSED(DK_INVALID, "members 0 to", dk_member_await(members, 0, WORKERS + 1, 1, 0, &slowest));
    OK(dk_center_close(members));
}

int main(void) {
    all_meet_in_each_round_and_who_leaves_holds_up_nobody();
    a_broken_center_wakes_all_who_wait();
    waits_end_in_time();
    who_left_holds_up_no_member();
    return 0;
}
