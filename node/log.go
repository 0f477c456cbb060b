package node

import (
	"fmt"
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"fencerow/changefeed"
)

// newLogger returns the node's log, which always goes to stderr, and the level that can be changed while it runs.
func newLogger(config Config) (*zap.Logger, zap.AtomicLevel, error) {
	level, err := parseLevel(config.LogLevel)
	if err != nil {
		return nil, zap.AtomicLevel{}, err
	}
	atomic := zap.NewAtomicLevelAt(level)
	var encoder zapcore.Encoder
	switch format := config.LogFormat; {
	case format == "console", format == "" && isTerminal(config.Stderr):
		settings := zap.NewDevelopmentEncoderConfig()
		settings.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoder = zapcore.NewConsoleEncoder(settings)
	case format == "json", format == "":
		settings := zap.NewProductionEncoderConfig()
		settings.EncodeTime = zapcore.RFC3339NanoTimeEncoder
		encoder = zapcore.NewJSONEncoder(settings)
	default:
		return nil, zap.AtomicLevel{}, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "--log-format", Value: fmt.Sprintf("%.40q", format),
			Detail: "is not a format", Cure: "give console or json",
		}
	}
	core := zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(config.Stderr)), atomic)
	return zap.New(core), atomic, nil
}

func parseLevel(text string) (zapcore.Level, error) {
	level, err := zapcore.ParseLevel(text)
	if err != nil || level > zapcore.ErrorLevel {
		return 0, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "--log-level", Value: fmt.Sprintf("%.40q", text),
			Detail: "is not a level", Cure: "give debug, info, warn or error",
		}
	}
	return level, nil
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
