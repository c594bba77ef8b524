/* books.h: after a death, what the slot and the leases say of the exchange, compared with what the stripes hold. */
#ifndef DKCORE_BOOKS_H
#define DKCORE_BOOKS_H

#include "aftermath.h"

/* Stripes that have all of the exchange, and whether another has a part of it. */
typedef struct held {
    uint64_t whole;
    int part;
} held;

static inline held held_by_stripes(const world *world, const int *in) {
    held held = {0, 0};
    for (int s = 0; s < STRIPES; s++) {
        int blind = world->scenario->undo == DK_UNDO_NONE; /* then `in` is not known */
        int whole = blind ? split_at(world, s, STRIPE) : in[s] == STRIPE, none = blind ? split_at(world, s, 0) : in[s] == 0;
        held.whole += (uint64_t)whole;
        held.part |= !whole && !none;
    }
    return held;
}

static inline void check_place(const dk_slot_view *view, uint64_t n) {
    dk_place place = place_after(view->exchanges), next = place_after(view->exchanges + 1);
    CHECK(view->exchanges == n || view->exchanges == n + 1, "%d exchanges, of %d", (int)view->exchanges, (int)n);
    CHECK(view->begun == view->exchanges || view->begun == n + 1, "number %d was begun, of %d", (int)view->begun, (int)view->exchanges);
    CHECK(!memcmp(&view->place, &place, sizeof place), "the place of exchange %d, epoch %d", (int)view->exchanges, (int)view->place.epoch);
    if (view->begun == view->exchanges + 1)
        CHECK(!memcmp(&view->next, &next, sizeof next), "the next place, of exchange %d", (int)view->begun);
}

/* What the slot says of the stripes. Where nothing is undone it may say that it does not know, of one of them. */
static inline void check_slot(const world *world, const held *held, const dk_slot_view *view, int killed) {
    int begun = view->begun == world->number + 1, counted = view->exchanges == world->number + 1;
    check_place(view, world->number);
    CHECK(killed || counted, "it ended, and its exchange is not counted");
    CHECK(begun || (!held->whole && !held->part), "some of an exchange is in that was not begun");
    CHECK(!counted || held->whole == STRIPES, "the exchange is counted, and %d stripes have it", (int)held->whole);
    if (!begun)
        return;
    int unknown = world->scenario->undo == DK_UNDO_NONE && view->in_part;
    CHECK(unknown || view->in_part == (uint64_t)held->part, "a part is in: %d; the slot says %d", held->part, (int)view->in_part);
    CHECK(view->stripes_in == held->whole || (unknown && view->stripes_in + 1 == held->whole), "%d stripes have it; the slot says %d",
          (int)held->whole, (int)view->stripes_in);
}

/* Each batch is settled, or waits, and nothing is both or neither: so tickets that are not settled are those that were not, and those
 * leased since, but without those that the exchange settles. It does if all stripes have it whole. If some have some of it, it counts as
 * if. */
static inline void check_leases(const world *world, const held *held, int doubt) {
    uint64_t now[TICKETS], due[TICKETS], count = 0, was = world->leases.held + world->leases.waiting;
    dk_leases leases;
    uint64_t left = unsettled(world, now, &leases), settles = held->whole || doubt ? SETTLES : 0;
    int doubtful = doubt || (held->whole && held->whole < STRIPES);
    for (uint64_t i = 0; i < was; i++)
        due[count++] = world->unsettled[i];
    for (uint64_t ticket = world->leases.next; ticket < leases.next && count < TICKETS; ticket++)
        due[count++] = ticket;
    CHECK(count - settles == left, "%d batches are held or wait, of %d, and %d are settled", (int)left, (int)count, (int)settles);
    CHECK(!memcmp(now, due + settles, left * sizeof *now), "batches are held or wait that should not");
    CHECK(!leases.held, "%d batches are held by nobody", (int)leases.held);
    CHECK(leases.doubtful - world->leases.doubtful == (uint64_t)doubtful * SETTLES, "%d batches are doubtful",
          (int)(leases.doubtful - world->leases.doubtful));
}

/* in: elements of each stripe that are in. A newcomer shows itself in the slot. */
static inline void check_books(const world *world, const int *in, int killed) {
    held held = held_by_stripes(world, in);
    int doubt = held.part;
    if (world->scenario->survivor != NEWCOMER) {
        dk_slot_view view;
        OK(dk_center_slot(world->center, 0, &view));
        check_slot(world, &held, &view, killed);
        doubt = view.begun == world->number + 1 && view.in_part;
    }
    check_leases(world, &held, doubt);
}

#endif
