package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/internal/wait"
)

// Defaults of a comparison.
const (
	verifyRate     = 20_000
	verifyLimit    = 100
	verifyEveryMin = time.Second
)

// errDiffers ends a comparison that found something: what it is was printed.
var errDiffers = errors.New("the target is not what the source is; see above for the rows")

// verifying is what the flags of verify say.
type verifying struct {
	rate, limit int
	every       time.Duration
}

func newVerify(c *common) *cobra.Command {
	var how verifying
	cmd := c.nameFlags(&cobra.Command{
		Use: "verify NAME", Short: "Compare the target with the source while changes go on, and name the rows that differ", Args: cobra.ExactArgs(1),
		Long: "Compare what the target holds with what the source holds, in chunks of keys, while changes go on. Nothing is held up or\n" +
			"locked: rows that differ are looked at again until it is certain that they do. The node at --server reads both sides, with\n" +
			"its secrets. Exit code 1 when rows differ; 5 when there are none, and some rows or tables could not be compared. With --every\n" +
			"it begins again, until Ctrl-C.",
		Example: "  cdc-node verify orders\n  cdc-node verify orders --every 1h --rate 5000",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("every") && how.every < verifyEveryMin {
				return usageError{fmt.Errorf("--every %v is too short; give a duration of at least %v", how.every, verifyEveryMin)}
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return c.withFeed(cmd, args[0], "verify", func(asked *asking) error {
				asked.ctx = ctx
				return how.run(cmd, c, asked)
			})
		},
	})
	cmd.Flags().IntVar(&how.rate, "rate", verifyRate, "rows a second that are read, at most")
	cmd.Flags().IntVar(&how.limit, "limit", verifyLimit, "differences that are named, at most; there it ends")
	cmd.Flags().DurationVar(&how.every, "every", 0, "begin again so often, until Ctrl-C")
	return cmd
}

// run compares, once or again and again. What any comparison found counts.
func (how verifying) run(cmd *cobra.Command, c *common, asked *asking) error {
	found := error(nil)
	for {
		began := time.Now()
		err := how.once(cmd, c, asked)
		switch {
		case how.every == 0:
			return err
		case asked.ctx.Err() != nil:
			return found
		case errors.Is(err, errDiffers), err != nil && found == nil && isVerdict(err):
			found = err
		case err != nil && !isVerdict(err):
			// A node that is away for a while does not end a watch.
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s; trying again\n", oneLine(err))
		}
		if !wait.For(asked.ctx, max(how.every-time.Since(began), verifyEveryMin)) {
			return found
		}
	}
}

func isVerdict(err error) bool { return errors.Is(err, errDiffers) || errors.Is(err, errUnsettled) }

// errUnsettled ends a comparison that found nothing, and could not tell of all rows in time, or of all tables.
var errUnsettled error = unsettledError{}

type unsettledError struct{}

func (unsettledError) Error() string {
	return "no row is known to differ, and not all could be compared; see above"
}

func (unsettledError) Is(target error) bool { return target == context.DeadlineExceeded }

func (how verifying) once(cmd *cobra.Command, c *common, asked *asking) error {
	tell, done := verifyProgress(asked.id)
	answer, err := asked.Verify(asked.ctx, asked.id, how.rate, how.limit, tell)
	done()
	if err != nil {
		return err
	}
	if err := show(cmd, c, answer, tableOfVerified); err != nil {
		return err
	}
	return verdictOf(answer.Value)
}

// verdictOf says what a comparison comes to: nil only if all was compared.
func verdictOf(report shape.Verified) error {
	leftOut := slices.ContainsFunc(report.NotCompared, func(n shape.NotCompared) bool { return len(n.Columns) == 0 })
	switch {
	case len(report.Differences) > 0:
		return errDiffers
	case report.UnsettledCount > 0 || leftOut:
		return errUnsettled
	default:
		return nil
	}
}

// verifyProgress shows how far a comparison is on a terminal, and nothing in a pipe.
func verifyProgress(id changefeed.ID) (tell func(shape.VerifyProgress), done func()) {
	if !terminal(os.Stderr) {
		return func(shape.VerifyProgress) {}, func() {}
	}
	found, last := 0, ""
	return func(p shape.VerifyProgress) {
			if p.Difference != nil {
				found++
				return
			}
			last = fmt.Sprintf("%s: compared %d of about %d rows, %d looked at again, %d differ", id, p.Rows, max(p.Rows, p.Total), p.Pending, found)
			_, _ = fmt.Fprintf(os.Stderr, "\r\x1b[K%s", cut(last, max(columnsOf(os.Stderr)-1, columnMin)))
		}, func() {
			if last != "" {
				_, _ = fmt.Fprint(os.Stderr, "\r\x1b[K")
			}
		}
}

func tableOfVerified(w io.Writer, v shape.Verified) {
	if len(v.Differences) > 0 {
		var rows [][]string
		for _, one := range v.Differences {
			rows = append(rows, []string{one.Kind, word(one.Table), word(one.Key.Word()), word(strings.Join(one.Columns, ","))})
		}
		grid(w, "DIFFERENCE TABLE KEY COLUMNS", rows)
	}
	for _, one := range v.Unsettled {
		_, _ = fmt.Fprintf(w, "not settled: %s\n", strings.TrimSpace(one.Table+" "+one.Key.Word()+": "+one.Why))
	}
	for _, one := range v.NotCompared {
		what := one.Table
		if len(one.Columns) > 0 {
			what += " (" + strings.Join(one.Columns, ", ") + ")"
		}
		_, _ = fmt.Fprintf(w, "not compared: %s: %s\n", what, one.Why)
	}
	_, _ = fmt.Fprintf(w, "compared %d rows in %v, as the source was from position %s to %s", v.Rows, v.Ended.Sub(v.Started).Round(time.Millisecond), v.From, v.To)
	if v.SyncPoint != nil {
		_, _ = fmt.Fprintf(w, ", with sync point %s between", *v.SyncPoint)
	}
	_, _ = fmt.Fprintf(w, ": %d differ, %d not settled\n", len(v.Differences), v.UnsettledCount)
	if v.Limited {
		_, _ = fmt.Fprintln(w, "there are more: raise --limit to have the rest compared")
	}
}
