/*
 * Hosts and commands: owner 1 is replaced by owner 2 (which may be the same node again), then by nobody. Host 0 was there
 * from the start, host 1 joins at any moment (and is only sent one Place, to keep it small). Whatever an owner may ever send is on its way from the moment it may send
 * it, and can be delivered at any time, any number of times, in any order, or never; so do messages that nobody was
 * entitled to send. README.md says where each action is in the code.
 *
 * Fences, each removed by a define of its name: NO_F9, NO_F10, NO_F11, NO_F12 (a Bootstrap isn't confirmed), NO_F12_LISTING
 * (served before the first listing), NO_F13 (a watched record doesn't raise), NO_F13_STOP (a record without owner stops
 * nothing), NO_F16_STOPPED, NO_F16_HIGHER, NO_F16_EVICTED.
 */
#define HOSTS  2
#define POISON 4 /* an epoch that no record ever has */

#ifdef NO_F9
#define F9(e) true
#else
#define F9(e) ((e) >= host[h].held)
#endif
#ifdef NO_F10
#define F10(s) true
#else
#define F10(s) ((s) == host[h].owner)
#endif
#ifdef NO_F12
#define F12_CONFIRMED(e, s) true
#else
#define F12_CONFIRMED(e, s) (host[h].answer == (e) && OWNER(e) == (s))
#endif
#ifdef NO_F12_LISTING
#define F12_LISTED true
#else
#define F12_LISTED host[h].listed
#endif
#ifdef NO_F16_STOPPED
#define F16_STOPPED(q) true
#else
#define F16_STOPPED(q) (!host[h].buried[q])
#endif
#ifdef NO_F16_HIGHER
#define F16_HIGHER(q) true
#else
#define F16_HIGHER(q) (host[h].highest <= (q))
#endif
#ifdef NO_F16_EVICTED
#define F16_EVICTED(e, q) true
#else
#define F16_EVICTED(e, q) (!(host[h].voided && (e) == 1 && (q) <= 1))
#endif

/* who the record of an epoch names: node 1, then node 1 or 2, then nobody */
#define OWNER(e) names[e]

typedef Host {
	bool joined, listed;
	byte watched;           /* how far its watch is */
	byte held, owner;       /* the gate */
	bool terms;             /* the held epoch's Bootstrap was admitted */
	byte asks, asker;       /* the Bootstrap that waits to be confirmed: epoch and sender */
	byte answer;            /* what a linearizable read said; 0: not yet */
	byte run_epoch, run_seq; /* the one dispatcher of the one span */
	bool buried[3];         /* by seq, of the held epoch */
	byte highest;           /* seq that ever ran, of the held epoch */
	bool voided, evicted;     /* tokens up to 1.1 are void; it has acknowledged that */

	/* what only the properties look at */
	byte knows;             /* the highest epoch that it was told of by the records */
	bool told[3];           /* by seq: the held epoch's owner was told that it is stopped */
	byte started            /* the highest seq that started, of the held epoch */
};
Host host[HOSTS];

byte names[POISON + 1];
byte record = 1, second;

/* owner 2: which hosts it listed after its bump, which answered, and whether all have */
bool listing, complete;
bool asked[HOSTS], replied[HOSTS];

byte j, q;

/* the gate takes in a record, or what a message claims */
inline raise_to(to, whom) {
	if
	:: (to) > host[h].held ->
		host[h].held = to; host[h].owner = whom;
		host[h].terms = false; host[h].highest = 0; host[h].started = 0;
		for (q : 1 .. 2) { host[h].buried[q] = false; host[h].told[q] = false }
		q = 0
	:: else
	fi
}

/* a record without owner stops what runs */
inline stop_unowned() {
#ifndef NO_F13_STOP
	if
	:: host[h].owner == 0 -> host[h].run_epoch = 0; host[h].run_seq = 0
	:: else
	fi
#else
	skip
#endif
}

inline adopt(what) {
	host[h].terms = true;
	if
	:: (what) == 2 -> replied[h] = true
	:: else
	fi
}

/* a command has an effect on this host: whatever let it in, it must be so */
inline effect() {
	/* not below what the records told this host */
	assert((e) >= host[h].knows);
	/* from the owner of that epoch, and of an epoch that there is */
	assert((e) <= record);
	assert(OWNER(e) == (s));
	/* once owner 2 has heard of every host, nothing of epoch 1 begins anywhere */
	assert(!(complete && (e) < 2))
}

inline bootstrap() {
	if
	:: !F12_LISTED || host[h].asks != 0
	:: else ->
		if
		:: (e) > host[h].held -> host[h].asks = e; host[h].asker = s
		:: else ->
			if
			:: F9(e) && F10(s) -> adopt(e)
			:: else
			fi
		fi
	fi
}

/* the last gates before a Place or a Stop */
inline admit() {
	admitted = false;
	if
	:: !F12_LISTED
	:: else ->
#ifdef NO_F11
		if
		:: (e) > host[h].held -> raise_to(e, s); host[h].terms = true
		:: else
		fi;
#endif
		admitted = (e) <= host[h].held && F9(e) && host[h].owner != 0 && F10(s)
	fi
}

inline place() {
	admit();
	if
	:: admitted && host[h].terms && F16_STOPPED(n) && F16_HIGHER(n) && F16_EVICTED(e, n) &&
	   !(host[h].run_epoch == (e) && host[h].run_seq == (n)) ->
		effect();
		/* what was said to be stopped never starts */
		assert(!host[h].told[n]);
		/* a lower seq never starts after a higher one of its span */
		assert(host[h].started <= (n));
		/* nothing that was evicted starts after that was acknowledged */
		assert(!(host[h].evicted && (e) == 1 && (n) <= 1));
		if
		:: host[h].run_epoch == host[h].held -> host[h].buried[host[h].run_seq] = true
		:: else
		fi;
		host[h].run_epoch = e; host[h].run_seq = n; host[h].highest = n; host[h].started = n
	:: else
	fi;
	admitted = false
}

inline stop() {
	admit();
	if
	:: admitted ->
		if
		:: host[h].run_epoch == (e) && host[h].run_seq == (n) ->
			effect();
			host[h].run_epoch = 0; host[h].run_seq = 0
		:: else
		fi;
		if
		:: (e) == host[h].held -> host[h].buried[n] = true; host[h].told[n] = true
		:: else
		fi
	:: else
	fi;
	admitted = false
}

proctype serving(byte h) {
	bool admitted;
	byte e, s, n; /* a message: epoch, sender, seq */

end:	do
	:: atomic { skip;
		if
		/* what owner 1 sends */
		:: e = 1; s = 1
		/* what owner 2 sends, once it is the owner */
		:: record >= 2 -> e = 2; s = second
		/* what nobody may send: another node at that epoch, and an epoch from nowhere */
		:: e = 2; s = 3 - second
		:: e = POISON; s = 1
		fi;
		if
		:: skip; bootstrap()
		:: e != 2 || complete || s != second ->
			if
			:: n = 1
			:: h == 0 -> n = 2
			fi;
			if
			:: skip; place()
			:: h == 0 -> stop()
			fi
		fi;
		e = 0; s = 0; n = 0 }

	/* a Bootstrap is confirmed: by a watch that has it, or by a read, whose answer may be old when it comes */
	:: atomic { host[h].asks != 0 && host[h].answer == 0 ->
		if
		:: host[h].watched == host[h].asks -> host[h].answer = host[h].watched
		:: else -> host[h].answer = record
		fi }
	:: atomic { host[h].answer != 0 ->
		if
		:: F12_CONFIRMED(host[h].asks, host[h].asker) && host[h].asks >= host[h].held ->
			raise_to(host[h].asks, host[h].asker);
			host[h].knows = (host[h].knows > host[h].held -> host[h].knows : host[h].held);
			/* no host holds an epoch that no record has */
			assert(host[h].held <= record);
			if
			:: host[h].asks == host[h].held && host[h].asker == host[h].owner -> adopt(host[h].asks)
			:: else
			fi
		:: else ->
			host[h].knows = (host[h].knows > host[h].answer -> host[h].knows : host[h].answer);
			raise_to(host[h].answer, OWNER(host[h].answer));
			stop_unowned()
		fi;
		host[h].asks = 0; host[h].asker = 0; host[h].answer = 0 }

	/* joins: first its node record, then the listing, at a revision at or after it */
	:: atomic { !host[h].joined -> host[h].joined = true }
	:: atomic { host[h].joined && !host[h].listed ->
		host[h].listed = true; host[h].watched = record; host[h].knows = record;
		raise_to(record, OWNER(record)) }
	/* watches, in order and as late as can be */
	:: atomic { host[h].listed && host[h].watched < record ->
		host[h].watched++;
		host[h].knows = (host[h].knows > host[h].watched -> host[h].knows : host[h].watched);
#ifndef NO_F13
		raise_to(host[h].watched, OWNER(host[h].watched));
		stop_unowned();
#endif
		/* nothing runs where it is known that nobody owns the changefeed */
		assert(host[h].watched < 3 || host[h].run_epoch == 0) }

	/* evicted by owner 1 through the records: tokens up to 1.1 */
	:: atomic { h == 0 && host[h].listed && !host[h].voided && record == 1 -> host[h].voided = true }
	:: atomic { host[h].voided && !host[h].evicted ->
		if
		:: host[h].run_epoch == 1 && host[h].run_seq <= 1 -> host[h].run_epoch = 0; host[h].run_seq = 0
		:: else
		fi;
		host[h].evicted = true }
	od
}

/* the records, and what owner 2 does before it places anything: list the nodes, and hear of each */
proctype owners() {
end:	do
	:: atomic { record < 3 -> record++ }
	:: atomic { record >= 2 && !listing ->
		listing = true;
		for (j : 0 .. HOSTS - 1) { asked[j] = host[j].joined }
		j = 0 }
	:: atomic { listing && !complete && (!asked[0] || replied[0]) && (!asked[1] || replied[1]) -> complete = true }
	od
}

init {
	atomic {
		if
		:: second = 1
		:: second = 2
		fi;
		names[1] = 1; names[2] = second;
		host[0].joined = true; host[0].listed = true; host[0].watched = 1; host[0].held = 1; host[0].owner = 1; host[0].knows = 1;
		run serving(0); run serving(1); run owners()
	}
}
