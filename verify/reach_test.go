package verify

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
)

// hot is a source with a row that is another one whenever it is asked how far the target is, and a target that is one change behind.
type hot struct {
	half
	asked int
	wrong bool // the target has something that the source never had
}

func (h *hot) reached(context.Context) (change.Position, error) {
	h.asked++
	before := h.w.source["still-00"]
	version := h.w.next()
	h.w.source["still-00"] = cell{value: strconv.Itoa(h.asked), version: version}
	if h.w.target["still-00"] = before; h.wrong {
		h.w.target["still-00"] = cell{value: "wrong", version: version}
	}
	if h.asked%4 > 0 {
		return 0, nil
	}
	return h.w.position, nil
}

// A row that changes all the time is told of all the same, since the source is looked at while the target is waited for.
func TestARowThatIsWrittenAllTheTimeIsSettled(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(3)
			w.busy = 0
			source, target := w.sides()
			h := &hot{half: source, wrong: wrong}
			config := w.config(source, target)
			config.Reached, config.Poll = h.reached, 20*time.Millisecond
			report, err := Run(t.Context(), config)
			require.NoError(t, err)
			require.Positive(t, h.asked)
			require.Empty(t, report.Differences, "of a row that changes it can't be known that it is wrong")
			if wrong {
				require.Equal(t, 1, report.UnsettledCount)
			} else {
				require.Zero(t, report.UnsettledCount)
			}
		})
	}
}
