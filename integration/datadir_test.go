// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rabbitmq/amqp091-go"
)

// storedMessages is what makeStore leaves in the queue q.
const storedMessages = 100

// makeStore has a server fill a data directory, and stop in good order.
func makeStore(t testing.TB, dir string) {
	t.Helper()
	server := startProcess(t, nil, "--data-dir", dir, "--storage-memtable-size", "1MiB", "--storage-free-reserve", "0")
	channel := openChannel(t, server.dial())
	_, err := channel.QueueDeclare("q", true, false, false, false, nil)
	must(t, err)
	publishConfirmed(t, channel, amqp091.Persistent, "", "q", numbers(storedMessages)...)
	server.terminate()
}

// snapshot is the names, sizes and contents of all files below a directory.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			files[path] = ""
			return err
		}
		content, err := os.ReadFile(path)
		files[path] = fmt.Sprintf("%d %x", len(content), sha256.Sum256(content))
		return err
	}))
	return files
}

// copyDir copies a directory to a new one.
func copyDir(t testing.TB, from string) (to string) {
	t.Helper()
	to = filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(to, os.DirFS(from)))
	return to
}

// refusal starts a server that is not to start, and returns what it says. It
// leaves the directory as it was.
func refusal(t testing.TB, dir string) string {
	t.Helper()
	before := snapshot(t, dir)
	server := command(t, nil, "--data-dir", dir, "--storage-memtable-size", "1MiB", "--storage-free-reserve", "0")
	must(t, server.cmd.Start())
	code := server.exitCode()
	said := server.stderr.String()
	if code == 0 {
		t.Errorf("exit code 0 and:\n%s", said)
	}
	if !strings.HasPrefix(said, "lagomq: ") || strings.Count(said, "\n") != 1 || !strings.HasSuffix(said, "\n") {
		t.Errorf("not one line:\n%s", said)
	}
	if !strings.Contains(said, dir) {
		t.Errorf("the directory is not named: %s", said)
	}
	after := snapshot(t, dir)
	for name := range maps.Keys(after) {
		if _, found := before[name]; !found {
			t.Errorf("%s is new", name)
		}
	}
	for name, content := range before {
		if after[name] != content {
			t.Errorf("%s has changed from %q to %q", name, content, after[name])
		}
	}
	return said
}

func writeFile(t testing.TB, content string, path ...string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(path...), []byte(content), 0o600))
}

// A directory that is no store, or none that can be used, is refused with what is
// the matter, and left as it is.
func TestServerRefusesDataDir(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil func(t *testing.T, dir string) string // returns the directory to be used
		says  []string
	}{
		"AnotherProgram": {func(t *testing.T, dir string) string {
			writeFile(t, "[server]\n", dir, "nginx.conf")
			return dir
		}, []string{"nginx.conf", "not a store"}},
		"NewerFormat": {func(t *testing.T, dir string) string {
			makeStore(t, dir)
			writeFile(t, "lagomq store 99\n", dir, "FORMAT")
			return dir
		}, []string{"format 99", "this version knows only"}},
		"UnknownFormat": {func(t *testing.T, dir string) string {
			makeStore(t, dir)
			writeFile(t, "\x00\x00\x00", dir, "FORMAT")
			return dir
		}, []string{"FORMAT", "not a store"}},
		"NotADirectory": {func(t *testing.T, dir string) string {
			writeFile(t, "text", dir, "file")
			return filepath.Join(dir, "file")
		}, []string{"not a directory"}},
		"InUse": {func(t *testing.T, dir string) string {
			startProcess(t, nil, "--data-dir", dir).stand() // or it would go on tidying up there
			return dir
		}, []string{"in use by another lagomq process"}},
		"ReadOnly": {func(t *testing.T, _ string) string {
			disk := mountDisk(t, 16<<10)
			makeStore(t, filepath.Join(disk.path, "data"))
			disk.remount("ro")
			return filepath.Join(disk.path, "data")
		}, []string{"read-only file system", "must be able to write"}},
		"NewOnReadOnly": {func(t *testing.T, _ string) string {
			disk := mountDisk(t, 16<<10)
			disk.remount("ro")
			return disk.path
		}, []string{"read-only file system", "must be able to write"}},
		"NoStateFile": {func(t *testing.T, dir string) string {
			makeStore(t, dir)
			must(t, os.Remove(filepath.Join(dir, "STATE")))
			return dir
		}, []string{"not complete", "STATE", "restore it from a backup"}},
		"NoDatabase": {func(t *testing.T, dir string) string {
			makeStore(t, dir)
			must(t, os.RemoveAll(filepath.Join(dir, "pebble")))
			return dir
		}, []string{"not complete", "pebble", "restore it from a backup"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			dir = test.spoil(t, dir)
			said := refusal(t, dir)
			for _, part := range test.says {
				if !strings.Contains(said, part) {
					t.Errorf("%q is not said: %s", part, said)
				}
			}
		})
	}
}

// A data directory that cannot be made is named, with what to do.
func TestServerRefusesBelowAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, "text", dir, "file")
	server := command(t, nil, "--data-dir", filepath.Join(dir, "file", "data"))
	must(t, server.cmd.Start())
	code, said := server.exitCode(), server.stderr.String()
	if code == 0 || !strings.HasPrefix(said, "lagomq: create data directory "+dir) || strings.Count(said, "\n") != 1 ||
		!strings.Contains(said, "not a directory; name a directory that the broker may create") {
		t.Errorf("exit code %d and:\n%s", code, said)
	}
}

// failsForSpace starts a server that has no room to start.
func failsForSpace(t testing.TB, dir string) {
	t.Helper()
	server := command(t, nil, "--data-dir", dir, "--storage-memtable-size", "1MiB", "--storage-free-reserve", "0")
	must(t, server.cmd.Start())
	code, said := server.exitCode(), server.stderr.String()
	if code == 0 || !strings.HasPrefix(said, "lagomq: ") || !strings.Contains(said, "no space left on device") ||
		strings.Count(said, "\n") != 1 {
		t.Errorf("exit code %d and:\n%s", code, said)
	}
}

// On a disk that is too small for a new store the server says so, and starts in
// the same directory once there is room.
func TestServerStartsAfterNoSpace(t *testing.T) {
	t.Parallel()
	disk := mountDisk(t, 12)
	dir := filepath.Join(disk.path, "data")
	failsForSpace(t, dir)
	disk.remount("size=16m")
	makeStore(t, dir)
}

// A store on a full disk comes back whole once there is room.
func TestServerRestartsAfterNoSpace(t *testing.T) {
	t.Parallel()
	disk := mountDisk(t, 16<<10)
	dir, ballast := filepath.Join(disk.path, "data"), filepath.Join(disk.path, "ballast")
	makeStore(t, dir)
	if err := os.WriteFile(ballast, make([]byte, 16<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	failsForSpace(t, dir)
	must(t, os.Remove(ballast))
	if !startsWhole(t, dir) {
		t.Error("the server does not start")
	}
}

// Of a store that was copied in part either everything that matters is there, or
// the copy is refused and left as it is.
func TestServerRefusesHalfCopied(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	makeStore(t, whole)
	files := slices.Sorted(maps.Keys(snapshot(t, whole)))
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			continue
		}
		name, err := filepath.Rel(whole, file)
		must(t, err)
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			dir := copyDir(t, whole)
			must(t, os.Remove(filepath.Join(dir, name)))
			if !startsWhole(t, copyDir(t, dir)) {
				t.Logf("refused: %s", refusal(t, dir))
			}
		})
	}
}

// startsWhole reports whether a server starts on a data directory of makeStore. If
// it does, all messages are to be there.
func startsWhole(t testing.TB, dir string) bool {
	t.Helper()
	server := command(t, nil, "--data-dir", dir)
	if !server.ready() {
		return false
	}
	if got := drain(t, openChannel(t, server.dial()), "q"); !slices.Equal(got, numbers(storedMessages)) {
		t.Errorf("got %d messages: want %d", len(got), storedMessages)
	}
	return true
}

// Each signal that asks the server to end, that of a terminal that goes away
// included, is answered by an orderly stop.
func TestServerStopsInOrder(t *testing.T) {
	t.Parallel()
	for _, end := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(end.String(), func(t *testing.T) {
			t.Parallel()
			if signal.Ignored(end) {
				t.Skip("who runs this test has it ignored")
			}
			startProcess(t, nil, "--data-dir", t.TempDir(), "--storage-free-reserve", "0").endBy(end)
		})
	}
}
