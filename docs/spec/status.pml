/*
 * Status writes: two owners, one after the other, each write statuses whose answers may be lost and whose copies may
 * arrive late; each acknowledges its source. README.md says where each action is in the code.
 *
 * Fences, each removed by a define of its name: NO_F4, NO_F5_MOD, NO_F5_BACK (a checkpoint below the stored one isn't
 * sent), ACK_FIRST (the source is acknowledged before the
 * status is stored).
 */
#define DURABLE 2 /* how far the sink gets */
#define WRITES  2 /* of each owner */

#ifdef NO_F4
#define F4(o) true
#else
#define F4(o) (epoch_mod == sent[o].epoch_mod)
#endif
#ifdef NO_F5_MOD
#define F5_MOD(o) true
#else
#define F5_MOD(o) (status_mod == sent[o].status_mod)
#endif
#ifdef NO_F5_BACK
#define F5_BACK true
#else
#define F5_BACK (lowest >= seen)
#endif

#define SECOND 20 /* the second owner's epoch record */

#define idle    0
#define sending 1
#define unknown 2

typedef Write { byte epoch_mod, status_mod, checkpoint; bool released }

/* the store; the epoch record's mod revision stands for the epoch */
byte revision = 1;
byte epoch_mod = 1, checkpoint, status_mod, status_epoch;
bool released;

byte durable; /* in the sink: what dispatchers report is at or below it, in any order */
Write sent[2];
bool late[2];
byte acknowledged; /* what the source may throw away */

inline commit(o, applied) {
	applied = F4(o) && F5_MOD(o);
	if
	:: applied ->
		/* only the owner of the record's epoch writes */
		assert(sent[o].epoch_mod == epoch_mod);
		/* a release is final for its epoch */
		assert(!(released && status_epoch == sent[o].epoch_mod));
		/* a stored checkpoint never decreases, and never passes what is durable */
		assert(sent[o].checkpoint >= checkpoint);
		assert(sent[o].checkpoint <= durable);
		revision++;
		status_mod = revision; status_epoch = sent[o].epoch_mod;
		checkpoint = sent[o].checkpoint; released = sent[o].released
	:: else
	fi
}

proctype owner(byte me; byte starts) {
	byte mine, writes, state, seen, seen_mod, lowest;
	bool applied, ended;

	/* starts on its record, and reads the status after its bump */
	atomic { epoch_mod >= starts -> mine = starts }
	atomic { seen = checkpoint; seen_mod = status_mod }

end:	do
	/* the minimum over the cover, from whatever reports have come */
	:: atomic { state == idle && !ended && !late[me] && writes < WRITES ->
		writes++;
		if
		:: lowest = durable
		:: durable > 0 -> lowest = durable - 1
		fi;
		if
		:: F5_BACK ->
			sent[me].epoch_mod = mine; sent[me].status_mod = seen_mod; sent[me].checkpoint = lowest;
			if
			:: sent[me].released = false
			:: sent[me].released = true
			fi;
			state = sending
		:: else
		fi;
#ifdef ACK_FIRST
		acknowledged = (acknowledged > lowest -> acknowledged : lowest);
		assert(acknowledged <= checkpoint);
#endif
		lowest = 0 }

	:: atomic { state == sending -> commit(me, applied);
		if
		:: applied -> seen = sent[me].checkpoint; seen_mod = status_mod; ended = sent[me].released
		:: else -> /* the else branch reads */
			if
			:: epoch_mod != mine -> ended = true
			:: else -> seen = checkpoint; seen_mod = status_mod; ended = released && status_epoch == mine
			fi
		fi;
		state = idle; applied = false }
	:: atomic { state == sending -> commit(me, applied); state = unknown; applied = false } /* answer lost */
	:: atomic { state == sending -> late[me] = true; state = unknown }
	/* never sent again: read, and go on from what is there */
	:: atomic { state == unknown ->
		if
		:: epoch_mod != mine -> ended = true
		:: else -> seen = checkpoint; seen_mod = status_mod; ended = released && status_epoch == mine
		fi;
		state = idle }

#ifndef ACK_FIRST
	/* the source: at or below what this owner knows to be stored, also when it was deposed since */
	:: atomic { seen > acknowledged -> acknowledged = seen;
		/* nothing is given up that a crash would need again */
		assert(acknowledged <= checkpoint) }
#endif
	od
}

proctype network() {
	bool applied;

end:	do
	:: atomic { late[0] -> commit(0, applied); late[0] = false; applied = false }
	:: atomic { late[1] -> commit(1, applied); late[1] = false; applied = false }
	:: atomic { late[0] -> late[0] = false }
	:: atomic { late[1] -> late[1] = false }
	od
}

/* the coordinator: bumps over the first owner, or follows its release */
proctype coordinator() {
	byte decided_on;
	bool bumped;

end:	do
	:: atomic { !bumped -> bumped = true; revision++; epoch_mod = SECOND }
	:: atomic { !bumped && released && decided_on == 0 -> decided_on = status_mod }
	:: atomic { !bumped && decided_on != 0 ->
		/* what it puts into the history as final is final, even before the bump compares it */
		assert(status_mod == decided_on);
		bumped = true; revision++; epoch_mod = SECOND }
	od
}

proctype sink() {
end:	do
	:: durable < DURABLE -> durable++
	od
}

init {
	atomic { run owner(0, 1); run owner(1, SECOND); run network(); run coordinator(); run sink() }
}
