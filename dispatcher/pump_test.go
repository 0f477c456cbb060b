package dispatcher

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
	"fencerow/sink"
)

// fence:F21. No write and no claim begins after the host revoked the token, or after the session's deadline.
func TestF21NothingIsHandedToTheSinkWithoutRight(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*pump, *fakeSession){
		"revoked":       func(p *pump, _ *fakeSession) { p.revoked.Store(true) },
		"session ended": func(_ *pump, s *fakeSession) { s.end() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			defer b.stop()
			p := newPump(pumpConfig{
				start:   StartPump{Token: fence.Mint(7, 1), Span: changefeed.Whole()},
				session: b.session, clock: b.host.now, metrics: b.host.config.Metrics, mailbox: newMailbox(b.host, testID),
			})
			a := &attempt{pump: p}
			require.NoError(t, a.claim(t.Context(), b.sink))
			batch := sink.Batch{Span: changefeed.Whole(), To: change.At(9)}
			require.NoError(t, a.write(t.Context(), batch, 9))
			require.Equal(t, 1, b.sink.batches)

			lose(p, b.session)
			require.ErrorIs(t, a.write(t.Context(), batch, 9), errRevoked)
			require.ErrorIs(t, a.claim(t.Context(), b.sink), errRevoked)
			require.Equal(t, 1, b.sink.batches)
			require.Equal(t, 1, b.sink.claims)
		})
	}
}

// Hazards 55, 56: the answer to a write is lost, whether it landed or not. The next claim tells.
func TestPumpClaimsAgainAfterAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	for name, hook := range map[string]func(*fakeSink, func() error){
		"it landed":     func(s *fakeSink, fail func() error) { s.onDone = fail },
		"it was lost":   func(s *fakeSink, fail func() error) { s.onWrite = func(context.Context) error { return fail() } },
		"a claim's too": func(s *fakeSink, fail func() error) { s.onClaim = func(context.Context) error { return fail() } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := ownedBed(t)
				defer b.stop()
				n := 0
				hook(b.sink, func() error {
					if n++; n%3 == 1 {
						return fence.ErrUnknown
					}
					return nil
				})
				token := b.place(1, "-")
				for i := range 20 {
					b.source.put(keyOf(i))
					pass(time.Second)
				}
				pass(time.Minute)
				require.Equal(t, positions(20), b.sink.positions(), "each once, in order")
				status := b.last(token)
				require.Equal(t, message.DispatcherRunning, status.State)
				require.Equal(t, change.At(20), status.Mark)
				require.Nil(t, status.Fault)
			})
		})
	}
}

func TestPumpEndsWhenTheSinkShutsItOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		defer b.stop()
		token := b.place(1, "-")
		b.source.put("a")
		synctest.Wait()
		_, claimed := b.sink.counts()
		_, err := b.sink.Claim(t.Context(), sink.Claim{Span: parseSpan("c-d"), Token: fence.Mint(8, 1)})
		require.NoError(t, err)
		b.source.put("b")
		pass(time.Minute)
		status := b.last(token)
		require.Equal(t, message.DispatcherFailed, status.State)
		require.Nil(t, status.Fault)
		require.Equal(t, change.At(1), status.Mark)
		_, claims := b.sink.counts()
		require.Equal(t, claimed+1, claims, "only the other one claimed: it does not claim again")
		require.Equal(t, positions(1), b.sink.positions())
	})
}

func TestOrderABatchIsCountedOnlyWhenItIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		defer b.stop()
		token := b.place(1, "-")
		b.source.put("a")
		pass(time.Second)
		b.sink.set(func() { b.sink.onWrite = func(context.Context) error { return errors.New("the disk is full") } })
		b.source.put("b")
		pass(5 * time.Second)
		require.Equal(t, change.At(1), b.last(token).Mark)
	})
}

func TestPumpRetriesWhatTimeCanHeal(t *testing.T) {
	t.Parallel()
	for name, part := range map[string]struct {
		fail func(*bed, error)
		code changefeed.Code
	}{
		"source": {func(b *bed, err error) { b.source.fail(err) }, changefeed.CodeSourceUnreachable},
		"sink": {func(b *bed, err error) {
			b.sink.set(func() { b.sink.onWrite = func(context.Context) error { return err } })
		}, changefeed.CodeSinkUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := ownedBed(t)
				defer b.stop()
				token := b.place(1, "-")
				b.source.put("a")
				pass(time.Second)
				part.fail(b, errDown)
				b.source.put("b")
				pass(2 * time.Second)
				status := b.last(token)
				require.Equal(t, message.DispatcherRunning, status.State)
				require.Equal(t, part.code, status.Fault.Code)

				part.fail(b, nil)
				pass(10 * time.Second)
				require.Equal(t, positions(2), b.sink.positions())
				require.Nil(t, b.last(token).Fault)

				part.fail(b, errDown) // for good
				b.source.put("c")
				pass(10 * time.Minute)
				status = b.last(token)
				require.Equal(t, message.DispatcherFailed, status.State)
				require.Equal(t, part.code, status.Fault.Code)
				require.True(t, status.Known)
				require.Equal(t, change.At(2), status.Mark)
			})
		})
	}
}

func TestPumpFailsAtOnceOnWhatTimeCannotHeal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		defer b.stop()
		token := b.place(1, "-")
		b.source.put("a")
		synctest.Wait()
		b.source.fail(&changefeed.Fault{Code: changefeed.CodeSourceCompacted, Permanent: true})
		pass(50 * time.Millisecond)
		status := b.last(token)
		require.Equal(t, message.DispatcherFailed, status.State)
		require.Equal(t, changefeed.CodeSourceCompacted, status.Fault.Code)
	})
}

func TestPumpRefusesAnotherSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		defer b.stop()
		b.host.Listed(map[changefeed.ID]record.Epoch{testID: epochRecord("u", 7, "n1")})
		bootstrap := b.bootstrap(nil)
		bootstrap.SourceID = "s0"
		b.host.Deliver(from("n1", 7, bootstrap).Envelope)
		token := b.place(1, "-")
		pass(50 * time.Millisecond)
		status := b.last(token)
		require.Equal(t, message.DispatcherFailed, status.State)
		require.Equal(t, changefeed.CodeSourceReplaced, status.Fault.Code)
		_, claims := b.sink.counts()
		require.Zero(t, claims)
	})
}

// Stop at P: everything at or below P is done, nothing above, whatever is in flight when it is asked.
func TestPumpStopsAtAPosition(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		at     change.Position
		before int           // changes that were put before the stop
		pause  time.Duration // between them and the stop
		want   int
	}{
		"below what waits to be written":   {at: 7, before: 30, want: 7},
		"what is in flight":                {at: 1, before: 30, want: 1},
		"not reached by the source yet":    {at: 25, before: 5, want: 25},
		"exactly what the source has":      {at: 30, before: 30, want: 30},
		"in the middle of a large backlog": {at: 19, before: 30, want: 19},
		"passed already: it stays there":   {at: 3, before: 30, pause: time.Minute, want: 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := ownedBed(t)
				defer b.stop()
				b.sink.set(func() {
					b.sink.limits = sink.Limits{Changes: 4}
					b.sink.onWrite = func(context.Context) error {
						time.Sleep(time.Second)
						return nil
					}
				})
				token := b.place(1, "-")
				synctest.Wait()
				for i := range test.before {
					b.source.put(keyOf(i))
					if i == 0 {
						synctest.Wait() // the first is in flight while the others come
					}
				}
				synctest.Wait()
				pass(test.pause)
				b.host.Deliver(from("n1", 7, message.Stop{Token: token, At: change.At(test.at)}).Envelope)
				pass(30 * time.Second)
				for i := range 40 - test.before {
					b.source.put(keyOf(i))
				}
				pass(time.Minute)
				status := b.last(token)
				require.Equal(t, message.DispatcherStopped, status.State)
				require.Equal(t, change.At(change.Position(test.want)), status.Mark)
				require.True(t, status.Known)
				require.Equal(t, positions(test.want), b.sink.positions())
			})
		})
	}
}

// A slow sink slows the source: no more is taken from it than the bounds allow.
func TestPumpHoldsTheSourceBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		defer b.stop()
		b.host.Listed(map[changefeed.ID]record.Epoch{testID: epochRecord("u", 7, "n1")})
		b.host.Deliver(from("n1", 7, b.bootstrap(changefeed.Options{"batch_changes": "10"})).Envelope)
		b.sink.set(func() {
			b.sink.onWrite = func(context.Context) error {
				time.Sleep(time.Second)
				return nil
			}
		})
		b.place(1, "-")
		synctest.Wait()
		for i := range 200 {
			b.source.put(keyOf(i))
		}
		for range 10 {
			pass(time.Second)
			synctest.Wait()
			written := len(b.sink.positions())
			// One batch in the sink, the next one read, and one event that has no room yet.
			taken := b.source.delivered()
			require.LessOrEqual(t, taken, written+10+10+1)
			require.GreaterOrEqual(t, taken, min(written+10, 200), "the next is read while one is written")
		}
		pass(time.Minute)
		require.Equal(t, positions(200), b.sink.positions())
	})
}

// Whatever was split or merged before, a claim of pieces that are unequally far neither repeats nor skips a change.
func TestPumpResumesFromUnequalPieces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		defer b.stop()
		for i := range 26 {
			b.source.put(keyOf(i)) // position i+1 has letter i
		}
		for i, piece := range []struct {
			span string
			at   change.Position
		}{{"-c", 2}, {"c-m", 8}, {"m-r", 0}, {"r-", 20}} {
			writer, err := b.sink.Claim(t.Context(), sink.Claim{Span: parseSpan(piece.span), Token: fence.Mint(7, fence.Seq(i+1))}) //nolint:gosec // small
			require.NoError(t, err)
			var batch []change.Change
			for _, c := range b.source.log {
				if parseSpan(piece.span).Contains(c.Key) && c.Position <= piece.at {
					batch = append(batch, c)
				}
			}
			require.NoError(t, writer.Write(t.Context(), sink.Batch{Changes: batch, Span: parseSpan(piece.span), To: change.At(piece.at)}))
		}
		b.place(9, "-")
		pass(time.Second)
		require.Equal(t, positions(26), sorted(b.sink.positions()))
	})
}

// pieces against an obvious second implementation: a mark per key.
func TestPiecesAdvanceLikeAMarkPerKey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var obvious [10]change.Mark
		p := newPieces([]sink.Piece{{Span: parseSpan("-")}})
		for range rapid.IntRange(1, 20).Draw(t, "advances") {
			start := rapid.IntRange(0, 9).Draw(t, "start")
			end := rapid.IntRange(start+1, 10).Draw(t, "end")
			mark := change.At(change.Position(rapid.Uint64Range(1, 9).Draw(t, "mark")))
			span := changefeed.Span{Start: []byte{byte('a' + start)}, End: []byte{byte('a' + end)}}
			if start == 0 {
				span.Start = nil
			}
			if end == 10 {
				span.End = nil
			}
			behind := p.behind(span, mark)
			expected := false
			for i := start; i < end; i++ {
				expected = expected || obvious[i].Before(mark)
				obvious[i] = change.Later(obvious[i], mark)
			}
			if behind != expected {
				t.Fatalf("behind(%v, %v) = %v", span, mark, behind)
			}
			p.advance(span, mark)
		}
		lowest := obvious[0]
		for i, mark := range obvious {
			lowest = change.Earlier(lowest, mark)
			c := change.Change{Key: []byte{byte('a' + i)}, Position: mark.Position}
			above := change.Change{Key: c.Key, Position: mark.Position + 1}
			kept := p.undone([]change.Change{c, above})
			if mark.Position > 0 && len(kept) != 1 {
				t.Fatalf("key %d at %v keeps %v", i, mark, kept)
			}
		}
		if p.mark() != lowest {
			t.Fatalf("mark %v, want %v", p.mark(), lowest)
		}
		spans := make([]changefeed.Span, 0, len(p.items))
		for _, piece := range p.items {
			spans = append(spans, piece.Span)
		}
		if err := changefeed.CheckCover(changefeed.Whole(), spans); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	require.NoError(t, changefeed.Options{
		"batch_changes": "1", "batch_bytes": "1024", "flush_interval": "50ms", "retry_limit": "0",
	}.Validate(Options()))
	for name, value := range map[string]string{
		"batch_changes": "0", "batch_bytes": "many", "flush_interval": "2m", "retry_limit": "-1",
	} {
		require.Error(t, changefeed.Options{name: value}.Validate(Options()), name)
	}
	require.Error(t, changefeed.Options{"flush_interval": "soon"}.Validate(Options()))
	require.Equal(t, limits{changes: 5000, bytes: 4 << 20, retries: 10}, parseLimits(changefeed.Options{"batch_changes": "0"}))
	spec := record.Spec{Source: "postgres://copy@db/shop", Options: changefeed.Options{"batch_bytes": "2048"}}
	require.Equal(t, limits{changes: 50_000, bytes: 2048, retries: 10}, limitsOf(spec))
}
