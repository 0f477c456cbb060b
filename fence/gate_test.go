package fence_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/fence"
)

func claim(uid string, epoch fence.Epoch, owner string) fence.Claimant {
	return fence.Claimant{UID: uid, Epoch: epoch, Owner: owner}
}

// gateAt returns a gate that has seen the records in this order.
func gateAt(records ...fence.Claimant) *fence.Gate {
	var gate fence.Gate
	for _, record := range records {
		gate.Observe(record)
	}
	return &gate
}

func removedGate(record fence.Claimant) *fence.Gate {
	gate := gateAt(record)
	gate.Remove()
	return gate
}

func legacyGate(records ...fence.Claimant) *fence.Gate {
	gate := fence.NewLegacyGate()
	for _, record := range records {
		gate.Observe(record)
	}
	return &gate
}

// fence:F9, F10, F11, F14, F15
func TestGateAdmitsOnlyTheOwnerOfTheHeldEpoch(t *testing.T) {
	t.Parallel()
	held := claim("u", 7, "n1")
	for name, test := range map[string]struct {
		gate *fence.Gate
		from fence.Claimant
		want error
	}{
		"the owner at the held epoch":                   {gateAt(held), held, nil},
		"an older epoch of the same owner":              {gateAt(held), claim("u", 6, "n1"), fence.RefusedOlder},
		"another sender at the held epoch":              {gateAt(held), claim("u", 7, "n2"), fence.RefusedOtherSender},
		"nobody at the held epoch":                      {gateAt(held), claim("u", 7, ""), fence.RefusedOtherSender},
		"nobody at an epoch that nobody owns":           {gateAt(claim("u", 7, "")), claim("u", 7, ""), fence.RefusedOtherSender},
		"a newer epoch":                                 {gateAt(held), claim("u", 8, "n2"), fence.RefusedUnraised},
		"another uid at the held epoch":                 {gateAt(held), claim("v", 7, "n1"), fence.RefusedUID},
		"another uid at a newer epoch":                  {gateAt(held), claim("v", 8, "n1"), fence.RefusedUID},
		"no uid":                                        {gateAt(held), claim("", 7, "n1"), fence.RefusedUID},
		"the owner of a removed uid":                    {removedGate(held), held, fence.RefusedUID},
		"anybody at a gate that holds nothing":          {gateAt(), held, fence.RefusedUID},
		"the zero claimant at a gate that has nothing":  {gateAt(), fence.Claimant{}, fence.RefusedZero},
		"epoch 0 at a real epoch":                       {gateAt(held), claim("u", 0, "n1"), fence.RefusedZero},
		"epoch 0 while upgrading, from the owner":       {legacyGate(claim("u", 0, "n1")), claim("u", 0, "n1"), nil},
		"epoch 0 while upgrading, from another":         {legacyGate(claim("u", 0, "n1")), claim("u", 0, "n2"), fence.RefusedOtherSender},
		"epoch 0 while upgrading, nothing known":        {legacyGate(), claim("u", 0, "n1"), fence.RefusedUID},
		"epoch 0 while upgrading, after a real epoch":   {legacyGate(claim("u", 0, "n1"), held), claim("u", 0, "n1"), fence.RefusedZero},
		"epoch 0 where records of epoch 0 do not count": {gateAt(claim("u", 0, "n1")), claim("u", 0, "n1"), fence.RefusedZero},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := test.gate.Held()
			err := test.gate.Admit(test.from)
			if test.want == nil {
				require.NoError(t, err)
			} else {
				require.Equal(t, test.want, err)
				require.ErrorIs(t, err, fence.ErrStale)
			}
			require.Equal(t, before, test.gate.Held(), "Admit changes nothing")
		})
	}
}

// fence:F9, F10, F12, F14, F15. Hazards 36, 40, 41, 42.
func TestGateDecidesOnABootstrap(t *testing.T) {
	t.Parallel()
	held := claim("u", 7, "n1")
	for name, test := range map[string]struct {
		gate    *fence.Gate
		from    fence.Claimant
		verdict fence.Verdict
		want    error
	}{
		"of the held epoch and owner":                 {gateAt(held), held, fence.BootstrapAdmitted, nil},
		"of an older epoch":                           {gateAt(held), claim("u", 6, "n1"), fence.BootstrapRefused, fence.RefusedOlder},
		"of the held epoch, from another":             {gateAt(held), claim("u", 7, "n2"), fence.BootstrapRefused, fence.RefusedOtherSender},
		"of a newer epoch":                            {gateAt(held), claim("u", 8, "n2"), fence.BootstrapUnconfirmed, nil},
		"of a huge epoch":                             {gateAt(held), claim("u", 1<<63, "n2"), fence.BootstrapUnconfirmed, nil},
		"of another uid at a newer epoch":             {gateAt(held), claim("v", 8, "n2"), fence.BootstrapUnconfirmed, nil},
		"of another uid at the held epoch":            {gateAt(held), claim("v", 7, "n1"), fence.BootstrapRefused, fence.RefusedUID},
		"of a removed uid at a newer epoch":           {removedGate(held), claim("u", 8, "n1"), fence.BootstrapRefused, fence.RefusedUID},
		"of a removed uid at the held epoch":          {removedGate(held), held, fence.BootstrapRefused, fence.RefusedUID},
		"of a new uid after a removal":                {removedGate(held), claim("v", 8, "n1"), fence.BootstrapUnconfirmed, nil},
		"at a gate that holds nothing":                {gateAt(), held, fence.BootstrapUnconfirmed, nil},
		"of epoch 0":                                  {gateAt(), claim("u", 0, "n1"), fence.BootstrapRefused, fence.RefusedZero},
		"of epoch 0 while upgrading, from the owner":  {legacyGate(claim("u", 0, "n1")), claim("u", 0, "n1"), fence.BootstrapAdmitted, nil},
		"of epoch 0 while upgrading, after real ones": {legacyGate(held), claim("u", 0, "n1"), fence.BootstrapRefused, fence.RefusedZero},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := test.gate.Held()
			verdict, err := test.gate.AdmitBootstrap(test.from)
			require.Equal(t, test.verdict, verdict)
			if test.want == nil {
				require.NoError(t, err)
			} else {
				require.Equal(t, test.want, err)
			}
			require.Equal(t, before, test.gate.Held(), "the records were not asked yet")
		})
	}
}

// fence:F12, F15. Hazard 41: a huge epoch of a broken peer locks nobody out, since the records do not know it.
func TestGateConfirmsOnlyWhatTheRecordsSay(t *testing.T) {
	t.Parallel()
	held := claim("u", 7, "n1")
	next := claim("u", 8, "n2")
	nobody := claim("u", 8, "")
	for name, test := range map[string]struct {
		gate   *fence.Gate
		from   fence.Claimant
		record fence.Claimant
		want   error
		holds  fence.Claimant
	}{
		"the record says the same":                {gateAt(held), next, next, nil, next},
		"the gate has seen the record already":    {gateAt(held, next), next, next, nil, next},
		"the record has another owner":            {gateAt(held), next, claim("u", 8, "n3"), fence.RefusedUnconfirmed, claim("u", 8, "n3")},
		"the record has another uid":              {gateAt(held), next, claim("v", 8, "n2"), fence.RefusedUnconfirmed, claim("v", 8, "n2")},
		"the record is older than what is held":   {gateAt(held), claim("u", 6, "n2"), claim("u", 6, "n2"), fence.RefusedUnconfirmed, held},
		"the record is newer than the claim":      {gateAt(held), next, claim("u", 9, "n3"), fence.RefusedUnconfirmed, claim("u", 9, "n3")},
		"there is no record":                      {gateAt(held), next, fence.Claimant{}, fence.RefusedUnconfirmed, held},
		"a huge epoch that the record denies":     {gateAt(held), claim("u", 1<<63, "n2"), held, fence.RefusedUnconfirmed, held},
		"nobody claims an epoch that nobody owns": {gateAt(held), nobody, nobody, fence.RefusedUnconfirmed, nobody},
		"the record was deleted since it was read": {
			removedGate(next), next, next, fence.RefusedUnconfirmed, next,
		},
		"a removed uid at a newer epoch": {removedGate(held), next, next, fence.RefusedUnconfirmed, held},
		"the zero claimant":              {gateAt(), fence.Claimant{}, fence.Claimant{}, fence.RefusedUnconfirmed, fence.Claimant{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.gate.Confirm(test.from, test.record)
			if test.want == nil {
				require.NoError(t, err)
				require.NoError(t, test.gate.Admit(test.from))
			} else {
				require.Equal(t, test.want, err)
			}
			require.Equal(t, test.holds, test.gate.Held())
		})
	}
}

// fence:F13, F14, F15
func TestGateObservesRecords(t *testing.T) {
	t.Parallel()
	held := claim("u", 7, "n1")
	for name, test := range map[string]struct {
		gate   *fence.Gate
		record fence.Claimant
		raised bool
		holds  fence.Claimant
	}{
		"a newer one":                              {gateAt(held), claim("u", 8, "n2"), true, claim("u", 8, "n2")},
		"the same one":                             {gateAt(held), held, false, held},
		"another owner at the same epoch":          {gateAt(held), claim("u", 7, "n2"), false, held},
		"an older one, told late":                  {gateAt(held), claim("u", 6, "n2"), false, held},
		"no owner":                                 {gateAt(held), claim("u", 8, ""), true, claim("u", 8, "")},
		"another uid":                              {gateAt(held), claim("v", 8, "n1"), true, claim("v", 8, "n1")},
		"a newer one of a removed uid":             {removedGate(held), claim("u", 8, "n1"), false, held},
		"a new uid after a removal":                {removedGate(held), claim("v", 8, "n1"), true, claim("v", 8, "n1")},
		"the zero record":                          {gateAt(), fence.Claimant{}, false, fence.Claimant{}},
		"epoch 0 where it does not count":          {gateAt(), claim("u", 0, "n1"), false, fence.Claimant{}},
		"epoch 0 while upgrading":                  {legacyGate(), claim("u", 0, "n1"), true, claim("u", 0, "n1")},
		"epoch 0 while upgrading, the same again":  {legacyGate(claim("u", 0, "n1")), claim("u", 0, "n1"), false, claim("u", 0, "n1")},
		"epoch 0 while upgrading, without a uid":   {legacyGate(), claim("", 0, "n1"), false, fence.Claimant{}},
		"epoch 0 while upgrading, after real ones": {legacyGate(held), claim("u", 0, "n2"), false, held},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.raised, test.gate.Observe(test.record))
			require.Equal(t, test.holds, test.gate.Held())
		})
	}
}

// fence:F15. A name that is created again while the cluster is being upgraded is served.
func TestLegacyGateServesARecreatedName(t *testing.T) {
	t.Parallel()
	gate := legacyGate(claim("u", 0, "n1"))
	gate.Remove()
	require.True(t, gate.Removed())
	require.False(t, gate.Observe(claim("u", 0, "n2")))
	require.True(t, gate.Observe(claim("v", 0, "n1")))
	require.False(t, gate.Removed())
	require.NoError(t, gate.Admit(claim("v", 0, "n1")))
}

// fence:F14. Once the cluster is upgraded, what was admitted at epoch 0 no longer is, and no record brings it back.
func TestEpochZeroEndsWithTheUpgrade(t *testing.T) {
	t.Parallel()
	gate := legacyGate(claim("u", 0, "n1"))
	require.NoError(t, gate.Admit(claim("u", 0, "n1")))
	gate.EndLegacy()
	require.ErrorIs(t, gate.Admit(claim("u", 0, "n1")), fence.RefusedZero)
	_, err := gate.AdmitBootstrap(claim("u", 0, "n1"))
	require.ErrorIs(t, err, fence.RefusedZero)
	require.False(t, gate.Observe(claim("u", 0, "n2")))
	require.True(t, gate.Observe(claim("u", 5, "n2")))
	require.NoError(t, gate.Admit(claim("u", 5, "n2")))
}

func TestRefusalsNameTheirRule(t *testing.T) {
	t.Parallel()
	for refusal, rule := range map[fence.Refusal]string{
		fence.RefusedOlder: "F9", fence.RefusedOtherSender: "F10", fence.RefusedUnraised: "F11",
		fence.RefusedUnconfirmed: "F12", fence.RefusedZero: "F14", fence.RefusedUID: "F15", fence.RefusedToken: "F16",
		fence.Refusal(99): "F99",
	} {
		require.Equal(t, rule, refusal.Rule())
		require.Contains(t, refusal.Error(), rule+": ")
		require.ErrorIs(t, refusal, fence.ErrStale)
		require.NotErrorIs(t, refusal, fence.ErrUnknown)
	}
}

func TestAdmissionAllocatesNothing(t *testing.T) { // not parallel: allocations of others would count
	if testing.CoverMode() != "" {
		t.Skip("coverage allocates")
	}
	gate := gateAt(claim("u", 7, "n1"))
	var refused error
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		refused = errors.Join() // nil: keeps the compiler from dropping the calls
		if err := gate.Admit(claim("u", 7, "n1")); err != nil {
			refused = err
		}
		if err := gate.Admit(claim("u", 6, "n1")); err == nil {
			refused = fence.ErrUnknown
		}
		if verdict, err := gate.AdmitBootstrap(claim("u", 7, "n1")); err != nil || verdict != fence.BootstrapAdmitted {
			refused = fence.ErrUnknown
		}
	}))
	require.NoError(t, refused)
}

func BenchmarkGateAdmit(b *testing.B) {
	gate := gateAt(claim("0b53c9aa-7d1c-4d0a-9f0e-2d9f5d1c5a10", 7, "node-8d1f2c3b4a5968778695a4b3c2d1e0f0"))
	from := claim("0b53c9aa-7d1c-4d0a-9f0e-2d9f5d1c5a10", 7, "node-8d1f2c3b4a5968778695a4b3c2d1e0f0")
	b.ReportAllocs()
	for b.Loop() {
		if err := gate.Admit(from); err != nil {
			b.Fatal(err)
		}
	}
}
