/*
 * What prune must mark where chunks are stored as deltas.
 *
 * There are two chunks, D and B. Each can be stored in full, and as a delta
 * against the other; a delta's base is always a full copy, never itself a delta.
 * One snapshot needs D and the other B, and nothing else needs either. So every
 * copy that goes can be the last, and two deltas against each other look like
 * two copies, but nothing can be read from them.
 *
 * With -DTWO each delta has a second base too, a third chunk that is stored in full,
 * once, and that nobody needs otherwise.
 *
 * Writers, leases and the list are those of prune.pml, without what has been
 * shown there. OMIT is a step that is left out, as there.
 */

#define NOTHING 0
#define NEEDEDFULL 1  /* who stays as a delta makes a full copy of its base stay */
#define REMARK 2      /* P6 */
#define BASEUSED 3    /* a writer relies on the base's pack as on the delta's */
#define BASEFULL 4    /* P6: a delta whose base is nowhere in full is no copy */
#define RENEWCHECK 5  /* a renewed lease compares packs */
#define WAIT 6        /* P4, P5 */
#define EACHBASE 7    /* all of this holds for the second base as for the first */

c_decl { \#include <stdlib.h> }
byte omit;
#define does(step) (omit != step)

/* Packs are bits, each with one frame: of chunk c in full or as a delta. The
   first four are there at the beginning, writer c may store one of the others. The last
   bit is the pack with the second base. */
#ifdef TWO
#define bits short
#define second() 256
#define alsoIn(set) (!does(EACHBASE) || (set & 256) != 0)
#define mustStay() (does(EACHBASE) -> 256 : 0)
#else
#define bits byte
#define second() 0
#define alsoIn(set) true
#define mustStay() 0
#endif
#define full(c) ((1 << (c)) | (16 << (c)))
#define delta(c) ((4 << (c)) | (64 << (c)))
#define other(c) (1 - (c))

bits packs = 15;
bits list;
byte waits;
bool begun[4];
byte end[4]; /* leases 2*c and 2*c+1 are those of writer c */
#define COMMITTED 1
#define FENCED 2
byte manifests;
byte gone;

/* Whether chunk c can be read from a set of packs. */
#define readable(c, set) (((set) & full(c)) != 0 || \
	(((set) & delta(c)) != 0 && ((set) & full(other(c))) != 0 && ((set) & second()) == second()))

inline check() {
	assert((manifests & 1) == 0 || readable(0, packs));
	assert((manifests & 2) == 0 || readable(1, packs))
}

inline pick(set, one) {
	one = 1;
	do
	:: (set & one) != 0 -> break
	:: (set & ~(one | (one - 1))) != 0 -> one = one << 1
	od
}

/* Writer c makes a snapshot that needs chunk c. */
proctype Writer(byte c) {
	bits have, used, one;
	byte try;

W1:	begun[2*c + try] = true;
	atomic { have = packs & ~list; /* W2, W3 */
		if
		:: try == 0 || (does(RENEWCHECK) && (used & have) != used) -> used = 0
		:: try > 0 && !(does(RENEWCHECK) && (used & have) != used) -> goto W6
		fi
	}
	atomic { /* W4, W5 */
		if
		:: (have & full(c)) != 0 -> pick((have & full(c)), used)
		:: (have & delta(c)) != 0 && (have & full(other(c))) != 0 && alsoIn(have) ->
			pick((have & delta(c)), used);
			if
			:: does(BASEUSED) -> pick((have & full(other(c))), one); used = used | one | mustStay()
			:: else
			fi
		:: (16 << c & (packs | gone)) == 0 && ((have & (full(other(c)) | delta(c))) == 0 || !alsoIn(have)) -> used = 16 << c; packs = packs | used
		:: (64 << c & (packs | gone)) == 0 && (have & full(other(c))) != 0 && alsoIn(have) ->
			used = 64 << c; packs = packs | used;
			if
			:: does(BASEUSED) -> pick((have & full(other(c))), one); used = used | one | mustStay()
			:: else
			fi
		:: else -> goto done
		fi;
		one = 0
	}
W6:	atomic { have = 0;
		if
		:: end[2*c + try] == 0 -> end[2*c + try] = COMMITTED; manifests = manifests | (1 << c); check()
		:: end[2*c + try] != 0 && try == 0 -> try = 1; goto W1
		:: end[2*c + try] != 0 && try == 1
		fi
	}
done:	atomic { used = 0; try = 0; have = 0 }
}

/* suffices says whether chunk c can stay out of mind if only the packs of keep
   stay: by prune's rule, or by a wrong one, for which a delta is a copy as good
   as any, and its base is a chunk that is needed like others. */
#define copy(c, keep) ((keep & (full(c) | delta(c))) != 0)
#define isDelta(c, keep) ((keep & full(c)) == 0)
#define suffices(c, keep) (does(NEEDEDFULL) \
	-> (copy(c, keep) && (!isDelta(c, keep) || ((keep & full(other(c))) != 0 && alsoIn(keep)))) \
	: (copy(c, keep) && (!isDelta(c, keep) || (copy(other(c), keep) && alsoIn(keep)))))

/* rescue takes packs off the list, such that chunk c can be read. A delta whose
   base is nowhere in full is no copy. */
#define whole(c) (does(BASEFULL) -> ((packs & full(other(c))) != 0 && alsoIn(packs)) : true)
inline rescue(c) {
	if
	:: suffices(c, (packs & ~l))
	:: !suffices(c, (packs & ~l)) && does(NEEDEDFULL) ->
		if
		:: copy(c, (packs & ~l)) && whole(c) /* a delta */
		:: !(copy(c, (packs & ~l)) && whole(c)) -> l = l & ~(full(c) | delta(c))
		fi;
		if
		:: isDelta(c, (packs & ~l)) -> l = l & ~mustStay();
			if
			:: (packs & ~l & full(other(c))) == 0 -> l = l & ~full(other(c))
			:: else
			fi
		:: else
		fi
	:: !suffices(c, (packs & ~l)) && !does(NEEDEDFULL) ->
		if
		:: copy(c, (packs & ~l)) -> l = l & ~(full(other(c)) | delta(other(c)) | mustStay())
		:: else -> l = l & ~(full(c) | delta(c))
		fi
	fi
}

#define canGo(one) ((packs & ~l & one) != 0 && \
	((need & 1) == 0 || suffices(0, (packs & ~(l | one)))) && ((need & 2) == 0 || suffices(1, (packs & ~(l | one)))))

proctype Prune() {
	bits l;
	byte need, k;
	do
	:: atomic { /* P1: all packs but some that suffice; with -DANY, any packs but those */
		need = manifests; l = 0;
		do
		:: canGo(1) -> l = l | 1
		:: canGo(2) -> l = l | 2
		:: canGo(4) -> l = l | 4
		:: canGo(8) -> l = l | 8
		:: canGo(16) -> l = l | 16
		:: canGo(32) -> l = l | 32
		:: canGo(64) -> l = l | 64
		:: canGo(128) -> l = l | 128
#ifdef TWO
		:: canGo(256) -> l = l | 256
#endif
		:: else -> break
#ifdef ANY
		:: l != 0 -> break
#endif
		od;
		need = 0;
		l != 0 }
		atomic { list = l; waits = 0; /* P3, P4 */
			for (k : 0 .. 3) {
				if
				:: does(WAIT) && begun[k] && end[k] == 0 -> waits = waits | (1 << k)
				:: else
				fi
			}
			k = 0
		}
		do /* P5 */
		:: waits == 0 -> break
		:: atomic { waits != 0 -> k = 0;
			do
			:: (waits & (1 << k)) != 0 -> break
			:: else -> k++
			od;
			waits = waits & ~(1 << k);
			if
			:: end[k] == 0 -> end[k] = FENCED
			:: else
			fi;
			k = 0 }
		od;
		atomic { /* P6 */
			need = manifests;
			if
			:: does(REMARK) && (need & 1) != 0 -> rescue(0)
			:: else
			fi;
			if
			:: does(REMARK) && (need & 2) != 0 -> rescue(1)
			:: else
			fi;
			need = 0; list = l
		}
		atomic { packs = packs & ~l; gone = gone | (l & 240); l = 0; check() }; /* P8 */
		list = 0 /* P9 */
	od
}

init {
	c_code { { char *v = getenv("OMIT"); now.omit = v ? atoi(v) : 0; } };
	atomic {
		/* Which of the packs there are. */
		if
		:: packs = 15 | second()
		:: packs = 3 | second()
		:: packs = 7 | second()
		fi;
		run Writer(0); run Writer(1); run Prune()
	}
}
