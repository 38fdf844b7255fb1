// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
)

// specimen fills a store with some of everything and returns what must be found
// there: see describe.
func specimen(t *testing.T, s *Store, runs int) {
	t.Helper()
	queues := []uint64{s.NewID(), s.NewID()}
	for i := range uint64(runs) {
		r := NewRun(text(fmt.Sprintf("run%d %s", i, strings.Repeat(string(rune('a'+i%26)), int(i*37%200)*[]int{1, 1, 100}[i%3])))) // a third large enough to be kept apart
		sh := r.Share(queues[i%2], i, 10, i)
		if i%5 == 0 {
			r.Share(queues[1-i%2], i, 10, i)
		}
		records := []Record{PutRun(r)}
		if i%3 == 0 {
			var settled Settled
			settled.Set(uint32(i % 10))
			records = append(records, Settle(sh, settled))
		}
		if i%7 == 0 {
			records = append(records, SetConfig(fmt.Append(nil, "key", i), fmt.Append(nil, i)))
		}
		mustPropose(t, s, records...)
	}
}

// describe tells all that a data directory holds. The error is why it could not
// be opened or read.
func describe(fs vfs.FS) (text string, err error) {
	s, err := Open(quiet(Options{FS: fs}))
	if err != nil {
		return "", fmt.Errorf("open: %w", err)
	}
	defer func() { _ = s.Close(context.Background()) }()
	var b strings.Builder
	if err := s.Config(func(k, v []byte) error { fmt.Fprintf(&b, "%s=%s\n", k, v); return nil }); err != nil {
		return "", err
	}
	var runs []RecoveredRun
	if err := s.Recover(func(r *RecoveredRun) (bool, error) { runs = append(runs, *r); return true, nil }); err != nil {
		return "", err
	}
	for _, r := range runs {
		body, err := readRun(s, warm(s, r))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%+v %s\n", r, body)
	}
	return b.String(), nil
}

// directoryOf makes a file system that holds the given files.
func directoryOf(t *testing.T, content map[string]string) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewMem()
	mkdir(t, fs, "data/"+databaseDir)
	for path, text := range content {
		if text != "directory" {
			writeFile(t, fs, path, text)
		}
	}
	return fs
}

// wantNoticed checks that a damaged directory is refused, or a read reports the
// damage, or everything in it is right. It returns whether it was noticed.
func wantNoticed(t *testing.T, what string, fs vfs.FS, want string) (noticed bool) {
	t.Helper()
	got, err := describe(fs)
	switch {
	case err != nil && !strings.HasPrefix(err.Error(), "open: ") && !errors.Is(err, ErrDamaged):
		t.Errorf("%s: %v is not ErrDamaged", what, err)
	case err == nil && got != want:
		t.Errorf("%s is not noticed: %d of %d bytes are found", what, len(got), len(want))
	}
	return err != nil
}

// TestDamageAfterAnOrderlyStop flips bits in all files of a data directory, and
// takes away each of them.
func TestDamageAfterAnOrderlyStop(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	specimen(t, s, 40)
	if err := s.giveBack(); err != nil {
		t.Fatal(err)
	}
	specimen(t, s, 40)
	mustClose(t, s)
	sound := files(t, fs, "data")
	want, err := describe(directoryOf(t, sound))
	if err != nil {
		t.Fatal(err)
	}
	samples := 100
	if testing.Short() {
		samples = 20
	}
	rng := rand.New(rand.NewPCG(5, 5))
	for _, path := range slices.Sorted(maps.Keys(sound)) {
		content := sound[path]
		if content == "directory" {
			continue
		}
		missing := maps.Clone(sound)
		delete(missing, path)
		noticed := wantNoticed(t, path+" missing", directoryOf(t, missing), want)
		t.Logf("%s missing: noticed %v", path, noticed)
		short := maps.Clone(sound)
		short[path] = content[:len(content)/2]
		wantNoticed(t, path+" cut short", directoryOf(t, short), want)
		found := 0
		offsets := rng.Perm(len(content))
		if len(offsets) > samples && len(content) > 256 {
			offsets = offsets[:samples]
		}
		for _, offset := range offsets {
			bad := []byte(content)
			bad[offset] ^= 1 << rng.IntN(8)
			spoilt := maps.Clone(sound)
			spoilt[path] = string(bad)
			if wantNoticed(t, fmt.Sprintf("%s with a flip at %d of %d", path, offset, len(content)), directoryOf(t, spoilt), want) {
				found++
			}
		}
		t.Logf("%s: %d bytes, %d of %d flips noticed", path, len(content), found, len(offsets))
	}
}

// TestDamagedLogAfterACrash flips bits in the log of a store that crashed, except
// in its last block and what was written last: Pebble cannot tell damage there
// from a write cut short, as it looks for what follows in later blocks only. Nor
// can it when the flip raises the log's number in a chunk by one: that marks the
// end of a log.
func TestDamagedLogAfterACrash(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, Options{FS: fs})
	specimen(t, s, 200)
	const block = 32 << 10
	sound := files(t, fs.CrashClone(vfs.CrashCloneCfg{}), "data")
	want, err := describe(directoryOf(t, sound))
	if err != nil {
		t.Fatal(err)
	}
	samples := 60
	if testing.Short() {
		samples = 12
	}
	rng := rand.New(rand.NewPCG(6, 6))
	noticed, tried := 0, 0
	for path, content := range sound {
		if !strings.HasSuffix(path, ".log") {
			continue
		}
		whole := max(len(content)-1, 0) / block * block // the rest is the last block
		for _, offset := range rng.Perm(whole)[:min(samples, whole)] {
			bad := []byte(content)
			bad[offset] ^= 1 << rng.IntN(8)
			var number byte
			if _, err := fmt.Sscanf(path, "data/pebble/%d.log", &number); err != nil {
				t.Fatal(err)
			}
			if content[offset] == number && bad[offset] == number+1 {
				continue
			}
			spoilt := maps.Clone(sound)
			spoilt[path] = string(bad)
			tried++
			if wantNoticed(t, fmt.Sprintf("%s with a flip at %d of %d", path, offset, len(content)), directoryOf(t, spoilt), want) {
				noticed++
			}
		}
	}
	if noticed < tried/10 { // not all of the logs matter any more
		t.Errorf("%d of %d flips noticed", noticed, tried)
	}
}

// TestDamageAfterAKill spoils the files of a store whose process was killed: each is
// missing, cut short, or lost its content, and the logs have flipped bits, up to
// their very end.
func TestDamageAfterAKill(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, Options{FS: fs, MemTableSize: 1 << 20})
	specimen(t, s, 400)
	// What the system has been given it keeps.
	sound := files(t, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}), "data")
	want, err := describe(directoryOf(t, sound))
	if err != nil {
		t.Fatal(err)
	}
	samples := 30
	if testing.Short() {
		samples = 4
	}
	rng := rand.New(rand.NewPCG(7, 7))
	logs := 0
	for _, path := range slices.Sorted(maps.Keys(sound)) {
		content := sound[path]
		if content == "directory" {
			continue
		}
		missing := maps.Clone(sound)
		delete(missing, path)
		noticed := wantNoticed(t, path+" missing", directoryOf(t, missing), want)
		t.Logf("%s missing: noticed %v", path, noticed)
		spoilt := map[string]string{
			"cut to a half": content[:len(content)/2],
			"cut by a byte": content[:max(len(content)-1, 0)],
			"emptied":       "",
			"zeroed":        strings.Repeat("\x00", len(content)),
		}
		if strings.HasSuffix(path, ".log") {
			for range samples {
				at := rng.IntN(len(content))
				bad := []byte(content)
				bad[at] ^= 1 << rng.IntN(8)
				spoilt[fmt.Sprintf("with a flip at %d of %d", at, len(content))] = string(bad)
			}
			if noticed {
				logs++
			}
		}
		for what, bad := range spoilt {
			changed := maps.Clone(sound)
			changed[path] = bad
			wantNoticed(t, path+" "+what, directoryOf(t, changed), want)
		}
	}
	if logs == 0 {
		t.Error("no log matters")
	}
}

// A blob file that is missing after a crash is damage where its bodies are read, and
// in the way of nothing else. Names of files that are not in use do no harm.
func TestMissingBlobFile(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	s := mustOpen(t, Options{FS: disk, MemTableSize: 1 << 20})
	specimen(t, s, 400)
	if err := s.giveBack(); err != nil {
		t.Fatal(err)
	}
	fs := disk.CrashClone(vfs.CrashCloneCfg{})
	for path := range files(t, fs, "data") {
		if strings.HasSuffix(path, ".blob") {
			if err := fs.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	s = mustOpen(t, Options{FS: fs})
	if len(s.absent) == 0 {
		t.Error("no file is known to be missing")
	}
	var runs []RecoveredRun
	if err := s.Recover(func(r *RecoveredRun) (bool, error) { runs = append(runs, *r); return true, nil }); err != nil {
		t.Fatal(err)
	}
	missing := 0
	for _, r := range runs {
		if _, err := readRun(s, warm(s, r)); err != nil {
			missing++
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), ".blob is missing") {
				t.Errorf("reading a body says %v", err)
			}
		}
	}
	if missing == 0 || missing == len(runs) {
		t.Errorf("%d of %d bodies are missing", missing, len(runs))
	}
	mustClose(t, s)

	in, err := OpenInspection(fs, "data")
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	err = in.Walk(t.Context(), Visitor{
		Body: func(*InspectedRun, []byte) error { return nil },
		Damage: func(d Damage) {
			told++
			if !strings.Contains(d.Reason, ".blob is missing") {
				t.Errorf("inspection says %+v", d)
			}
		},
	})
	if err = errors.Join(err, in.Close()); err != nil || told == 0 {
		t.Errorf("inspection tells of %d damaged places: %v", told, err)
	}

	// As if it had been written anew under another name.
	s = mustOpen(t, Options{FS: fs})
	s.absent = append(s.absent, "999999.blob")
	g, err := s.openGeneration(openMode{readOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.db.Close(); err != nil {
		t.Error(err)
	}
	mustClose(t, s)
}

// TestMissingLog takes away the older logs of a store: that is noticed if what they
// hold is in no table.
func TestMissingLog(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs, MemTableSize: 1 << 20})
	specimen(t, s, 400)
	last := s.durable.Load()
	_, commits, err := readLogs(fs, "data/"+databaseDir)
	if err != nil || len(commits) == 0 || commits[len(commits)-1] != last {
		t.Fatalf("%d commits are in the logs, up to %d of %d: %v", len(commits), commits[len(commits)-1], last, err)
	}
	if err := checkCommits(fs, "data", state{noted: true}, commits[0]-1, last); err != nil {
		t.Errorf("all logs: %v", err)
	}
	logs, err := wal.Scan(wal.Dir{FS: fs, Dirname: "data/" + databaseDir})
	if err != nil {
		t.Fatal(err)
	}
	newest, err := appendCommits(nil, logs[len(logs)-1])
	if err != nil || len(newest) == 0 || newest[0] == 1 {
		t.Fatalf("the newest log holds %d commits: %v", len(newest), err)
	}
	for _, log := range logs[:len(logs)-1] {
		_, path := log.SegmentLocation(0)
		if err := fs.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := checkCommits(fs, "data", state{noted: true}, newest[0]-1, last); err != nil {
		t.Errorf("the logs that are needed: %v", err)
	}
	if err := checkCommits(fs, "data", state{noted: true}, newest[0]-2, last); !errors.Is(err, ErrIncomplete) {
		t.Errorf("without a log that is needed: %v", err)
	}
}

// TestDamagedRecordsAreReported changes records behind the store's back, with
// Pebble's checksums in order.
func TestDamagedRecordsAreReported(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	q := s.NewID()
	var shares []*Share
	var settled Settled
	settled.Set(1)
	for i := range uint64(4) {
		r := NewRun(text("body"))
		shares = append(shares, r.Share(q, i, 2, 4))
		s.Propose(0, nil, PutRun(r), Settle(shares[i], settled))
	}
	mustPropose(t, s, SetConfig([]byte("k"), []byte("v")))
	bodyKey := func(i int) []byte {
		key := make([]byte, bodyKeyLen)
		putBodyKey(key, spaceBody, shares[i].run.name)
		return key
	}
	flip(t, s, bodyKey(0))
	if err := s.gen.db.Delete(bodyKey(1), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		var damage *DamagedError
		if _, err := readRun(s, shares[i]); !errors.As(err, &damage) || damage.Queue != q || !errors.Is(err, ErrDamaged) {
			t.Errorf("ReadRun: %v", err)
		}
	}
	recover := func() ([]uint64, error) {
		var seen []uint64
		err := s.Recover(func(r *RecoveredRun) (bool, error) { seen = append(seen, r.First); return true, nil })
		return seen, err
	}
	flip(t, s, entryKey(spaceSettled, q, 3))
	if seen, err := recover(); !errors.Is(err, ErrDamaged) || !slices.Equal(seen, []uint64{0, 1, 2}) {
		t.Errorf("Recover with a damaged mark: %v, %v", seen, err)
	}
	flip(t, s, entryKey(spaceDirectory, q, 2))
	if seen, err := recover(); !errors.Is(err, ErrDamaged) || !slices.Equal(seen, []uint64{0, 1}) {
		t.Errorf("Recover with a damaged entry: %v, %v", seen, err)
	}
	flip(t, s, appendConfigKey(nil, []byte("k")))
	if err := s.Config(func(_, _ []byte) error { return nil }); !errors.Is(err, ErrDamaged) {
		t.Errorf("Config: %v", err)
	}
	flip(t, s, metaKey(metaCommit))
	mustPropose(t, s, SetConfig([]byte("k"), nil)) // writes it anew
	flip(t, s, metaKey(metaBoot))
	mustClose(t, s)
	if _, err := Open(quiet(Options{FS: fs})); !errors.Is(err, ErrDamaged) {
		t.Errorf("Open with a damaged boot counter: %v", err)
	}
}

// flip changes the last byte of a stored value.
func flip(t *testing.T, s *Store, key []byte) {
	t.Helper()
	value, closer, err := s.gen.db.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	changed := slices.Clone(value)
	changed[len(changed)-1] ^= 1
	if err := errors.Join(closer.Close(), s.gen.db.Set(key, changed, pebble.Sync)); err != nil {
		t.Fatal(err)
	}
}

// What Pebble says of a damaged table, with stack traces, is told in one line: by the
// error and in the log.
func TestDamageIsToldInOneLine(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	mustPropose(t, s, SetConfig([]byte("k"), []byte("v")))
	mustClose(t, s)
	for name, content := range files(t, fs, "data") {
		if strings.HasSuffix(name, ".sst") {
			writeFile(t, fs, name, strings.Repeat("\x00", len(content)))
		}
	}
	var log syncBuffer
	o := quiet(Options{FS: fs})
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s, err := Open(o)
	if err == nil {
		err = s.Config(func(_, _ []byte) error { return nil })
		_ = s.Close(context.Background())
	}
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "; "+restoreHint) {
		t.Errorf("the error is %v", err)
	}
	if text := log.String(); !strings.Contains(text, "database file damaged") || strings.Contains(text, "stack trace") || strings.Contains(text, `\n`) {
		t.Errorf("the log is\n%s", text)
	}
}

// syncBuffer takes what several goroutines write.
type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
