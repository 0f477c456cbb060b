package redo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"fencerow/changefeed"
	"fencerow/endpoint"
)

// About says what a log belongs to, for who has only the log. It decides nothing but how keys of the source become keys of
// a target.
type About struct {
	Format     int            `json:"format"`
	Changefeed string         `json:"changefeed"`
	UID        changefeed.UID `json:"uid"`
	Source     string         `json:"source"` // without a password
	Sink       string         `json:"sink"`   // without a password
}

const (
	aboutName     = "redo.json"
	aboutFormat   = 1
	aboutBytesMax = 64 << 10
)

// whole returns the key space of the source.
func (a About) whole() (changefeed.Span, error) {
	uri, err := endpoint.Parse(a.Source, endpoint.Policy{Field: "source", Literals: endpoint.AllowLiterals})
	if err != nil {
		return changefeed.Span{}, err
	}
	return endpoint.KeySpace(uri), nil
}

// store writes it into the directory, unless it is there.
func (a About) store(directory string) (err error) {
	a.Format = aboutFormat
	data, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("redo: %w", err)
	}
	data = append(data, '\n')
	name := filepath.Join(directory, aboutName)
	if found, err := os.ReadFile(name); err == nil && bytes.Equal(found, data) {
		return nil
	}
	temporary := filepath.Join(directory, ".tmp-"+uuid.NewString())
	if err := writeSynced(temporary, data); err != nil {
		return fmt.Errorf("redo: %w", errors.Join(err, os.Remove(temporary)))
	}
	if err := os.Rename(temporary, name); err != nil {
		return fmt.Errorf("redo: %w", errors.Join(err, os.Remove(temporary)))
	}
	return nil
}

func writeSynced(name string, data []byte) error {
	const mode = 0o644
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// ReadAbout reads what the log in the directory belongs to.
func ReadAbout(directory string) (About, error) {
	var about About
	name := filepath.Join(directory, aboutName)
	info, err := os.Stat(name)
	if err == nil && info.Size() > aboutBytesMax {
		err = fmt.Errorf("has %d bytes, more than %d", info.Size(), aboutBytesMax)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(name)
	}
	if err == nil {
		about, err = decodeAbout(data)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return About{}, &changefeed.Fault{
			Code: changefeed.CodeNotFound, Field: "directory", Value: directory, Detail: "holds no redo log", Err: err,
			Cure: "name the directory that the option redo of the changefeed names",
		}
	case err != nil:
		return About{}, &changefeed.Fault{
			Code: changefeed.CodeRecordInvalid, Field: "file", Value: name, Detail: "can't be read", Err: err, Cure: "restore it from a backup",
		}
	}
	return about, nil
}

func decodeAbout(data []byte) (About, error) {
	var about About
	if err := json.Unmarshal(data, &about); err != nil {
		return About{}, err
	}
	if about.Format != aboutFormat {
		return About{}, fmt.Errorf("has format %d, not %d", about.Format, aboutFormat)
	}
	return about, nil
}
