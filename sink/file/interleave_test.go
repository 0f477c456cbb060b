package file

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// once runs do at the first time that a point is reached.
func once(at point, do func()) func(point) {
	done := false
	return func(p point) {
		if p == at && !done {
			done = true
			do()
		}
	}
}

// TestClaimInTheMiddleOfAWrite stops a writer at every point of a write, has another node claim and write, and lets
// the first go on (F23; hazards 50 and 55). What Write says must be what readers see.
func TestClaimInTheMiddleOfAWrite(t *testing.T) {
	for at, committed := range map[point]bool{
		pointWriteBegin:   false,
		pointWriteDone:    true, // the claim finds the batch whole, and makes it durable
		pointWriteSynced:  true,
		pointWriteLooked:  true,
		pointWriteCounted: true,
	} {
		for name, first := range map[string]bool{"the first batch": true, "a later batch": false} {
			t.Run(string(at)+", "+name, func(t *testing.T) {
				p := newPlace(t)
				a, b := p.node(), p.node()
				old := p.claim(a, p.next(changefeed.Whole()))
				if !first {
					p.write(old, put(changefeed.Whole(), 5, "x"))
				}
				var fresh *Writer
				a.hook = once(at, func() {
					fresh = p.claim(b, p.next(changefeed.Whole()))
					p.write(fresh, put(changefeed.Whole(), 20, "b"))
				})
				err := old.Write(t.Context(), put(changefeed.Whole(), 10, "a"))
				lines := p.read()
				if committed {
					require.NoError(t, err)
					require.Equal(t, change.At(10), fresh.Pieces()[0].Mark)
					require.Equal(t, 1, occurrences(lines, "update a@10"))
				} else {
					require.ErrorIs(t, err, fence.ErrStale)
					require.Zero(t, occurrences(lines, "update a@10"))
					require.NotEqual(t, change.At(10), fresh.Pieces()[0].Mark)
				}
				// The zombie tries on and on, and has no effect.
				for range 3 {
					require.Error(t, old.Write(t.Context(), put(changefeed.Whole(), 11, "z")))
				}
				p.write(fresh, put(changefeed.Whole(), 30, "c"))
				p.claim(b, p.next(changefeed.Whole()))
				require.Equal(t, append(lines, "update c@30"), p.read())
			})
		}
	}
}

// TestClaimerDiesInTheMiddleOfAWrite: the claimer creates its claim and dies before it seals; the writer goes on and
// seals itself, a third one claims. Two zombies in the end.
func TestClaimerDiesInTheMiddleOfAWrite(t *testing.T) {
	for _, at := range []point{pointWriteBegin, pointWriteDone, pointWriteSynced, pointWriteLooked} {
		for _, death := range []point{pointClaimMade, pointMeasured, pointClaimSealed} {
			t.Run(string(at)+", "+string(death), func(t *testing.T) {
				p := newPlace(t)
				a, b := p.node(), p.node()
				old := p.claim(a, p.next(changefeed.Whole()))
				p.write(old, put(changefeed.Whole(), 5, "x"))
				b.hook = func(p point) {
					if p == death {
						panic("crash")
					}
				}
				a.hook = once(at, func() {
					require.Panics(t, func() { _, _ = b.Claim(t.Context(), p.next(changefeed.Whole())) })
				})
				err := old.Write(t.Context(), put(changefeed.Whole(), 10, "a"))
				before := p.read()
				third := p.claim(p.node(), p.next(changefeed.Whole()))
				lines := p.read()
				require.Subset(t, lines, before, "nothing that a reader took may vanish")
				require.Equal(t, 1, occurrences(lines, "update x@5"))
				found := occurrences(lines, "update a@10")
				if err == nil {
					require.Equal(t, 1, found)
					require.Equal(t, change.At(10), third.Pieces()[0].Mark)
				} else {
					require.ErrorIs(t, err, fence.ErrStale)
					require.Zero(t, found)
					require.Equal(t, change.At(5), third.Pieces()[0].Mark)
				}
			})
		}
	}
}

// TestWriterGoesOnWhileTheClaimerSeals: the claimer has read the length and pauses; the writer appends a batch behind
// it, looks, and seals first. The claimer must go on with that seal.
func TestWriterGoesOnWhileTheClaimerSeals(t *testing.T) {
	p := newPlace(t)
	a, b := p.node(), p.node()
	old := p.claim(a, p.next(changefeed.Whole()))
	p.write(old, put(changefeed.Whole(), 5, "x"))
	measured, goOn, claimed := make(chan struct{}), make(chan struct{}), make(chan *Writer, 1)
	b.hook = once(pointMeasured, func() {
		close(measured)
		<-goOn
	})
	a.hook = once(pointWriteBegin, func() {
		claim := p.next(changefeed.Whole())
		go func() {
			w, _ := b.Claim(t.Context(), claim)
			writer, _ := w.(*Writer)
			claimed <- writer
		}()
		<-measured
	})
	require.NoError(t, old.Write(t.Context(), put(changefeed.Whole(), 10, "a")))
	close(goOn)
	fresh := <-claimed
	require.NotNil(t, fresh)
	require.Equal(t, change.At(10), fresh.Pieces()[0].Mark, "the first seal counts for both")
	require.Equal(t, []string{"update x@5", "update a@10"}, p.read())
	require.ErrorIs(t, old.Write(t.Context(), put(changefeed.Whole(), 11, "z")), fence.ErrStale)
	require.NoError(t, fresh.Close())
}

// TestClaimsAreSerialised (F22): between reading the claims and creating its own, another node claims with a higher
// token, or raises the floor, or removes. The number decides, and the loser checks again.
func TestClaimsAreSerialised(t *testing.T) {
	for name, meanwhile := range map[string]func(p *place, b *Sink){
		"a higher token claims": func(p *place, b *Sink) {
			p.claim(b, sink.Claim{Span: span("m", ""), Token: fence.Mint(1, 99), From: change.At(1)})
		},
		"the floor is raised": func(p *place, b *Sink) { require.NoError(p, b.Raise(p.Context(), 2, sink.KnownNothing)) },
		"it is removed":       func(p *place, b *Sink) { require.NoError(p, b.Remove(p.Context(), 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			a, b := p.node(), p.node()
			a.hook = once(pointClaimRead, func() { meanwhile(p, b) })
			_, err := a.Claim(t.Context(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(1, 50), From: change.At(1)})
			require.ErrorIs(t, err, fence.ErrStale)
			st, err := p.reopen().refresh()
			require.NoError(t, err, "a refused claim must leave no entry: nothing could follow from it")
			for _, held := range st.m.Held() {
				require.NotEqual(t, fence.Mint(1, 50), held.Token)
			}
		})
	}
}

// TestRaisesAreSerialised (F26): a lower epoch that read the head first can't set the floor back.
func TestRaisesAreSerialised(t *testing.T) {
	p := newPlace(t)
	a, b := p.node(), p.node()
	a.hook = once(pointRaiseRead, func() { require.NoError(t, b.Raise(t.Context(), 9, sink.KnownNothing)) })
	require.ErrorIs(t, a.Raise(t.Context(), 5, sink.KnownNothing), fence.ErrStale)
	_, err := b.Claim(t.Context(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(5, 1)})
	require.ErrorIs(t, err, fence.ErrStale)
}

// TestRemovedInTheMiddleOfAWrite: a removal ends writers as a claim does.
func TestRemovedInTheMiddleOfAWrite(t *testing.T) {
	p := newPlace(t)
	a, b := p.node(), p.node()
	w := p.claim(a, p.next(changefeed.Whole()))
	a.hook = once(pointWriteBegin, func() { require.NoError(t, b.Remove(t.Context(), 2)) })
	require.ErrorIs(t, w.Write(t.Context(), put(changefeed.Whole(), 5, "x")), fence.ErrStale)
	require.Empty(t, p.read())
}

// TestTheSameDirectoryOnEveryNode (F26): an epoch that was never raised here was raised in another directory.
func TestTheSameDirectoryOnEveryNode(t *testing.T) {
	here, there := newPlace(t), newPlace(t)
	a, b := here.node(), there.node()
	require.NoError(t, a.Raise(t.Context(), 7, sink.KnownNothing))
	_, err := b.Claim(t.Context(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(7, 1)})
	fault := there.requireFault(err, changefeed.CodeSinkLost)
	require.Contains(t, fault.Cure, "every node")
	_, err = a.Claim(t.Context(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(7, 1)})
	require.NoError(t, err)
}

// TestReaderFollowsAcrossATakeover: a live reader takes a batch with its commit mark and not before, nothing of a
// zombie, and every change once, in order over spans.
func TestReaderFollowsAcrossATakeover(t *testing.T) {
	p := newPlace(t)
	a, b := p.node(), p.node()
	left, right := span("", "m"), span("m", "")
	one, two := p.claim(a, p.next(left)), p.claim(b, p.next(right))
	p.write(one, put(left, 10, "a"))
	reader, err := OpenReader(ReaderConfig{Directory: p.directory, Mode: ReadFollow})
	require.NoError(t, err)
	defer func() { require.NoError(t, reader.Close()) }()
	lines := make(chan string, 100)
	ended := make(chan error, 1)
	go func() {
		for {
			item, err := reader.Next(t.Context())
			if err != nil {
				ended <- err
				return
			}
			lines <- string(item.Line)
		}
	}()
	p.write(two, put(right, 7, "n"))
	p.write(two, put(right, 12, "o"))
	p.write(one, put(left, 30))
	a.hook = once(pointWriteBegin, func() {
		fresh := p.claim(b, p.next(span("", "")))
		p.write(fresh, put(span("", ""), 40, "b", "p"))
		require.NoError(t, b.Remove(t.Context(), 2))
	})
	require.ErrorIs(t, one.Write(t.Context(), put(left, 35, "zombie")), fence.ErrStale)
	require.ErrorIs(t, <-ended, io.EOF)
	close(lines)
	var got []string
	for line := range lines {
		got = append(got, line)
	}
	require.Equal(t, []string{"update n@7", "update a@10", "update o@12", "update b@40", "update p@40"}, p.brief(got))
	require.Equal(t, p.brief(got), p.read())
}

// TestReaderHoldsBackWhatOtherSpansMayPrecede: order over spans needs every span to have come as far.
func TestReaderHoldsBackWhatOtherSpansMayPrecede(t *testing.T) {
	p := newPlace(t)
	left, right := span("", "m"), span("m", "")
	s := p.node()
	one, two := p.claim(s, p.next(left)), p.claim(s, p.next(right))
	p.write(one, put(left, 10, "a"))
	p.write(two, put(right, 5, "n"))
	reader, err := OpenReader(ReaderConfig{Directory: p.directory, Mode: ReadFollow})
	require.NoError(t, err)
	item, err := reader.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, change.Position(5), item.Position)
	require.NoError(t, reader.fill())
	require.Equal(t, change.Position(5), reader.Resolved(), "the left change at 10 waits for the right span")
	p.write(two, put(right, 10, "o"))
	for _, want := range []string{"update a@10", "update o@10"} {
		item, err := reader.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{want}, p.brief([]string{string(item.Line)}))
	}
	require.NoError(t, reader.Close())
}
