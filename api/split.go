package api

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/record"
)

// split asks for borders between spans. They are kept in the spec; the owner hands over to one that obeys it, and what runs
// of the other spans runs on.
func (s *Server) split(r *http.Request) (reply, error) {
	var request shape.Split
	if err := decode(r, &request); err != nil {
		return reply{}, err
	}
	if n := len(request.At); n == 0 || n > changefeed.KeysMax {
		return reply{}, refuseKey("", fmt.Sprintf("has %d keys", n), fmt.Sprintf("name 1 to %d keys", changefeed.KeysMax))
	}
	return s.change(r, http.StatusAccepted, func(view View, spec *record.Spec) (bool, error) {
		borders, err := s.borders(r, view)
		if err != nil {
			return false, err
		}
		wanted := borders.split
		for _, key := range request.At {
			switch {
			case borders.at(key) || hasKey(wanted, key):
				return false, refuseKey(key.Word(), "is a border already", "name a key within a span of changefeed spans")
			case !borders.inside(key):
				return false, refuseKey(key.Word(), "lies outside of what the source holds", "name a key within a span of changefeed spans")
			}
			wanted = append(wanted, key)
		}
		if len(wanted) > changefeed.KeysMax {
			return false, refuseKey("", fmt.Sprintf("would make %d borders, more than %d", len(wanted), changefeed.KeysMax),
				"split at fewer keys, or merge others first")
		}
		setKeys(spec, changefeed.OptionSplitKeys, wanted)
		setKeys(spec, changefeed.OptionMergeKeys, withoutKeys(borders.merge, request.At))
		return true, nil
	})
}

// merge asks for the two spans that meet at a key to be one.
func (s *Server) merge(r *http.Request) (reply, error) {
	var request shape.Merge
	if err := decode(r, &request); err != nil {
		return reply{}, err
	}
	key := request.At
	return s.change(r, http.StatusAccepted, func(view View, spec *record.Spec) (bool, error) {
		borders, err := s.borders(r, view)
		switch {
		case err != nil:
			return false, err
		case !borders.inside(key):
			return false, refuseKey(key.Word(), "lies outside of what the source holds", "name a key at which two spans of changefeed spans meet")
		case !borders.at(key) && !hasKey(borders.split, key):
			return false, refuseKey(key.Word(), "is no border: no two spans meet there", "name a key at which two spans of changefeed spans meet")
		}
		// What was joined before has done its work, and is forgotten.
		unwanted := slices.DeleteFunc(borders.merge, func(other changefeed.Key) bool { return !borders.at(other) })
		if borders.at(key) && !hasKey(unwanted, key) {
			unwanted = append(unwanted, key)
		}
		if len(unwanted) > changefeed.KeysMax {
			return false, refuseKey(key.Word(), "is one more than can be merged at a time", "wait until those before are merged")
		}
		setKeys(spec, changefeed.OptionSplitKeys, withoutKeys(borders.split, []changefeed.Key{key}))
		setKeys(spec, changefeed.OptionMergeKeys, unwanted)
		return true, nil
	})
}

// borders are where spans of a changefeed meet, and what the spec says of that.
type borders struct {
	spans        []shape.Span // none while nobody owns it
	prefix       []byte       // of every key of the source, where there is one
	split, merge []changefeed.Key
}

func (s *Server) borders(r *http.Request, view View) (borders, error) {
	spec := view.Spec.Value
	if spec.Desired == changefeed.DesiredRemoved {
		return borders{}, beingRemoved(view.ID)
	}
	var out borders
	var err error
	if out.split, err = changefeed.ParseKeys(spec.Options[changefeed.OptionSplitKeys]); err == nil {
		out.merge, err = changefeed.ParseKeys(spec.Options[changefeed.OptionMergeKeys])
	}
	if err != nil {
		return out, &changefeed.Fault{
			Code: changefeed.CodeRecordInvalid, Field: "options", Detail: "have keys that can't be read", Err: err,
			Cure: "set them with changefeed update",
		}
	}
	if uri, parseErr := endpoint.Parse(spec.Source, endpoint.Policy{Literals: endpoint.AllowLiterals}); parseErr == nil && uri.Scheme == endpoint.Etcd {
		out.prefix = uri.Path
	}
	cover, err := s.cover(r, view)
	out.spans = cover.Items
	return out, err
}

// inside reports whether the source may hold the key.
func (b *borders) inside(key changefeed.Key) bool {
	if len(key) == 0 || !bytes.HasPrefix(key, b.prefix) || bytes.Equal(key, b.prefix) {
		return false
	}
	if len(b.spans) == 0 {
		return true
	}
	whole := changefeed.Span{Start: b.spans[0].Start, End: b.spans[len(b.spans)-1].End}
	return whole.Contains(key)
}

// at reports whether two spans meet at the key, or the first begins there.
func (b *borders) at(key changefeed.Key) bool {
	return slices.ContainsFunc(b.spans, func(span shape.Span) bool { return bytes.Equal(span.Start, key) })
}

func hasKey(keys []changefeed.Key, key changefeed.Key) bool {
	return slices.ContainsFunc(keys, func(other changefeed.Key) bool { return bytes.Equal(other, key) })
}

func withoutKeys(keys, others []changefeed.Key) []changefeed.Key {
	return slices.DeleteFunc(keys, func(key changefeed.Key) bool { return hasKey(others, key) })
}

// setKeys writes an option that is a list of keys. The options that were read stay as they are.
func setKeys(spec *record.Spec, name string, keys []changefeed.Key) {
	options := maps.Clone(spec.Options)
	if options == nil {
		options = changefeed.Options{}
	}
	slices.SortFunc(keys, func(a, b changefeed.Key) int { return bytes.Compare(a, b) })
	options[name] = changefeed.FormatKeys(keys)
	if len(keys) == 0 {
		delete(options, name)
	}
	spec.Options = options
}

func refuseKey(value, detail, cure string) error {
	if value != "" {
		value = fmt.Sprintf("%.140q", value)
	}
	return &changefeed.Fault{Code: changefeed.CodeRequestInvalid, Field: "at", Value: value, Detail: detail, Cure: cure}
}
