package file

import (
	"errors"
	"io/fs"
	"sync"

	"fencerow/sink/sinktest"
)

var errCrashed = errors.New("the node has crashed")

// quickDisk does not wait for the disk: what is written is seen by all processes at once, and no test cuts the power.
type quickDisk struct{ osDisk }

func (quickDisk) SyncDir(string) error { return nil }

func (d quickDisk) Create(name string) (handle, error) { return quick(d.osDisk.Create(name)) }

func (d quickDisk) Open(name string) (handle, error) { return quick(d.osDisk.Open(name)) }

func quick(opened handle, err error) (handle, error) {
	if err != nil {
		return nil, err
	}
	return quickHandle{opened}, nil
}

type quickHandle struct{ handle }

func (quickHandle) Sync() error { return nil }

// faultyDisk is the real file system until a fault: a crash at one effect, or whatever fail says.
type faultyDisk struct {
	quickDisk
	crash sinktest.Crash
	// fail is asked before each effect; an error is what it returns, after half of a write.
	fail func(effect, name string) error

	mutex   sync.Mutex
	effects int
	dead    bool
}

func (d *faultyDisk) fired() bool {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.dead
}

// effect does one effect, or not.
func (d *faultyDisk) effect(kind, name string, do, half func() error) error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.dead {
		return errCrashed
	}
	if d.fail != nil {
		if err := d.fail(kind, name); err != nil {
			if half != nil {
				_ = half()
			}
			return err
		}
	}
	d.effects++
	if d.effects != d.crash.At {
		return do()
	}
	d.dead = true
	switch {
	case d.crash.When == sinktest.AfterEffect:
		_ = do()
	case d.crash.When == sinktest.HalfWay && half != nil:
		_ = half()
	}
	return errCrashed
}

func (d *faultyDisk) Create(name string) (opened handle, err error) {
	err = d.effect("create", name, func() error {
		opened, err = d.quickDisk.Create(name)
		return err
	}, nil)
	if err != nil {
		return nil, err
	}
	return &faultyHandle{handle: opened, disk: d, name: name}, nil
}

func (d *faultyDisk) Open(name string) (handle, error) {
	if d.fired() {
		return nil, errCrashed
	}
	opened, err := d.quickDisk.Open(name)
	if err != nil {
		return nil, err
	}
	return &faultyHandle{handle: opened, disk: d, name: name}, nil
}

func (d *faultyDisk) Stat(name string) (fs.FileInfo, error) {
	if d.fired() {
		return nil, errCrashed
	}
	return d.quickDisk.Stat(name)
}

func (d *faultyDisk) Link(oldname, newname string) error {
	return d.effect("link", newname, func() error { return d.quickDisk.Link(oldname, newname) }, nil)
}

func (d *faultyDisk) Remove(name string) error {
	return d.effect("remove", name, func() error { return d.quickDisk.Remove(name) }, nil)
}

func (d *faultyDisk) Mkdir(name string) error {
	return d.effect("mkdir", name, func() error { return d.quickDisk.Mkdir(name) }, nil)
}

func (d *faultyDisk) SyncDir(name string) error {
	return d.effect("sync directory", name, func() error { return d.quickDisk.SyncDir(name) }, nil)
}

type faultyHandle struct {
	handle
	disk *faultyDisk
	name string
}

func (h *faultyHandle) Write(data []byte) (n int, err error) {
	err = h.disk.effect("write", h.name, func() error {
		n, err = h.handle.Write(data)
		return err
	}, func() error {
		n, err = h.handle.Write(data[:len(data)/2])
		return err
	})
	return n, err
}

func (h *faultyHandle) Sync() error {
	return h.disk.effect("sync", h.name, h.handle.Sync, nil)
}

func (h *faultyHandle) Truncate(size int64) error {
	return h.disk.effect("truncate", h.name, func() error { return h.handle.Truncate(size) }, nil)
}
