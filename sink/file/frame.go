package file

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// compression is how the payload of a data file is stored. The zero value is invalid.
type compression uint8

const (
	compressNone compression = iota + 1
	compressZstd
)

func (c compression) String() string {
	if c == compressZstd {
		return "zstd"
	}
	return "none"
}

func (c compression) suffix() string {
	if c == compressZstd {
		return ".jsonl.zst"
	}
	return ".jsonl"
}

// In a compressed file each line of ours is a skippable frame, so that any zstd tool passes over it and prints the
// changes alone.
const (
	skippableMagic     = 0x184D2A5F
	skippableHeadBytes = 8
)

// lineBytesMax bounds a line of ours: a header with the most pieces that a map may have.
const lineBytesMax = recordBytesMax

// payloadBytesMax bounds what a reader takes into memory for one batch. A batch has at most a few MiB, or one change.
const payloadBytesMax = 512 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // read only

const (
	checksumHead  = `,"crc":"`
	checksumTail  = "\"}"
	checksumBytes = len(checksumHead) + 8 + len(checksumTail)
)

// errTorn says that what stands there is not whole: cut off, or with a wrong checksum.
var errTorn = errors.New("torn")

// sign turns a JSON object into one that ends with the checksum of all of it before, and of the payload that follows.
func sign(value any, payload []byte) ([]byte, error) {
	line, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	line = line[:len(line)-1]
	sum := crc32.Update(crc32.Checksum(line, castagnoli), castagnoli, payload)
	return fmt.Appendf(line, "%s%08x%s", checksumHead, sum, checksumTail), nil
}

// verify checks a signed line with its payload and returns the object without the checksum.
func verify(line, payload []byte) ([]byte, error) {
	if len(line) <= checksumBytes {
		return nil, errTorn
	}
	body := line[:len(line)-checksumBytes]
	sum := crc32.Update(crc32.Checksum(body, castagnoli), castagnoli, payload)
	if string(line[len(body):]) != fmt.Sprintf("%s%08x%s", checksumHead, sum, checksumTail) {
		return nil, errTorn
	}
	return append(bytes.Clone(body), '}'), nil
}

// appendLine appends a line of ours to a data file's content.
func appendLine(dst, line []byte, c compression) []byte {
	if c == compressZstd {
		dst = binary.LittleEndian.AppendUint32(dst, skippableMagic)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(line)+1))
	}
	dst = append(dst, line...)
	return append(dst, '\n')
}

// readLine reads a line of ours, without its end, and how many bytes it took. io.EOF: there is nothing more; errTorn:
// there is something, but not a whole line.
func readLine(r *bufio.Reader, c compression) ([]byte, int64, error) {
	if c == compressZstd {
		return readSkippable(r)
	}
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], int64(len(line)), nil
		case errors.Is(err, bufio.ErrBufferFull) && len(line) <= lineBytesMax:
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil, 0, io.EOF
		case errors.Is(err, io.EOF), errors.Is(err, bufio.ErrBufferFull):
			return nil, 0, errTorn
		default:
			return nil, 0, err
		}
	}
}

func readSkippable(r *bufio.Reader) ([]byte, int64, error) {
	var head [skippableHeadBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errTorn
		}
		return nil, 0, err
	}
	size := binary.LittleEndian.Uint32(head[4:])
	if binary.LittleEndian.Uint32(head[:4]) != skippableMagic || size == 0 || size > lineBytesMax {
		return nil, 0, errTorn
	}
	line, err := readPayload(r, int64(size))
	if err != nil {
		return nil, 0, err
	}
	if line[size-1] != '\n' {
		return nil, 0, errTorn
	}
	return line[:size-1], int64(size) + skippableHeadBytes, nil
}

// readPayload reads so many bytes, growing as they come, so that a broken length can't take all memory.
func readPayload(r *bufio.Reader, size int64) ([]byte, error) {
	var buffer bytes.Buffer
	if _, err := io.CopyN(&buffer, r, size); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errTorn
		}
		return nil, err
	}
	return buffer.Bytes(), nil
}

// The coders are safe for concurrent use and hold memory, so a process has one of each, made on first use.
var (
	zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) { //nolint:gochecknoglobals // one for the process
		return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(2), zstd.WithEncoderLevel(zstd.SpeedFastest))
	})
	zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) { //nolint:gochecknoglobals // one for the process
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(payloadBytesMax))
	})
)

func (c compression) pack(dst, lines []byte) ([]byte, error) {
	if c != compressZstd || len(lines) == 0 {
		return append(dst, lines...), nil
	}
	encoder, err := zstdEncoder()
	if err != nil {
		return nil, err
	}
	return encoder.EncodeAll(lines, dst), nil
}

func (c compression) unpack(payload []byte) ([]byte, error) {
	if c != compressZstd || len(payload) == 0 {
		return payload, nil
	}
	decoder, err := zstdDecoder()
	if err != nil {
		return nil, err
	}
	return decoder.DecodeAll(payload, nil)
}
