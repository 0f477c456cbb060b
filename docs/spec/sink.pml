/*
 * The sink of one changefeed with two keys: owner 1 runs one dispatcher over both keys, then splits; owner 2 takes over.
 * Every Place may be late, also after the takeover and after a pause. A write's answer may be lost, and its copy may
 * arrive late. Each key has changes at positions 1 … LAST, and each must be applied once, in order.
 * README.md says where each action is in the code.
 *
 * Fences, each removed by a define of its name: NO_F22_FLOOR, NO_F22_TOKEN, NO_F23 (a write isn't compared), TOKEN_ONLY (it
 * is compared with the token), NO_RECLAIM (after a lost answer the writer goes on without claiming again), READ_FIRST
 * (positions are read before the claim), NO_F26_START (the new owner doesn't raise the floor), NO_F26_PAUSE.
 */
#define KEYS   2
#define LAST   2
#define CLAIMS(t) ((t) == 0 -> 2 : 1)

/* dispatchers, in order of their tokens: 1.1 both keys, 1.2 key 1, 2.1 both keys; the first claims up to twice */
#define TOKENS 3
#define EPOCH(t) ((t) < 2 -> 1 : 2)
#define COVERS(t, k) ((t) != 1 || (k) == 1)

#ifdef NO_F22_FLOOR
#define F22_FLOOR(t) true
#else
#define F22_FLOOR(t) (EPOCH(t) >= floor || holds(t))
#endif
#ifdef NO_F22_TOKEN
#define F22_TOKEN(t) true
#else
#define F22_TOKEN(t) ((!COVERS(t, 0) || token[0] <= (t) + 1) && (!COVERS(t, 1) || token[1] <= (t) + 1))
#endif
/* that very token holds its whole span already */
#define holds(t) ((!COVERS(t, 0) || (token[0] == (t) + 1 && writer[0] != 0)) && (!COVERS(t, 1) || (token[1] == (t) + 1 && writer[1] != 0)))

#ifdef NO_F23
#define F23(t, n) true
#else
#ifdef TOKEN_ONLY
#define F23(t, n) ((!COVERS(t, 0) || token[0] == (t) + 1) && (!COVERS(t, 1) || token[1] == (t) + 1))
#else
#define F23(t, n) ((!COVERS(t, 0) || writer[0] == (n)) && (!COVERS(t, 1) || writer[1] == (n)))
#endif
#endif

/* the sink: the head's floor; by key: position, token (plus one; 0: never claimed) and the incarnation that may write */
byte floor = 1, incarnations;
byte position[KEYS], token[KEYS], writer[KEYS];

byte owner = 1; /* 2 after the takeover */
bool begun;     /* owner 2 has begun to adopt and place */
bool stopped[TOKENS], unknown[TOKENS];
byte claims[TOKENS];
bool released;  /* owner 1 paused: what it stored as final is final */

/* by token a write that is sent, and, TOKENS further on, one whose copy is on its way for long */
typedef Write {
	bool sent;
	byte incarnation;
	byte after[KEYS]; /* the positions that it follows: it carries the next change of each key that has one */
};
Write write[2 * TOKENS];
#define NEXT(i, k) (write[i].after[k] < LAST)

/* what only the properties look at: how far each key's changes were applied, and the highest token that claimed it */
byte applied[KEYS], newest[KEYS];

/* data and positions in one step */
inline commit(t, i) {
	ok = F23(t, write[i].incarnation);
	if
	:: ok ->
		/* after a pause nothing comes from the epoch that was released */
		assert(!(released && EPOCH(t) == 1));
		if
		:: COVERS(t, 0) && NEXT(i, 0) ->
			/* a stale owner has no effect where a newer one has claimed */
			assert(newest[0] <= t + 1);
			/* each change once, in order */
			assert(applied[0] == write[i].after[0]);
			applied[0]++; position[0] = applied[0]
		:: else
		fi;
		if
		:: COVERS(t, 1) && NEXT(i, 1) ->
			assert(newest[1] <= t + 1);
			assert(applied[1] == write[i].after[1]);
			applied[1]++; position[1] = applied[1]
		:: else
		fi
	:: else
	fi
}

inline forget(i) {
	write[i].sent = false; write[i].incarnation = 0; write[i].after[0] = 0; write[i].after[1] = 0
}

inline send(i) {
	write[i].sent = true; write[i].incarnation = incarnation;
	write[i].after[0] = have[0]; write[i].after[1] = have[1]
}

#define LEFT(t) ((COVERS(t, 0) && have[0] < LAST) || (COVERS(t, 1) && have[1] < LAST))

#ifdef READ_FIRST
#define READ read
#else
#define READ true
#endif

proctype dispatcher(byte me) {
	byte incarnation;
	byte have[KEYS]; /* what the claim answered, and what was written since */
	bool claimed, over, ok, read;

end:	do
#ifdef READ_FIRST
	:: atomic { !claimed && !read && !over && !stopped[me] -> have[0] = position[0]; have[1] = position[1]; read = true }
#endif
	:: atomic { !claimed && READ && !over && !stopped[me] && claims[me] < CLAIMS(me) && (EPOCH(me) == 1 || begun) ->
		claims[me]++;
		if
		:: F22_FLOOR(me) && F22_TOKEN(me) ->
			/* once the new owner has begun, only its own dispatchers and those that it adopts get a claim */
			assert(!begun || EPOCH(me) == 2 || holds(me));
			/* after a pause nothing of the released epoch does */
			assert(!(released && EPOCH(me) == 1));
			incarnations++;
			incarnation = incarnations;
			/* whoever loses a part loses its writer everywhere */
			if
			:: writer[0] == writer[1] -> writer[0] = 0; writer[1] = 0
			:: else
			fi;
			if
			:: COVERS(me, 0) -> token[0] = me + 1; writer[0] = incarnation; newest[0] = (newest[0] > me + 1 -> newest[0] : me + 1)
			:: else
			fi;
			if
			:: COVERS(me, 1) -> token[1] = me + 1; writer[1] = incarnation; newest[1] = (newest[1] > me + 1 -> newest[1] : me + 1)
			:: else
			fi;
#ifndef READ_FIRST
			have[0] = position[0]; have[1] = position[1];
#endif
			claimed = true
		:: else -> over = true
		fi }

	/* one change of each key that has one, in one batch: answered; applied and the answer lost; on its way for long */
	:: atomic { claimed && !stopped[me] && !unknown[me] && LEFT(me) ->
		send(me); commit(me, me); forget(me);
		if
		:: ok ->
			if
			:: have[0] < LAST -> have[0]++
			:: else
			fi;
			if
			:: have[1] < LAST -> have[1]++
			:: else
			fi
		:: else -> over = true; claimed = false
		fi;
		ok = false }
	:: atomic { claimed && !stopped[me] && !unknown[me] && LEFT(me) ->
		send(me); commit(me, me); forget(me);
		ok = false; unknown[me] = true }
	:: atomic { claimed && !stopped[me] && !unknown[me] && LEFT(me) && me == 0 && !write[TOKENS + me].sent -> send(TOKENS + me); unknown[me] = true }
	:: atomic { unknown[me] ->
		unknown[me] = false;
#ifndef NO_RECLAIM
		claimed = false;
		read = false
#endif
		}
	od
}

proctype network(byte t) {
	bool ok;

end:	do
	:: atomic { write[TOKENS + t].sent -> commit(t, TOKENS + t); forget(TOKENS + t); ok = false }
	od
}

proctype owners() {
end:	do
	/* owner 1 pauses: what it placed has stopped with a known outcome; then the floor goes above its epoch, then it
	   stores that it released. What it placed and nobody has heard of yet may come at any time. */
	:: atomic { owner == 1 && !released && !unknown[0] && !unknown[1] && !write[TOKENS].sent ->
#ifndef NO_F26_PAUSE
		floor = 2;
#endif
		stopped[0] = claims[0] > 0; stopped[1] = claims[1] > 0;
		released = true }
	/* the takeover, after a pause or not: raise first */
	:: atomic { owner == 1 -> owner = 2
#ifndef NO_F26_START
		; floor = 2
#endif
		}
	:: atomic { owner == 2 && !begun -> begun = true }
	od
}

init {
	atomic {
		run dispatcher(0); run dispatcher(1); run dispatcher(2);
		run network(0);
		run owners()
	}
}
