/*
 * Epoch records: two coordinators bump one changefeed, each may be deposed between its read and its commit, answers are
 * lost before and after the commit, and a transaction may arrive late. Users change, delete and re-create the spec, and
 * raise the floor. README.md says where each action is in the code.
 *
 * Fences, each removed by a define of its name: NO_F1, NO_F2, NO_F3, NO_META (the compare of the floor), NO_NONCE (the
 * record is looked at before a decision is made again), NO_REVISION (epochs lie at or above the revision that was read), NO_KEPT_FLOOR (who removes a record whose epoch lies
 * above the store's revision, as it can after the floor was raised, first raises the floor above it).
 */
#define DECISIONS 2 /* of the first coordinator; the second makes one less */
#define ELECTIONS 2
#define CHANGES   1 /* of the spec, or a removal and a new creation */

#ifdef NO_F1
#define F1(c) true
#else
#define F1(c) (key[c] == sent[c].term)
#endif
#ifdef NO_F2
#define F2(c) true
#else
#define F2(c) (epoch_mod == sent[c].epoch_mod)
#endif
#ifdef NO_F3
#define F3(c) true
#else
#define F3(c) (spec_mod == sent[c].spec_mod)
#endif
#ifdef NO_META
#define META(c) true
#else
#define META(c) (meta_mod == sent[c].meta_mod)
#endif

#ifdef NO_KEPT_FLOOR
#define kept_floor true
#else
#define kept_floor (epoch <= epoch_mod || epoch < floor)
#endif

#define idle    0
#define decided 1
#define unknown 2

#define max(a, b) ((a) > (b) -> (a) : (b))

typedef Decision {
	byte term, epoch_mod, spec_mod, meta_mod, uid, next, nonce;
	bool assigns
};

/* the store: mod revisions are 0 where nothing is stored */
byte revision = 1;
byte epoch_mod, epoch, nonce_stored;
byte spec_mod = 1, uid = 1;
bool wanted = true; /* the spec says running */
byte meta_mod = 1, floor;
byte key[2]; /* the election keys' create revisions; 0: the lease is gone */

/* each coordinator's transaction: what it sends, and whether a copy of it is still on its way */
Decision sent[2];
bool late[2];
byte state[2];

byte elections, changes;

/* what only the properties look at */
byte highest_epoch, highest_term, highest_floor;
byte bumps[4]; /* by decision */

#define decision_of(c) (sent[c].nonce - 1)

inline commit(c, applied) {
	applied = F1(c) && F2(c) && F3(c) && META(c);
	if
	:: applied ->
		/* a coordinator that was replaced writes nothing */
		assert(sent[c].term >= highest_term);
		/* nobody is made the owner of what users no longer want to run, or of another creation */
		assert(!sent[c].assigns || (wanted && uid == sent[c].uid));
		/* an epoch lies at or above the floor that stands */
		assert(sent[c].next >= highest_floor);
		/* an epoch is handed out once and only grows, over deletions too */
		assert(sent[c].next > highest_epoch);
		/* one decision bumps once */
		assert(bumps[decision_of(c)] == 0);
		bumps[decision_of(c)]++;
		highest_epoch = max(highest_epoch, sent[c].next);
		highest_term = max(highest_term, sent[c].term);
		revision++;
		epoch_mod = revision; epoch = sent[c].next; nonce_stored = sent[c].nonce
	:: else
	fi
}

/* what is over leaves nothing behind that would tell two states apart */
inline become_idle(c) {
	state[c] = idle; applied = false;
	if
	:: !late[c] -> sent[c].term = 0; sent[c].epoch_mod = 0; sent[c].spec_mod = 0; sent[c].meta_mod = 0;
		sent[c].uid = 0; sent[c].assigns = false; sent[c].next = 0
	:: else
	fi
}

proctype coordinator(byte me) {
	byte term, decisions;
	bool applied, again; /* again: decided anew for the same reason, under the same nonce */

end:	do
	:: atomic { term == 0 && key[0] == 0 && key[1] == 0 && elections < ELECTIONS ->
		elections++; revision++;
		key[me] = revision; term = revision }

	/* it may find out that it was replaced, or not */
	:: atomic { term != 0 && key[me] != term && state[me] == idle -> term = 0; again = false }

	/* read, linearizably, and decide */
	:: atomic { term != 0 && state[me] == idle && !late[me] && (again || decisions < DECISIONS - me) ->
		if
		:: again -> again = false
		:: else -> decisions++; sent[me].nonce = me * DECISIONS + decisions
		fi;
		sent[me].term = term;
		sent[me].epoch_mod = epoch_mod; sent[me].spec_mod = spec_mod; sent[me].meta_mod = meta_mod;
		sent[me].uid = uid; sent[me].assigns = wanted;
#ifdef NO_REVISION
		sent[me].next = max(epoch + 1, floor);
#else
		sent[me].next = max(max(epoch + 1, revision), floor);
#endif
		state[me] = decided }

	/* send: answered, answer lost, request lost, or on its way for long */
	:: atomic { state[me] == decided -> commit(me, applied);
		if
		:: applied -> become_idle(me)
		:: else -> applied = false; state[me] = unknown /* the else branch reads what was compared */
		fi }
	:: atomic { state[me] == decided -> commit(me, applied); applied = false; state[me] = unknown }
	:: atomic { state[me] == decided -> applied = false; state[me] = unknown }
	:: atomic { state[me] == decided -> late[me] = true; applied = false; state[me] = unknown }

	/* read back: the nonce first */
	:: atomic { state[me] == unknown ->
		if
#ifdef NO_NONCE
		:: true -> again = true; become_idle(me)
#else
		:: nonce_stored == sent[me].nonce && epoch_mod != 0 -> become_idle(me)
		:: else ->
			if
			:: key[me] != sent[me].term || epoch_mod != sent[me].epoch_mod || spec_mod != sent[me].spec_mod ->
				become_idle(me) /* dropped: decided afresh, for whatever reason there is then */
			:: else ->
				if
				:: meta_mod != sent[me].meta_mod -> again = true; become_idle(me)
				:: else -> state[me] = decided /* the same values again */
				fi
			fi
#endif
		fi }
	od
}

inline arrived(c) {
	late[c] = false; applied = false;
	if
	:: state[c] == idle -> become_idle(c)
	:: else
	fi
}

/* transactions that were on their way when their sender gave up waiting */
proctype network() {
	bool applied;

end:	do
	:: atomic { late[0] -> commit(0, applied); arrived(0) }
	:: atomic { late[1] -> commit(1, applied); arrived(1) }
	:: atomic { late[0] -> arrived(0) } /* lost for good */
	:: atomic { late[1] -> arrived(1) }
	od
}

proctype world() {
	bool raised;

end:	do
	:: atomic { key[0] != 0 && elections < ELECTIONS -> key[0] = 0; revision++ } /* a lease ends */
	:: atomic { key[1] != 0 && elections < ELECTIONS -> key[1] = 0; revision++ }
	:: atomic { changes < CHANGES -> changes++; revision++; spec_mod = revision; wanted = !wanted }
	/* removed, with its records, and created again */
	:: atomic { changes < CHANGES && kept_floor -> changes++; revision++;
		epoch_mod = 0; epoch = 0; nonce_stored = 0;
		uid++; spec_mod = revision; wanted = true }
	/* before that: in a transaction of its own, under meta's mod revision */
	:: atomic { !kept_floor -> revision++; meta_mod = revision; floor = epoch + 1; highest_floor = max(highest_floor, floor) }
	/* an operator raises the floor far above the revision, since the store was restored */
	:: atomic { !raised -> raised = true; revision++; meta_mod = revision; floor = 40; highest_floor = 40 }
	od
}

init {
	atomic { run coordinator(0); run coordinator(1); run network(); run world() }
}
