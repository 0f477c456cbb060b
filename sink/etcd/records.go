package etcd

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/sink"
)

// headRecord is the value of the head.
type headRecord struct {
	sink.Head
	Target    string           // the prefix that the positions speak of
	NextClaim sink.Incarnation // never used before
}

type headJSON struct {
	Head      sink.Head        `json:"head"`
	Target    changefeed.Key   `json:"target"`
	NextClaim sink.Incarnation `json:"next_claim"`
}

// claimRecord is the value of claims/<n>.
type claimRecord struct {
	Epoch fence.Epoch    `json:"epoch"`
	Seq   fence.Seq      `json:"seq"`
	Start changefeed.Key `json:"start"`
	End   changefeed.Key `json:"end,omitempty"`
}

// markRecord is one piece in marks/<n>.
type markRecord struct {
	Start    changefeed.Key  `json:"start"`
	End      changefeed.Key  `json:"end,omitempty"`
	Position change.Position `json:"position"`
	Index    uint32          `json:"index,omitempty"`
}

// targetRecord is the value of a registered prefix.
type targetRecord struct {
	Target    changefeed.Key `json:"target"`
	Cluster   string         `json:"cluster"`
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	UID       string         `json:"uid"`
}

// encode writes a record. Its types are made so that it can't fail.
func encode(record any) []byte {
	data, err := json.Marshal(record)
	if err != nil {
		return []byte("not valid: " + err.Error())
	}
	return data
}

func targetOf(as sink.Identity, target string) targetRecord {
	return targetRecord{
		Target: changefeed.Key(target), Cluster: as.Cluster,
		Namespace: as.Changefeed.Namespace, Name: as.Changefeed.Name, UID: string(as.UID),
	}
}

func (t targetRecord) identity() sink.Identity {
	return sink.Identity{
		Cluster: t.Cluster, Changefeed: changefeed.ID{Namespace: t.Namespace, Name: t.Name}, UID: changefeed.UID(t.UID),
	}
}

func (h headRecord) encode() []byte {
	return encode(headJSON{Head: h.Head, Target: changefeed.Key(h.Target), NextClaim: h.NextClaim})
}

func decodeHead(pair kv.Pair) (headRecord, error) {
	var in headJSON
	if err := json.Unmarshal(pair.Value, &in); err != nil {
		return headRecord{}, broken(pair.Key, err)
	}
	if !in.Head.Exists() || in.NextClaim == 0 {
		return headRecord{}, broken(pair.Key, fmt.Errorf("head or next_claim is missing"))
	}
	return headRecord{Head: in.Head, Target: string(in.Target), NextClaim: in.NextClaim}, nil
}

func encodeClaim(claim sink.Claim) []byte {
	return encode(claimRecord{
		Epoch: claim.Token.Epoch(), Seq: claim.Token.Seq(), Start: claim.Span.Start, End: claim.Span.End,
	})
}

func encodeMarks(pieces []sink.Piece) []byte {
	out := make([]markRecord, 0, len(pieces))
	for _, piece := range pieces {
		out = append(out, markRecord{
			Start: piece.Span.Start, End: piece.Span.End, Position: piece.Mark.Position, Index: piece.Mark.Index,
		})
	}
	return encode(out)
}

func decodeMarks(pair kv.Pair) ([]sink.Piece, error) {
	var in []markRecord
	if err := json.Unmarshal(pair.Value, &in); err != nil {
		return nil, broken(pair.Key, err)
	}
	out := make([]sink.Piece, 0, len(in))
	for _, piece := range in {
		out = append(out, sink.Piece{
			Span: changefeed.Span{Start: piece.Start, End: piece.End},
			Mark: change.Mark{Position: piece.Position, Index: piece.Index},
		})
	}
	return out, nil
}

// state is what the target holds of one changefeed at one revision.
type state struct {
	layout layout
	head   headRecord // zero if there is none
	headAt int64      // mod revision of the head; 0 if there is none
	held   sink.Map
	claims map[sink.Incarnation][]byte // values of claims/<n>
	rest   bool                        // there is a key for the pieces without writer
	syncs  []change.Position           // sync points, in order
}

// decodeState reads the keys below a layout's root.
func decodeState(l layout, pairs []kv.Pair) (*state, error) {
	s := &state{layout: l, claims: make(map[sink.Incarnation][]byte)}
	var held []sink.Held
	marks := make(map[sink.Incarnation][]sink.Piece)
	for _, pair := range pairs {
		if strings.HasPrefix(pair.Key, l.syncsPrefix()) {
			at, err := l.parseSync(pair.Key)
			if err != nil {
				return nil, err
			}
			s.syncs = append(s.syncs, at)
			continue
		}
		n, kind, err := s.locate(pair.Key)
		if err != nil {
			return nil, err
		}
		switch kind {
		case headKey:
			s.headAt = pair.ModRevision
			s.head, err = decodeHead(pair)
		case restKey:
			s.rest = true
			var rest sink.Map
			if err = json.Unmarshal(pair.Value, &rest); err != nil {
				err = broken(pair.Key, err)
			}
			held = append(held, rest.Held()...)
		case claimKey:
			s.claims[n] = pair.Value
		case marksKey:
			marks[n], err = decodeMarks(pair)
		}
		if err != nil {
			return nil, err
		}
	}
	for n, value := range s.claims {
		pieces, err := piecesOf(l, n, value, marks[n])
		if err != nil {
			return nil, err
		}
		held = append(held, pieces...)
	}
	var err error
	if s.held, err = sink.NewMap(held); err != nil {
		return nil, broken(l.root, err)
	}
	return s, nil
}

// piecesOf joins a claim with its marks.
func piecesOf(l layout, n sink.Incarnation, value []byte, marks []sink.Piece) ([]sink.Held, error) {
	var claim claimRecord
	if err := json.Unmarshal(value, &claim); err != nil {
		return nil, broken(l.claim(n), err)
	}
	var held []sink.Held
	var spans []changefeed.Span
	for _, piece := range marks {
		spans = append(spans, piece.Span)
		held = append(held, sink.Held{Piece: piece, Token: fence.Mint(claim.Epoch, claim.Seq), Incarnation: n})
	}
	if err := changefeed.CheckCover(changefeed.Span{Start: claim.Start, End: claim.End}, spans); err != nil {
		return nil, broken(l.marks(n), err)
	}
	return held, nil
}

type keyKind uint8

const (
	headKey keyKind = iota + 1
	restKey
	claimKey
	marksKey
)

func (s *state) locate(key string) (sink.Incarnation, keyKind, error) {
	kinds := []struct {
		prefix string
		kind   keyKind
	}{{s.layout.claimsPrefix(), claimKey}, {s.layout.marksPrefix(), marksKey}}
	switch key {
	case s.layout.head():
		return 0, headKey, nil
	case s.layout.rest():
		return 0, restKey, nil
	}
	for _, k := range kinds {
		text, found := strings.CutPrefix(key, k.prefix)
		if !found {
			continue
		}
		if n, err := strconv.ParseUint(text, 10, 64); err == nil && n > 0 {
			return sink.Incarnation(n), k.kind, nil
		}
	}
	return 0, 0, broken(key, fmt.Errorf("no such record is known"))
}
