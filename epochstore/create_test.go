package epochstore

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/fence"
	"fencerow/kv"
)

// A create compares that nothing is there, which is so again once what it made was deleted: the first attempt may arrive
// then, and bring back what was removed. So it is sent once only.
func TestACreateWhoseAnswerIsLostIsNotSentAgain(t *testing.T) {
	t.Parallel()
	create := createExchange("/cdc/c/specs/default/a", []byte("{}"))
	txn, more := create.Next()
	require.True(t, more)
	require.Len(t, txn.Then, 1)
	create.Answer(kv.Result{}, fence.ErrUnknown)
	readBack, more := create.Next()
	require.True(t, more)
	require.Empty(t, readBack.If)
	create.Answer(kv.Result{Succeeded: true, Responses: []kv.Response{{}}}, nil)
	_, more = create.Next()
	require.False(t, more, "it was sent again")
	require.ErrorIs(t, create.Outcomes()[0].Err, fence.ErrUnknown)
}
