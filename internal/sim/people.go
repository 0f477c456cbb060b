package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/maintainer"
	"fencerow/record"
)

// people are operators: they create, pause, resume, move, bump, drain and remove at random, through what any node's API
// does.
type people struct {
	world *World
	kv    *client
	store *epochstore.Store
	quiet bool
}

// skippedIndex is above the index of every change of the simulated source.
const skippedIndex = 1 << 20

// A removal is waited for this often and this long, to create again.
const (
	recreateTries = 40
	recreateLook  = 50 * time.Millisecond
)

func newPeople(w *World) *people {
	p := &people{world: w, kv: &client{world: w, from: atPeople, to: w.etcd}}
	p.store = epochstore.New(p.kv, w.plan.Keys, w.wall).InTurn()
	return p
}

func (w *World) feedID(n int) changefeed.ID {
	return changefeed.ID{Namespace: changefeed.DefaultNamespace, Name: "f" + strconv.Itoa(n)}
}

// run makes wishes.
func (p *people) run(t *task) {
	w := p.world
	for n := range w.plan.Feeds {
		p.report("create", p.create(n))
	}
	for {
		t.sleep(w.between(0, 2*w.plan.WishEvery))
		if p.quiet {
			return
		}
		p.wish(t)
	}
}

func (p *people) report(what string, err error) {
	if err == nil {
		p.world.census.Wishes++
	}
	p.world.say("people    %s: %v", what, err)
}

// wishes are what people ask for, by how often they do.
var wishes = []string{
	"create", "pause", "pause", "resume", "resume", "resume", "move", "move", "move", "bump", "remove", "drain", "undrain", "split",
	"split", "split", "leave", "resign", "look", "repair", "option", "skip",
	"recreate",
}

func (p *people) wish(t *task) {
	w := p.world
	what := wishes[w.rng.IntN(len(wishes))]
	n := w.rng.IntN(w.plan.Feeds)
	id := w.feedID(n)
	if w.plan.Spare[what] {
		return
	}
	var err error
	switch what {
	case "create":
		err = p.create(n)
	case "pause":
		_, err = p.store.SetDesired(never{}, id, changefeed.DesiredPaused)
	case "resume":
		_, err = p.store.SetDesired(never{}, id, changefeed.DesiredRunning)
	case "remove":
		_, err = p.store.SetDesired(never{}, id, changefeed.DesiredRemoved)
	case "move":
		if l := p.someone(); l != nil {
			err = p.update(id, func(s *record.Spec) { s.Move, s.Bump = &record.Move{To: l.id, ID: w.word("move-")}, "" })
		}
	case "bump":
		err = p.bump(id)
	case "look":
		if l := p.someone(); l != nil && l.maintainers != nil {
			l.maintainers.look()
		}
	case "repair":
		p.repair()
	case "split":
		err = p.update(id, p.rearrange)
	case "recreate":
		err = p.recreate(t, n)
	case "option":
		err = p.update(id, func(s *record.Spec) { p.tune(s, "batch_changes") })
	case "skip":
		err = p.update(id, p.skip)
	case "drain":
		err = p.store.PutDrain(never{}, w.nodes[w.rng.IntN(len(w.nodes))].name, "people")
	case "undrain":
		_, err = p.store.DeleteDrain(never{}, w.nodes[w.rng.IntN(len(w.nodes))].name)
	case "leave":
		if l := p.someone(); l != nil && l.hosts != nil {
			l.leaving = true
		}
	case "resign":
		_, err = p.store.ResignCoordinator(never{})
	}
	p.report(fmt.Sprintf("%s %v", what, id), err)
}

// recreate removes a changefeed, and creates it again as soon as its name is free.
func (p *people) recreate(t *task, n int) error {
	id := p.world.feedID(n)
	if _, err := p.store.SetDesired(never{}, id, changefeed.DesiredRemoved); err != nil {
		return err
	}
	for range recreateTries {
		t.sleep(recreateLook)
		if err := p.create(n); err == nil || p.quiet {
			return err
		}
	}
	return nil
}

// bump asks for another epoch.
func (p *people) bump(id changefeed.ID) error {
	return p.update(id, func(s *record.Spec) { s.Move, s.Bump = nil, p.world.word("bump-") })
}

// someone returns a process that lives.
func (p *people) someone() *life {
	return p.world.nodes[p.world.rng.IntN(len(p.world.nodes))].life
}

func (p *people) options() changefeed.Options {
	options := changefeed.Options{}
	if keys := p.keys(); keys != "" {
		options["split_keys"] = keys
	}
	if w := p.world; w.chance(0.7) { // else they follow the traffic as slowly as by default
		options["split_rate"] = strconv.Itoa(20 + w.rng.IntN(40))
		options["split_after"], options["merge_after"] = p.seconds(5), p.seconds(15)
		options["split_traffic"] = []string{"on", "on", "on", "off"}[w.rng.IntN(4)]
	}
	return options
}

func (p *people) seconds(most int) string { return strconv.Itoa(1+p.world.rng.IntN(most)) + "s" }

// keys are up to three borders that people ask for.
func (p *people) keys() string {
	var keys []changefeed.Key
	for range p.world.rng.IntN(4) {
		key := changefeed.Key(fmt.Sprintf("%sk%02d", sourcePrefix, 1+p.world.rng.IntN(max(p.world.plan.SrcKey, 2))))
		if !slices.ContainsFunc(keys, func(other changefeed.Key) bool { return slices.Equal(key, other) }) {
			keys = append(keys, key)
		}
	}
	return changefeed.FormatKeys(keys)
}

// tune sets an option that dispatchers obey, so that they are started anew.
func (p *people) tune(spec *record.Spec, option string) {
	spec.Move, spec.Bump, spec.Options = nil, "", maps.Clone(spec.Options)
	if spec.Options == nil {
		spec.Options = changefeed.Options{}
	}
	spec.Options[option] = strconv.Itoa(1 + p.world.rng.IntN(100))
}

// skip leaves out a change that there never is, so that the target stays a copy.
func (p *people) skip(spec *record.Spec) {
	spec.Move, spec.Bump = nil, ""
	position := change.Position(1 + p.world.rng.IntN(int(p.world.source.head)))
	spec.Skips = append(slices.Clone(spec.Skips), record.Skip{Position: position, Index: skippedIndex})
}

// rearrange asks for borders of spans, and against others.
func (p *people) rearrange(spec *record.Spec) {
	spec.Move, spec.Bump, spec.Options = nil, "", maps.Clone(spec.Options)
	if spec.Options == nil {
		spec.Options = changefeed.Options{}
	}
	delete(spec.Options, "merge_keys")
	p.toggleSync(spec)
	before := spec.Options["split_keys"]
	spec.Options["split_keys"] = p.keys()
	if p.world.chance(0.7) { // what was split is joined, where it is not wanted anew
		spec.Options["merge_keys"] = before
	}
}

// toggleSync now and then takes the sync points away, or asks for them again.
func (p *people) toggleSync(spec *record.Spec) {
	every := p.world.plan.SyncEvery
	if every == "" || !strings.HasPrefix(spec.Sink, "etcd:") || !p.world.chance(0.2) {
		return
	}
	if _, found := spec.Options[maintainer.SyncPointInterval]; found {
		delete(spec.Options, maintainer.SyncPointInterval)
	} else {
		spec.Options[maintainer.SyncPointInterval] = every
	}
}

// sinkOf is the sink with claims of a changefeed. It is one for good: its head outlives removals.
func (w *World) sinkOf(n int) string {
	if w.plan.Rows[n] {
		return rowsScheme + "//target/t"
	}
	return "etcd://target/t/"
}

func (p *people) create(n int) error {
	w := p.world
	spec := record.Spec{
		Namespace: changefeed.DefaultNamespace, Name: w.feedID(n).Name, Source: "etcd://source/s/", Desired: changefeed.DesiredRunning,
		Options: p.options(), Sink: w.sinkOf(n),
	}
	if w.chance(w.plan.Plain) {
		spec.Sink = "stdout:"
	} else if w.plan.SyncEvery != "" && !w.plan.Rows[n] {
		spec.Options[maintainer.SyncPointInterval] = w.plan.SyncEvery
	}
	spec.Start = record.StartNow
	switch w.rng.IntN(3) {
	case 0:
		spec.Start = record.StartSnapshot
	case 1:
		position := change.Position(1 + w.rng.IntN(int(w.source.head)+5))
		spec.Start, spec.StartPosition = position.String(), &position
	}
	if w.plan.Serial {
		spec.Source = serialScheme + "//source/s"
		if spec.StartPosition != nil { // its log is kept from now on
			spec.Start, spec.StartPosition = record.StartNow, nil
		}
	}
	_, err := p.store.CreateSpecAs(never{}, changefeed.UID(w.word("uid-")), spec)
	return err
}

// update changes a spec as it was read, as the API does.
func (p *people) update(id changefeed.ID, change func(*record.Spec)) error {
	read, err := p.store.Spec(never{}, id)
	if err != nil || read.Record == nil || read.Record.Desired == changefeed.DesiredRemoved {
		return err
	}
	changed := *read.Record
	change(&changed)
	_, err = p.store.UpdateSpec(never{}, read, changed)
	return err
}
