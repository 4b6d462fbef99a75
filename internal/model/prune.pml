/*
 * Writers, prunes, an undo and a repair beside each other, on one storage.
 * docs/protocol.md says what the steps (W1, P5, ...) are and why they suffice;
 * model_test.go has SPIN try all orders in which they can happen.
 *
 * There is one chunk, X, and every snapshot needs it. That is enough for all
 * questions of who sees whom: packs with other chunks are independent of it.
 * How several chunks hang together by deltas is in delta.pml.
 *
 * Each statement outside of atomic and d_step is one operation of the storage.
 * A process may stand still before each of its operations for as long as all
 * others take, or for ever. So every crash and every stall is among the orders
 * tried, and no time is in the model.
 *
 * Which world it is, is said with -D:
 *   WRITERS=n PRUNES=n   how many of them
 *   UNDO                 the last writer brings the forgotten snapshot back
 *   LOST                 answers to commits get lost, and commits arrive late
 *   POWER                one loss of power, and what it may do (backend.go)
 *   REPAIR               a repair condemns the first pack
 *   HOSTILE              a stolen key publishes junk as X
 *   FORGET               the first snapshot is forgotten at some time, not from the start
 *   SPARE                P6 spares marking where it may
 *   ALONE                at some time all stop, and one prune does the rest
 * OMIT, a variable of the environment, is a step that is left out.
 */

#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef PRUNES
#define PRUNES 2
#endif
#ifdef ALONE
#define PROVIDED provided (!alone)
#else
#define PROVIDED
#endif

/* The steps that can be left out. model_test.go knows them by number. */
#define NOTHING 0
#define LEASE 1       /* W1 */
#define SEE 2         /* W2: heed condemned */
#define LIST 3        /* W3: count an entry only if its pack is listed */
#define ORDER 4       /* W3 after W2 */
#define FENCECHECK 5  /* W6: create if absent */
#define RENEWCHECK 6  /* a renewed lease compares packs */
#define WAIT 7        /* P4, P5: wait for leases */
#define LEASESAFTER 8 /* P4: list leases after the swap */
#define REMARK 9      /* P6 */
#define LEASESFIRST 10 /* P6: leases before snapshots */
#define CASFINAL 11   /* P6: the swap compares */
#define CASPLAN 12    /* P3: the swap compares with what P0 read */
#define KEEPENDS 13   /* P10: rule E, for fences */
#define KEEPABANDONED 14 /* rule E, for the end after a commit that may still arrive */
#define COPY 15       /* P10: the manifest is copied before its lease goes */
#define VOUCHED 16    /* only what the admin vouches for lets a pack go */
#define CONFIRM 17    /* P4, P5: an end counts when it is durable */
#define CONFIRMCOPY 18 /* P10: a manifest counts when it is durable */
#define CONFIRMTOMB 19 /* P1, P6: a tombstone counts when it is durable */
#define GROW 20       /* whoever adds to the list announces it */
#define UNDOLEASE 21  /* undo is a writer */
#define TOMBSTONES 22 /* P10: tombstones stay, as manifests may arrive late */
#define CASEMPTY 23   /* P9: the swap compares */
#define UNIQUE 24     /* the names of packs never recur */
#define KEEPFINAL 25  /* nobody takes packs off a final list */
#define ADOPT 26      /* P0: a prune finishes what another has left */
#define SAMESET 27    /* P6 spares marking only if no snapshot has come */

c_decl { \#include <stdlib.h> }
byte omit;
#define does(step) (omit != step)

/* Packs are bits. Writer i stores N(i, 0), and N(i, 1) if it has to run again. */
#define FIRST 1
#define N(i, try) (2 << (2*(i) + (try)))
#define R(j) (32 << (j))
#define JUNK 128
#define HOLDX 127
#ifdef REPAIR
#define DAMAGED FIRST /* found so by repair, though X can be read in it */
#else
#define DAMAGED 0
#endif

byte packs = FIRST;   /* that a listing shows */
byte index = FIRST;   /* that segments name */
byte vouched = FIRST; /* that segments of the admin name */
byte made;            /* prunes have stored: a name is used once */
byte gone;            /* deleted, and that not for sure, if the power fails */

/* condemned */
#define EMPTY 0
#define ANNOUNCED 1
#define WAITING 2
#define FINAL 3
byte list, phase, waits;

/* A swap succeeds if nobody else has swapped since one read. Generations say
   that in the storage; a flag for each who might swap says it with less states. */
#define SWAPPERS (PRUNES + 2)
bool fresh[SWAPPERS];
#define REPAIRER PRUNES
#define LAST (PRUNES + 1)

/* Leases are bits: two for each writer. An end is one of: */
#define COMMITTED 1
#define ABANDONED 2
#define FENCED 3
#define LEASES (2*WRITERS)
#define lease(i, try) (2*(i) + (try))
byte begun, flying, durable;
byte end[LEASES];

/* Snapshots are bits. Bit i is that of writer i; OLD was there before. */
#define OLD 128
byte manifests = OLD, safeManifests = OLD;
#ifdef FORGET
byte tombstones, safeTombstones;
#else
byte tombstones = OLD, safeTombstones = OLD;
#endif
byte acknowledged; /* what writers were told that it is there for good */
bool alone;

/* What is durable counts only where the power can fail; elsewhere it would but
   make more states. */
#ifdef POWER
#define mark(set, bits) set = set | (bits)
#define unmark(set, bits) set = set & ~(bits)
#define isDurable(l) ((durable & (1 << (l))) != 0)
#else
#define mark(set, bits) skip
#define unmark(set, bits) skip
#define isDurable(l) true
#endif

#define committedBy(i) ((end[lease(i, 0)] == COMMITTED || end[lease(i, 1)] == COMMITTED) -> (1 << (i)) : 0)
#if WRITERS == 1
#define inLeases (committedBy(0))
#elif WRITERS == 2
#define inLeases (committedBy(0) | committedBy(1))
#else
#error at most two writers
#endif
#define visible ((manifests | inLeases) & ~tombstones)

/* What must always hold: a snapshot that anybody can see has its chunk, and one
   that was acknowledged can be seen, unless it was forgotten. */
inline check() {
	assert(visible == 0 || (packs & HOLDX) != 0);
	assert((acknowledged & ~tombstones & ~visible) == 0)
}

inline swapped(by) {
	for (k : 0 .. SWAPPERS - 1) { fresh[k] = (k == by) }
	k = 0
}

inline putEnd(l, what) { /* and the answer is known */
	end[l] = what; mark(durable, 1 << (l))
}

/* pick chooses one bit of set. */
inline pick(set, one) {
	one = 1;
	do
	:: (set & one) != 0 -> break
	:: (set & ~(one | (one - 1))) != 0 -> one = one << 1
	od
}

proctype Writer(byte i) PROVIDED {
	byte see, have, used, try;
	bool lost; /* an answer; one in each run is enough */
	bool isUndo = false;
#ifdef UNDO
	isUndo = (i == WRITERS - 1);
	(tombstones & manifests & OLD) != 0; /* the user wants it back, and finds it */
#endif

W1:	atomic { if
		:: does(LEASE) && (!isUndo || does(UNDOLEASE)) -> begun = begun | (1 << lease(i, try))
		:: else
		fi;
		if
		:: does(ORDER) || try > 0
		:: else -> goto W3first
		fi
	}
	see = ((does(SEE) && (!isUndo || does(UNDOLEASE))) -> list : 0); /* W2 */
	atomic { /* W3 */
		have = packs & ~see;
		if
		:: try > 0 && does(RENEWCHECK) && (used & have) != used -> goto W4
		:: try > 0 && !(does(RENEWCHECK) && (used & have) != used) -> have = 0; see = 0; goto W6
		:: try == 0 -> goto W4
		fi
	}
W3first: have = packs;
	atomic { see = (does(SEE) -> list : 0); have = have & ~see };

W4:	atomic { /* whoever knows the signer of junk does not rely on it */
		have = (does(LIST) -> have & index : index & ~see) & ~JUNK;
		used = 0; see = 0;
		if
		:: have != 0 -> pick(have, used); have = 0; goto W6
		:: have == 0 && isUndo -> goto done
		:: have == 0 && !isUndo
		fi
	}
	atomic { used = N(i, try); packs = packs | used }; /* W5 */
	index = index | used;

W6:	atomic { if
		:: does(FENCECHECK) && end[lease(i, try)] != 0 && end[lease(i, try)] != COMMITTED -> /* it was fenced */
			if
			:: try == 0 && !lost -> try = 1; goto W1
			:: else -> goto done /* exit status 11 */
			fi
		:: !does(FENCECHECK) || end[lease(i, try)] == 0 || end[lease(i, try)] == COMMITTED ->
			putEnd(lease(i, try), COMMITTED); acknowledged = acknowledged | (1 << i); used = 0; check()
#ifdef LOST
		/* Done and reported as failed: it asks again. */
		:: end[lease(i, try)] == 0 && !lost -> putEnd(lease(i, try), COMMITTED); lost = true; check(); goto W6
		/* Not done yet and reported as failed: it asks again, or gives up. */
		:: end[lease(i, try)] == 0 && !lost -> flying = flying | (1 << lease(i, try)); lost = true; goto W6
		:: end[lease(i, try)] == 0 && !lost -> flying = flying | (1 << lease(i, try)); goto giveUp
#endif
#ifdef POWER
		/* Others see it before it is durable. If it has vanished then, it asks again. */
		:: end[lease(i, try)] == 0 && !lost -> end[lease(i, try)] = COMMITTED; unmark(durable, 1 << lease(i, try)); lost = true; goto W6
#endif
		fi
	}

W7:	manifests = manifests | (1 << i);
#ifdef POWER
	atomic { manifests = manifests | (1 << i); mark(safeManifests, 1 << i) }
#endif
W8:	begun = begun & ~(1 << lease(i, try));
	atomic { end[lease(i, try)] = 0; check(); goto done };

#ifdef LOST
giveUp:	atomic { if
		:: end[lease(i, try)] == 0 -> putEnd(lease(i, try), ABANDONED)
		:: else -> goto done
		fi
	}
	atomic {
		begun = begun & ~(1 << lease(i, try));
		if
		:: does(KEEPABANDONED)
		:: else -> end[lease(i, try)] = 0
		fi
	};
#endif
done:	atomic { see = 0; have = 0; used = 0; try = 0; lost = false }
}

#ifdef LOST
/* Commits that are on their way arrive at any time. */
proctype Network() PROVIDED {
	byte l;
	do
	:: d_step { flying != 0 ->
		l = 0;
		do
		:: (flying & (1 << l)) != 0 -> break
		:: else -> l++
		od;
		flying = flying & ~(1 << l);
		if
		:: end[l] == 0 -> putEnd(l, COMMITTED); check()
		:: else
		fi;
		l = 0 }
	od
}
#endif

/* need becomes the set of snapshots. Tombstones are read last. */
inline readTombstones() {
	if
	:: does(CONFIRMTOMB) -> mark(safeTombstones, tombstones)
	:: else
	fi;
	need = need & ~tombstones
}

/* What a prune has planned to go, for which snapshots. */
#ifdef SPARE
#define remember(what, set) what = set
#define canSpare(l, need) ((l & ~planned) == 0 && ((need & ~was) == 0 || !does(SAMESET)))
#else
#define remember(what, set) skip
#define canSpare(l, need) false
#endif

/* prune is P0 to P10 of prune j, which may store one pack. */
inline prune(j, mine) {
	atomic { /* P0 */
		fresh[j] = true; l = list;
		if
		:: phase == EMPTY
		:: phase != EMPTY && !does(ADOPT) -> l = 0; goto P10
		:: phase == ANNOUNCED && does(ADOPT) -> goto P4
		:: phase == WAITING && does(ADOPT) -> goto P5
		:: phase == FINAL && does(ADOPT) && does(KEEPFINAL) -> goto P7
		:: phase == FINAL && !does(KEEPFINAL) -> goto P6 /* it marks, and takes packs off */
		fi
	}
	atomic { /* P1: a plan. What is safe is decided in P6 only. */
		need = inLeases | manifests; readTombstones();
		remember(was, need);
		vouched = vouched | (does(VOUCHED) -> packs & HOLDX & ~wary & ~DAMAGED : 0);
		l = packs & (does(VOUCHED) -> vouched : 255);
		if
		:: need == 0 -> l = packs
		:: need != 0 && l != 0 -> pick(l, p); l = packs & ~p; p = 0 /* it keeps one home */
		:: need != 0 && l != 0 && (mine & ~made) != 0 -> l = packs; p = 255 /* or makes one */
		:: need != 0 && l == 0
		fi;
		need = 0; remember(planned, l);
		if
		:: l == 0 -> goto P10
		:: l != 0 && p == 0 -> goto P3
		:: l != 0 && p != 0 -> p = 0
		fi
	}
	atomic { packs = packs | mine; made = made | (does(UNIQUE) -> mine : 0) }; /* P2 */
	atomic { index = index | mine; vouched = vouched | mine };

P3:	atomic {
		if
		:: does(LEASESAFTER)
		:: else -> listLeases()
		fi;
		if
		:: fresh[j] || !does(CASPLAN) -> list = l; phase = ANNOUNCED; waits = 0; swapped(j)
		:: !fresh[j] && does(CASPLAN) -> l = 0; p = 0; remember(planned, 0); goto again
		fi
	}
P4:	atomic {
		if
		:: does(LEASESAFTER) -> listLeases()
		:: else
		fi
	}
	atomic {
		if
		:: fresh[j] -> waits = waits | p; phase = WAITING; swapped(j); p = 0
		:: !fresh[j] -> l = 0; p = 0; goto again
		fi
	}
P5:	atomic {
		if
		:: fresh[j] -> p = waits
		:: !fresh[j] -> l = 0; goto again
		fi;
		if
		:: p == 0 -> goto P6
		:: else
		fi
	}
	do
	:: atomic { p != 0 -> first(p, k); p = p & ~(1 << k);
		if
		:: (begun & (1 << k)) == 0
		:: (begun & (1 << k)) != 0 && end[k] == 0 -> putEnd(k, FENCED)
		:: (begun & (1 << k)) != 0 && end[k] != 0 && !does(CONFIRM)
		:: (begun & (1 << k)) != 0 && end[k] != 0 && does(CONFIRM) -> mark(durable, 1 << k)
		fi;
		k = 0;
		if
		:: p == 0 -> goto P6
		:: else
		fi }
	od;
P6:	atomic { if
		:: does(LEASESFIRST) -> need = inLeases
		:: else -> need = manifests
		fi
	}
	d_step {
		if
		:: does(LEASESFIRST) -> need = need | manifests
		:: else -> need = need | inLeases
		fi;
		readTombstones();
		if
		:: canSpare(l, need) -> need = 0
		:: else
		fi;
		if
		:: need != 0 && does(REMARK) && !does(VOUCHED) && (packs & ~l) == 0 -> l = 0
		:: need != 0 && does(REMARK) && does(VOUCHED) && (packs & vouched & ~l) == 0 ->
			l = ((packs & vouched & l) != 0 -> l & ~vouched : 0)
		:: else
		fi;
		need = 0
	}
	atomic {
		if
		:: fresh[j] || !does(CASFINAL) -> list = l; phase = FINAL; waits = 0; swapped(j)
		:: !fresh[j] && does(CASFINAL) -> l = 0; goto again
		fi
	}
P7:	atomic { index = index & ~l; vouched = vouched & ~l };
	d_step { mark(gone, packs & l); packs = packs & ~l; check() }; /* P8 */
	d_step { l = 0; /* P9 */
		if
		:: fresh[j] || !does(CASEMPTY) -> list = 0; phase = EMPTY; waits = 0; swapped(j)
		:: !fresh[j] && does(CASEMPTY) -> skip
		fi
	}
P10:	atomic { l = 0; p = 0;
		for (k : 0 .. LEASES - 1) {
			if
			:: end[k] == COMMITTED || (end[k] != 0 && ((begun & (1 << k)) != 0 || !does(KEEPENDS))) -> p = p | (1 << k)
			:: else
			fi
		}
		k = 0;
		if
		:: p == 0 -> goto rest
		:: else
		fi
	}
	do
	:: atomic { p != 0 -> first(p, k); /* it reads the end, and copies the manifest */
		readTombstones();
		if
		:: end[k] != 0 && does(CONFIRM) -> mark(durable, 1 << k)
		:: else
		fi;
		need = end[k];
		if
		:: end[k] == COMMITTED && does(COPY) && (tombstones & (1 << (k / 2))) == 0 ->
			if
			:: does(CONFIRMCOPY) || (manifests & (1 << (k / 2))) == 0 -> mark(safeManifests, 1 << (k / 2))
			:: else
			fi;
			manifests = manifests | (1 << (k / 2))
		:: else
		fi;
		k = 0 }
		atomic { first(p, k); p = p & ~(1 << k); /* and deletes what is done with */
		if
		:: need != 0 -> begun = begun & ~(1 << k)
		:: else
		fi;
		if
		:: need == COMMITTED -> end[k] = 0
		:: need == FENCED && !does(KEEPENDS) -> end[k] = 0
		:: else
		fi;
		need = 0; k = 0; check();
		if
		:: p == 0 -> goto rest
		:: else
		fi }
	od;
rest:	atomic { readTombstones(); need = 0; remember(planned, 0); remember(was, 0); manifests = manifests & ~tombstones; unmark(safeManifests, tombstones);
		if
		:: does(TOMBSTONES)
		:: else -> tombstones = 0
		fi
	}
}

inline first(set, at) {
	at = 0;
	do
	:: (set & (1 << at)) != 0 -> break
	:: else -> at++
	od
}

/* listLeases lists those that have a begin, but for those that have ended. */
inline listLeases() {
	p = begun;
	for (k : 0 .. LEASES - 1) {
		if
		:: end[k] != 0 && (!does(CONFIRM) || isDurable(k)) -> p = p & ~(1 << k)
		:: else
		fi
	}
	k = 0;
	if
	:: does(WAIT)
	:: else -> p = 0
	fi
}

proctype Prune(byte j) PROVIDED {
	byte l, p, need, k;
#ifdef SPARE
	byte planned, was;
#endif
	byte wary = 0;
#ifdef HOSTILE
	if
	:: wary = 255 /* reads nothing, and vouches for nothing */
	:: wary = 0
	fi;
#endif
again:	prune(j, R(j));
	goto again
}

#ifdef FORGET
/* All that can be seen at one time is forgotten. */
proctype Forget() PROVIDED {
	atomic { tombstones = tombstones | manifests | inLeases; acknowledged = acknowledged & ~tombstones };
#ifdef POWER
	atomic { mark(safeTombstones, tombstones) }
#endif
}
#endif

#ifdef POWER
/* The power fails once, at any time. What was not durable vanishes or stays, and
   what was deleted stays away or comes back; of either the worst is tried. */
proctype Power() PROVIDED {
	byte k;
	atomic {
		for (k : 0 .. LEASES - 1) {
			if
			:: (durable & (1 << k)) == 0 -> end[k] = 0
			:: else
			fi
		}
		manifests = manifests & safeManifests;
		tombstones = tombstones & safeTombstones;
#if PRUNES == 1 /* section 9: not while another prune may delete it once more */
		if
		:: packs = packs | gone
		:: skip
		fi;
#endif
		k = 0;
		check()
	}
}
#endif

#ifdef HOSTILE
proctype Hostile() PROVIDED {
	packs = packs | JUNK;
	index = index | JUNK
}
#endif

#ifdef REPAIR
proctype Repair() PROVIDED {
	byte p, k;
	(packs & FIRST) != 0;
	packs = packs | R(1);
	d_step { index = (index | R(1)) & ~DAMAGED; vouched = (vouched | R(1)) & ~DAMAGED };
	do
	:: atomic { phase != FINAL -> fresh[REPAIRER] = true }
		if
		:: atomic { fresh[REPAIRER] -> list = list | DAMAGED; phase = (does(GROW) -> ANNOUNCED : WAITING); swapped(REPAIRER) }; break
		:: !fresh[REPAIRER] -> skip /* somebody swapped: again */
		fi
	:: phase == FINAL -> goto done
	od;
	atomic { listLeases() };
	atomic { if
		:: fresh[REPAIRER] -> waits = waits | p; phase = WAITING; swapped(REPAIRER)
		:: else
		fi
	};
done:	p = 0
}
#endif

#ifdef ALONE
/* All others stop where they are, and one prune finishes. It may take two rounds. */
proctype Finish() {
	byte l, p, need, k, rounds;
	byte wary = 0;
	alone = true;
again:	if
	:: rounds == 3 -> goto finished
	:: else -> rounds++
	fi;
	prune(LAST, 0);
	goto again;
finished:
	atomic {
		assert(phase == EMPTY);
		assert(visible != 0 || packs == 0);
		assert((packs & (packs - 1)) == 0);
		assert(inLeases == 0)
	}
}
#endif

init {
	c_code { { char *v = getenv("OMIT"); now.omit = v ? atoi(v) : 0; } };
	atomic {
		run Writer(0);
#if WRITERS > 1
		run Writer(1);
#endif
		run Prune(0);
#if PRUNES > 1
		run Prune(1);
#endif
#ifdef LOST
		run Network();
#endif
#ifdef FORGET
		run Forget();
#endif
#ifdef POWER
		run Power();
#endif
#ifdef HOSTILE
		run Hostile();
#endif
#ifdef REPAIR
		run Repair();
#endif
#ifdef ALONE
		run Finish()
#endif
	}
}
