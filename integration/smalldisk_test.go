// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq"
)

// mountedDisk is a file system of its own, in memory, that only this test sees.
type mountedDisk struct {
	t      testing.TB
	path   string // for every process of this user
	orders io.Writer
	done   *bufio.Scanner
}

// mountDisk mounts a disk of so many KiB in a namespace, which lives until the test
// ends. Others reach it through the process that holds it. The test is skipped
// where the system does not let users have namespaces.
func mountDisk(t testing.TB, kib int) *mountedDisk {
	t.Helper()
	const script = `mount -t tmpfs -o "size=$1k" tmpfs "$0" && echo mounted || exit 1
		while read -r options; do mount -o "remount,$options" "$0" && echo mounted || exit 1; done`
	at := t.TempDir()
	holder := exec.Command("unshare", "--map-root-user", "--mount", "sh", "-c", script, at, fmt.Sprint(kib))
	orders, err := holder.StdinPipe()
	must(t, err)
	answers, err := holder.StdoutPipe()
	must(t, err)
	var complaint strings.Builder
	holder.Stderr = &complaint
	if err := holder.Start(); err != nil {
		t.Skipf("cannot mount a disk: %v", err)
	}
	t.Cleanup(func() {
		_ = holder.Process.Kill() // it may just have ended by itself
		_ = holder.Wait()
	})
	d := &mountedDisk{t: t, path: fmt.Sprintf("/proc/%d/root%s", holder.Process.Pid, at), orders: orders, done: bufio.NewScanner(answers)}
	if !d.done.Scan() {
		_ = holder.Wait()
		t.Skipf("cannot mount a disk: %s", complaint.String())
	}
	return d
}

// remount changes how the disk is mounted.
func (d *mountedDisk) remount(options string) {
	d.t.Helper()
	_, err := fmt.Fprintln(d.orders, options)
	must(d.t, err)
	if !d.done.Scan() {
		d.t.Fatalf("cannot mount the disk as %s", options)
	}
}

// smallDisk is a disk with a broker on it that leaves some of it free.
type smallDisk interface {
	start(t testing.TB, reserve string) *diskServer
}

// diskServer is a broker on a small disk, until it is killed.
type diskServer struct {
	url        string
	management string
	kill       func()

	mu      sync.Mutex
	sockets []net.Conn
}

const memtableSize = 4 << 20

// dial connects until the server is killed.
func (s *diskServer) dial(t testing.TB) *amqp091.Connection {
	t.Helper()
	connection, err := amqp091.DialConfig(s.url, amqp091.Config{Dial: func(network, addr string) (net.Conn, error) {
		socket, err := amqp091.DefaultDial(patience)(network, addr)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sockets = append(s.sockets, socket)
		return socket, nil
	}})
	must(t, err)
	t.Cleanup(func() { _ = connection.Close() }) // the server may be gone
	return connection
}

// hangUp cuts all connections.
func (s *diskServer) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, socket := range s.sockets {
		_ = socket.Close() // the client may have closed it
	}
}

// processDisk is a mounted disk with the server command on it.
type processDisk struct{ *mountedDisk }

func (d processDisk) start(t testing.TB, reserve string) *diskServer {
	t.Helper()
	p := startProcess(t, nil, "--data-dir", filepath.Join(d.path, "data"), "--management-addr", "127.0.0.1:0",
		"--storage-free-reserve", reserve, "--storage-memtable-size", fmt.Sprint(memtableSize))
	return &diskServer{url: p.url(), management: p.management, kill: p.kill}
}

// occupy takes some of the disk's space up; 0 gives it back.
func (d processDisk) occupy(t testing.TB, bytes int64) {
	t.Helper()
	name := filepath.Join(d.path, "ballast")
	if bytes == 0 {
		must(t, os.Remove(name))
		return
	}
	must(t, os.WriteFile(name, make([]byte, bytes), 0o600))
}

// memoryDisk is a file system in this process that holds no more than its size,
// with a broker of this process on it.
type memoryDisk struct {
	vfs.FS
	size int64
}

func newMemoryDisk(size int64) *memoryDisk { return &memoryDisk{FS: vfs.NewCrashableMem(), size: size} }

func (d *memoryDisk) start(t testing.TB, reserve string) *diskServer {
	t.Helper()
	var mib int64
	if _, err := fmt.Sscanf(reserve, "%dMiB", &mib); err != nil {
		t.Fatal(err)
	}
	broker := newBroker(t, onDisk("data"), func(o *lagomq.Options) {
		o.ManagementAddr = "127.0.0.1:0"
		o.Store.FS, o.Store.Reserve, o.Store.MemTableSize = d, mib<<20, memtableSize
	})
	must(t, broker.Start(t.Context()))
	s := &diskServer{url: broker.URL(), management: "http://" + broker.ManagementAddr().String() + "/"}
	s.kill = sync.OnceFunc(func() {
		s.hangUp() // nobody is told anything that comes after the crash
		crashed := d.FS.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
		shutDown(t, broker)
		d.FS = crashed
	})
	t.Cleanup(s.kill)
	return s
}

// free is how many bytes are not taken up.
func (d *memoryDisk) free() int64 { return d.size - d.sum("data") }

func (d *memoryDisk) sum(dir string) (bytes int64) {
	names, err := d.List(dir)
	if err != nil {
		return 0
	}
	for _, name := range names {
		path := d.PathJoin(dir, name)
		switch info, err := d.Stat(path); {
		case err != nil: // removed meanwhile
		case info.IsDir():
			bytes += d.sum(path)
		default:
			bytes += info.Size()
		}
	}
	return bytes
}

// GetDiskUsage implements [vfs.FS].
func (d *memoryDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	free := uint64(max(0, d.free()))
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: uint64(d.size), UsedBytes: uint64(d.size) - free}, nil
}

// Create implements [vfs.FS].
func (d *memoryDisk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, category)
	return d.file(name, f, err)
}

// ReuseForWrite implements [vfs.FS].
func (d *memoryDisk) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(oldname, newname, category)
	return d.file(newname, f, err)
}

func (d *memoryDisk) file(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &memoryDiskFile{f, d, name}, nil
}

// memoryDiskFile is a file of a memoryDisk that is being written.
type memoryDiskFile struct {
	vfs.File
	disk *memoryDisk
	name string
}

// Write implements [vfs.File].
func (f *memoryDiskFile) Write(p []byte) (int, error) {
	if f.disk.free() < int64(len(p)) {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	return f.File.Write(p)
}
