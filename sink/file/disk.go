package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"fencerow/changefeed"
	"fencerow/fence"
)

// disk is what the sink asks of a file system. It is the seam at which tests fill the disk, fail a sync, or pause.
type disk interface {
	// Create makes a file that must not exist yet, for appending.
	Create(name string) (handle, error)
	// Open opens a file for reading.
	Open(name string) (handle, error)
	// Link gives the file a second name that must not exist yet, in one step.
	Link(oldname, newname string) error
	Remove(name string) error
	Mkdir(name string) error
	Stat(name string) (fs.FileInfo, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	// SyncDir makes the directory's entries durable.
	SyncDir(name string) error
	// Overwrite opens a file, made if it isn't there, for writing over what it holds.
	Overwrite(name string) (overwriter, error)
}

// overwriter is a file that is written over, and never synced: a power cut may take it back, or away.
type overwriter interface {
	io.WriterAt
	io.Closer
}

// handle is an open file.
type handle interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Closer
	Sync() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
}

const (
	fileMode      = 0o644
	directoryMode = 0o755
)

// osDisk is the real file system.
type osDisk struct{}

func (osDisk) Create(name string) (handle, error) {
	return wrapHandle(os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, fileMode))
}

func (osDisk) Open(name string) (handle, error)           { return wrapHandle(os.Open(name)) }
func (osDisk) Link(oldname, newname string) error         { return os.Link(oldname, newname) }
func (osDisk) Remove(name string) error                   { return os.Remove(name) }
func (osDisk) Mkdir(name string) error                    { return os.Mkdir(name, directoryMode) }
func (osDisk) Stat(name string) (fs.FileInfo, error)      { return os.Stat(name) }
func (osDisk) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

func (osDisk) SyncDir(name string) error {
	directory, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

func (osDisk) Overwrite(name string) (overwriter, error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, fileMode)
	if err != nil {
		return nil, err
	}
	return file, nil
}

// wrapHandle keeps a nil *os.File from becoming a handle that is not nil.
func wrapHandle(file *os.File, err error) (handle, error) {
	if err != nil {
		return nil, err
	}
	return file, nil
}

// recordBytesMax bounds a claim or seal that is read: a map of the most pieces that a sink may hold.
const recordBytesMax = 64 << 20

func readSmall(d disk, name string) ([]byte, error) {
	file, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, recordBytesMax+1))
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if len(data) > recordBytesMax {
		return nil, fmt.Errorf("%s has more than %d bytes", name, recordBytesMax)
	}
	return data, nil
}

const temporaryPrefix = ".tmp-"

// createWhole creates a file with its whole content in one step, durably, or fails with fs.ErrExist if there is one
// already: it writes and syncs another name first and then links. Crash before the link: a temporary file is left,
// which nobody reads. After it: the file is there whole, though its entry may not be durable; whoever builds on it
// syncs the directory first.
func createWhole(d disk, name, nonce string, data []byte) error {
	directory := filepath.Dir(name)
	temporary := filepath.Join(directory, temporaryPrefix+nonce)
	file, err := d.Create(temporary)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = d.Link(temporary, name)
	}
	removed := d.Remove(temporary)
	if err != nil {
		return err
	}
	if err := errors.Join(d.SyncDir(directory), removed); err != nil {
		return fmt.Errorf("%w: %w", fence.ErrUnknown, err)
	}
	return nil
}

// removeTemporaries deletes what crashes left, once it is old enough to belong to nobody alive.
func removeTemporaries(d disk, directory string, before time.Time) {
	entries, err := d.ReadDir(directory)
	if err != nil {
		return // the caller meets the same directory again, and reports
	}
	for _, entry := range entries {
		if len(entry.Name()) <= len(temporaryPrefix) || entry.Name()[:len(temporaryPrefix)] != temporaryPrefix {
			continue
		}
		if info, err := entry.Info(); err == nil && info.ModTime().Before(before) {
			_ = d.Remove(filepath.Join(directory, entry.Name())) //nolint:errcheck // tried again at the next raise
		}
	}
}

// diskFault turns an error of the file system into what people are shown. Errors that are outcomes of a fence, and
// faults, stay as they are.
func diskFault(directory string, err error) error {
	var fault *changefeed.Fault
	if err == nil || errors.Is(err, fence.ErrStale) || errors.As(err, &fault) {
		return err
	}
	fault = &changefeed.Fault{
		Code: changefeed.CodeSinkUnreachable, Field: "sink", Value: "file://" + directory, Err: err,
		Detail: "failed", Cure: "see that the directory is mounted and works on every node",
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		fault.Code, fault.Detail, fault.Cure = changefeed.CodeSinkFull, "has no space left", "free space, or set the option retain; it goes on by itself"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		fault.Permanent, fault.Detail, fault.Cure = true, "may not be written", "give the user that runs cdc-node the right to write there, on every node"
	case errors.Is(err, syscall.ENOTDIR):
		fault.Permanent, fault.Detail, fault.Cure = true, "is not a directory", "name a directory"
	case errors.Is(err, fs.ErrNotExist):
		fault.Detail, fault.Cure = "is not there", "create its parent directory, or mount it, on every node"
	}
	return fault
}
