package postgres

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// replay gives on what a transaction has spooled. It returns the tables that it describes as they were before others described them
// anew: the server says a thing once, so what it said last is to be read again when the transaction is over.
func (s *spool) replay(t *streamed, give func([]byte) error) (older []uint32, err error) {
	err = t.read(func(message []byte) error {
		if message[0] != kindRelation {
			return give(message)
		}
		oid, err := relationOID(message)
		if err != nil {
			return err
		}
		if arrived := t.relations[oid]; s.newest[oid].arrived <= arrived {
			s.newest[oid] = described{arrived: arrived, message: bytes.Clone(message)}
		} else if !slices.Contains(older, oid) {
			older = append(older, oid)
		}
		return give(message)
	})
	return older, err
}

// relationOID is whose description a message is.
func relationOID(message []byte) (uint32, error) {
	c := cursor{data: message[1:]}
	oid := c.uint32()
	if c.bad {
		return 0, fmt.Errorf("%w of kind %q", errMalformed, kindRelation)
	}
	return oid, nil
}

// read reads what is spooled, but for the changes of subtransactions that were rolled back. What these say of tables and types stays: the
// server says it once in a transaction, and what comes later there relies on it.
func (t *streamed) read(give func([]byte) error) error {
	if _, err := t.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%w: read it: %w", errNotSpooled, err)
	}
	reader := bufio.NewReaderSize(t.file, streamBufferBytes)
	var record [recordBytes]byte
	var message []byte
	for left := t.bytes; left > 0; {
		if _, err := io.ReadFull(reader, record[:]); err != nil {
			return fmt.Errorf("%w: read it: %w", errNotSpooled, err)
		}
		n := int64(binary.BigEndian.Uint32(record[:]))
		if left -= recordBytes + n; n == 0 || left < 0 {
			return fmt.Errorf("%w: its file is damaged", errNotSpooled)
		}
		message = slices.Grow(message[:0], int(n))[:n]
		if _, err := io.ReadFull(reader, message); err != nil {
			return fmt.Errorf("%w: read it: %w", errNotSpooled, err)
		}
		_, aborted := t.aborted[binary.BigEndian.Uint32(record[4:])]
		if aborted && message[0] != kindRelation && message[0] != kindType {
			continue
		}
		if err := give(message); err != nil {
			return err
		}
	}
	return nil
}
