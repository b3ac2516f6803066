/* Blocks on their way to their owner: inbox.hpp, cache.hpp, cache_pool.hpp.
 *
 *   inline send        inbox::send(): load of the head, link of the last block, compare-exchange; here
 *                      the inbox has a single list: they are all used alike, each by itself
 *   inline collect     cache::collect(): exchange with null, then the walk, under the cache's lock
 *   proctype freer     a thread that leases the cache `mine`, posts blocks [member::post(), flush(),
 *                      which looks into the owner's cache if nobody holds it] and ends its lease
 *                      [flush_all(), unlock()]; two of them have the cache after each other
 *   proctype stranger  a thread without a lease, or of another pool: sends a single block
 *   proctype user      is given blocks that the owner has allocated anew and sends them again: the
 *                      same address comes back while others are between load and exchange (ABA)
 *   proctype owner     leases `home`, collects, allocates what came, ends its lease; twice
 *
 * Proved: a block that is collected was sent, and once; at the end every block is with its owner;
 * no deadlock.
 *
 * Mutations, each of which must be an error:
 *   COLLECT_LOAD_THEN_STORE  collect takes the chain by a load and a store
 *   SEND_LOAD_THEN_STORE     send sets the head by a store
 *   LINK_AFTER               send links the last block after the compare-exchange
 *   LINK_ONCE                send does not link the last block again after a compare-exchange failed
 *   UNLOCK_BEFORE_FLUSH      end_lease() unlocks, then empties its outboxes
 *   NO_FLUSH                 end_lease() leaves its outboxes as they are
 */
#ifdef LIVENESS
#define BLOCKS 3
#else
#define BLOCKS 4
#endif
#define NONE BLOCKS /* null */
#define BUNDLE 2    /* Footprint::outbox_blocks */

mtype = { live, sent, collected };
mtype state[BLOCKS];
byte next_of[BLOCKS];
byte inbox = NONE;
bit home_held;
bit mine_held;

/* the outbox for `home` in the cache `mine` */
byte box_first = NONE;
byte box_last = NONE;
byte box_count;

chan anew = [1] of { byte }; /* blocks allocated again, on their way to `user` */
bit owner_is_through;
byte finished;

inline lock(l) { atomic { l == 0; l = 1 } }

inline send(first, last)
{
    head = inbox;
#ifdef LINK_ONCE
    next_of[last] = head;
#endif
    do
    ::
#if !defined(LINK_AFTER) && !defined(LINK_ONCE)
        next_of[last] = head;
#endif
#ifdef SEND_LOAD_THEN_STORE
        inbox = first;
        break
#else
        atomic {
            if
            :: inbox == head -> inbox = first; exchanged = 1
            :: else -> head = inbox; exchanged = 0
            fi
        }
        if
        :: exchanged ->
#ifdef LINK_AFTER
            next_of[last] = head;
#endif
            break
        :: else
        fi
#endif
    od
}

/* Requires: the lock of `home` is held. What was taken out is nobody else's: one step. */
inline collect()
{
#ifdef COLLECT_LOAD_THEN_STORE
    head = inbox;
    inbox = NONE;
#else
    atomic { head = inbox; inbox = NONE }
#endif
    atomic {
        do
        :: head == NONE -> break
        :: else ->
            assert(state[head] == sent);
            state[head] = collected;
            head = next_of[head]
        od
    }
}

/* member::flush() */
inline flush()
{
    atomic { first = box_first; last = box_last }
    send(first, last);
    atomic { box_first = NONE; box_last = NONE; box_count = 0 }
    atomic { exchanged = !home_held; home_held = 1 }
    if
    :: exchanged -> collect(); home_held = 0
    :: else
    fi
}

proctype freer(byte from; byte count)
{
    byte head, first, last, b;
    bit exchanged;
    lock(mine_held);
    for (b : from .. from + count - 1) {
        atomic { /* member::post() */
            state[b] = sent;
            next_of[b] = box_first;
            if
            :: box_first == NONE -> box_last = b
            :: else
            fi;
            box_first = b;
            box_count++
        }
        if
        :: box_count >= BUNDLE -> flush()
        :: else
        fi
    }
#ifdef UNLOCK_BEFORE_FLUSH
    mine_held = 0;
#endif
#ifndef NO_FLUSH
    if
    :: box_first != NONE -> flush()
    :: else
    fi;
#endif
#ifndef UNLOCK_BEFORE_FLUSH
    mine_held = 0;
#endif
    atomic { head = 0; first = 0; last = 0; b = 0; exchanged = 0; finished++ }
}

proctype stranger(byte b)
{
    byte head;
    bit exchanged;
    state[b] = sent;
    send(b, b);
    atomic { head = 0; b = 0; exchanged = 0; finished++ }
}

proctype user()
{
    byte head, b;
    bit exchanged;
    do
    :: anew ? b -> state[b] = sent; send(b, b)
    :: owner_is_through && len(anew) == 0 -> break
    od;
    atomic { head = 0; b = 0; exchanged = 0; finished++ }
}

proctype owner()
{
    byte head, round, b;
    for (round : 0 .. 1) {
        lock(home_held);
        collect();
        atomic { /* allocates one block that came */
            for (b : 0 .. BLOCKS - 1) {
                if
                :: state[b] == collected && len(anew) == 0 -> state[b] = live; anew ! b
                :: else
                fi
            }
            b = 0
        }
        home_held = 0
    }
    atomic { owner_is_through = 1; finished++ }
}

init {
    byte b, head;
    atomic {
        for (b : 0 .. BLOCKS - 1) { state[b] = live }
        run stranger(0);
        run freer(1, 1);
        run freer(2, BLOCKS - 2);
        run user();
        run owner()
    }
    finished == 5;
    lock(home_held);
    collect();
    for (b : 0 .. BLOCKS - 1) { assert(state[b] == collected) }
}

ltl gets_on { <> (finished == 5) }
