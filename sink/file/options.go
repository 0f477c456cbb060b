package file

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"fencerow/changefeed"
)

// The options of this kind of sink.
var (
	optionRotateBytes = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: "rotate_bytes", Default: "64MiB", Check: check(parseBytes),
		Doc: "begin a new file when one has this many bytes: a number, or one with KiB, MiB or GiB, at least 4KiB",
	}
	optionRotateInterval = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: "rotate_interval", Default: "1h", Check: check(parseInterval),
		Doc: "begin a new file when one is this old: a duration such as 10m or 1h, at least 1s, or 0 for never",
	}
	optionCompress = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: "compress", Default: "none", Check: check(parseCompress),
		Doc: "how new files are compressed: none, or zstd (read with zstdcat)",
	}
	optionRetain = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: "retain", Default: "0", Check: check(parseInterval),
		Doc: "delete whole files that were written to longer ago than this: a duration such as 168h, at least 1s, or 0 to keep all",
	}
)

// Options returns the options that the sink takes.
func Options() []changefeed.Option {
	return []changefeed.Option{optionRotateBytes, optionRotateInterval, optionCompress, optionRetain}
}

// settings are the options as values.
type settings struct {
	rotateBytes    int64
	rotateInterval time.Duration // 0: never
	compress       compression
	retain         time.Duration // 0: keep all
}

func parseSettings(options changefeed.Options) (settings, error) {
	var mine changefeed.Options
	for _, option := range Options() {
		if value, found := options[option.Name]; found {
			if mine == nil {
				mine = changefeed.Options{}
			}
			mine[option.Name] = value
		}
	}
	if err := mine.Validate(Options()); err != nil {
		return settings{}, err
	}
	var s settings
	var err error
	if s.rotateBytes, err = parseBytes(mine.Value(optionRotateBytes)); err != nil {
		return settings{}, err
	}
	if s.rotateInterval, err = parseInterval(mine.Value(optionRotateInterval)); err != nil {
		return settings{}, err
	}
	if s.compress, err = parseCompress(mine.Value(optionCompress)); err != nil {
		return settings{}, err
	}
	s.retain, err = parseInterval(mine.Value(optionRetain))
	return s, err
}

func check[T any](parse func(string) (T, error)) func(string) error {
	return func(value string) error {
		_, err := parse(value)
		return err
	}
}

// rotateBytesMin keeps a file from holding less than its own head.
const rotateBytesMin = 4 << 10

func parseBytes(text string) (int64, error) {
	number, shift := text, 0
	for suffix, bits := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if rest, found := strings.CutSuffix(text, suffix); found {
			number, shift = rest, bits
		}
	}
	value, err := strconv.ParseInt(number, 10, 32)
	if err != nil || value<<shift < rotateBytesMin {
		return 0, fmt.Errorf("%.40q is not a size of at least 4KiB, such as 64MiB", text)
	}
	return value << shift, nil
}

func parseInterval(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	value, err := time.ParseDuration(text)
	if err != nil || value < time.Second {
		return 0, fmt.Errorf("%.40q is not a duration of at least 1s, such as 1h", text)
	}
	return value, nil
}

func parseCompress(text string) (compression, error) {
	switch text {
	case "none":
		return compressNone, nil
	case "zstd":
		return compressZstd, nil
	default:
		return 0, fmt.Errorf("%.40q is neither none nor zstd", text)
	}
}
