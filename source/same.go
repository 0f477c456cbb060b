package source

import "fencerow/changefeed"

// Same refuses a source that is not the one which was read so far, if that is known: source.replaced, permanent. Both are what
// [Source.Identity] returned.
func Same(known, answers string) error {
	if known == "" || known == answers {
		return nil
	}
	return &changefeed.Fault{
		Code: changefeed.CodeSourceReplaced, Field: "source", Value: answers,
		Detail:    "is not the source that was read so far, which was " + known,
		Cure:      "point the changefeed at the former source, or remove the changefeed and create it anew",
		Permanent: true,
	}
}
