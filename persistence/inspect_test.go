// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const patientDir = "data"

// patientBody is the body of a run in these tests: one letter for each message.
type patientBody string

func (b patientBody) Size() int                  { return len(b) }
func (b patientBody) AppendTo(dst []byte) []byte { return append(dst, b...) }
func (b patientBody) Release()                   {}
func checkPatient(r *InspectedRun, b []byte) error {
	if len(b) != int(r.Count) {
		return fmt.Errorf("%d messages in a run of %d", len(b), r.Count)
	}
	return nil
}

// patient is a data directory that was stopped, to be damaged, inspected and
// repaired.
type patient struct {
	t    *testing.T
	fs   vfs.FS
	a, b uint64 // queues
}

// newPatient makes a store with two pieces of metadata and two queues:
//
//	a: runs at 0, 10, 20 and 30 of 10 messages each; 3 messages of the one at 0 are settled
//	b: runs at 0 (the same body as a's at 20), 10 and 20; those from 10 on are deleted
func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{t: t, fs: vfs.NewMem()}
	s := p.open()
	p.a, p.b = s.NewID(), s.NewID()
	var first *Share
	for i := range uint64(4) {
		r := NewRun(patientBody("0123456789"))
		sh := r.Share(p.a, 10*i, 10, 10)
		if i == 0 {
			first = sh
		}
		if i == 2 {
			r.Share(p.b, 0, 10, 10)
		}
		s.Propose(0, nil, PutRun(r))
	}
	for i := range uint64(2) {
		r := NewRun(patientBody("0123456789"))
		r.Share(p.b, 10+10*i, 10, 10)
		s.Propose(0, nil, PutRun(r))
	}
	w := newReply()
	s.Propose(0, w, Settle(first, Settled{0b111}), SetConfig([]byte("one"), []byte("1")), SetConfig([]byte("two"), []byte("2")),
		Delivered(p.a, 20), Delivered(p.b, 5))
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	p.close(s)
	// What is deleted is reclaimed soon by a running store: put it here by hand.
	p.inject(func(b *pebble.Batch) error {
		key := condemnedKey(condemnedRange{queue: p.b, first: 10, last: 29})
		value := make([]byte, sealLen)
		seal(key, value)
		return b.Set(key, value, nil)
	})
	return p
}

func (p *patient) open() *Store {
	p.t.Helper()
	s, err := Open(Options{Dir: patientDir, FS: p.fs, Logger: slog.New(slog.DiscardHandler), MemTableSize: minMemTableSize})
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

func (p *patient) close(s *Store) {
	p.t.Helper()
	if err := s.Close(context.Background()); err != nil {
		p.t.Fatal(err)
	}
}

// inject changes the database of a stopped store.
func (p *patient) inject(change func(*pebble.Batch) error) {
	p.t.Helper()
	g, err := openOffline(p.fs, p.fs.PathJoin(patientDir, databaseDir), &pebble.Options{DisableAutomaticCompactions: true})
	if err != nil {
		p.t.Fatal(err)
	}
	b := g.db.NewBatch()
	if err := errors.Join(change(b), b.Commit(pebble.Sync), b.Close(), g.db.Close()); err != nil {
		p.t.Fatal(err)
	}
	// The database has another manifest now; that is not what is to be found.
	if st, err := readState(p.fs, patientDir); err == nil && st.kind == stateStopped {
		if err := writeStopped(p.fs, patientDir, st.commit); err != nil {
			p.t.Fatal(err)
		}
	}
}

// spoil flips a bit of a record's value.
func (p *patient) spoil(key []byte) {
	p.t.Helper()
	g, err := openOffline(p.fs, p.fs.PathJoin(patientDir, databaseDir), &pebble.Options{ReadOnly: true})
	if err != nil {
		p.t.Fatal(err)
	}
	value, closer, err := g.db.Get(key)
	if err != nil {
		p.t.Fatalf("key %q: %v", key, err)
	}
	value = bytes.Clone(value)
	if err := errors.Join(closer.Close(), g.db.Close()); err != nil {
		p.t.Fatal(err)
	}
	value[len(value)-1] ^= 1
	p.inject(func(b *pebble.Batch) error { return b.Set(key, value, nil) })
}

func (p *patient) inspect() *Inspection {
	p.t.Helper()
	in, err := OpenInspection(p.fs, patientDir)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := in.Close(); err != nil {
			p.t.Error(err)
		}
	})
	return in
}

// bodyKey is the key of the body of a run.
func (p *patient) bodyKey(queue, first uint64) (key []byte) {
	p.t.Helper()
	in := p.inspect()
	p.walk(in, Visitor{Run: func(r *InspectedRun) {
		if r.Queue == queue && r.First == first {
			key = make([]byte, bodyKeyLen)
			putBodyKey(key, spaceBody, runName{r.Place.Group, r.Place.Index, r.Place.Part})
		}
	}})
	if err := in.Close(); err != nil {
		p.t.Fatal(err)
	}
	return key
}

func (p *patient) walk(in *Inspection, v Visitor) {
	p.t.Helper()
	if err := in.Walk(p.t.Context(), v); err != nil {
		p.t.Fatal(err)
	}
}

// examine walks over everything and returns the damage.
func (p *patient) examine(in *Inspection) (damage []Damage) {
	p.t.Helper()
	p.walk(in, Visitor{Body: checkPatient, Damage: func(d Damage) { damage = append(damage, d) }})
	return damage
}

// files is the content of all files of the directory.
func (p *patient) files(dir string) map[string]string {
	p.t.Helper()
	names, err := p.fs.List(dir)
	if err != nil {
		p.t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range names {
		path := p.fs.PathJoin(dir, name)
		info, err := p.fs.Stat(path)
		if err != nil {
			p.t.Fatal(err)
		}
		if info.IsDir() {
			for path, content := range p.files(path) {
				all[path] = content
			}
			continue
		}
		all[path] = p.read(path)
	}
	return all
}

func (p *patient) read(path string) string {
	p.t.Helper()
	f, err := p.fs.Open(path)
	if err != nil {
		p.t.Fatal(err)
	}
	content, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		p.t.Fatal(err)
	}
	return string(content)
}

func (p *patient) write(path, content string) {
	p.t.Helper()
	f, err := p.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = io.WriteString(f, content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		p.t.Fatal(err)
	}
}

// recovered opens the store as a broker does and describes what it finds: runs as
// "a10", with how many messages are settled if any are, and metadata. Bodies of all
// runs must be sound, unless they are among missing.
func (p *patient) recovered(missing ...string) (found []string) {
	p.t.Helper()
	s := p.open()
	defer p.close(s)
	if err := s.Config(func(key, _ []byte) error { found = append(found, string(key)); return nil }); err != nil {
		p.t.Errorf("metadata: %v", err)
	}
	if _, err := s.Delivered(); err != nil {
		p.t.Errorf("delivered: %v", err)
	}
	err := s.Recover(func(r *RecoveredRun) (bool, error) {
		name := map[uint64]string{p.a: "a", p.b: "b"}[r.Queue] + fmt.Sprint(r.First)
		sh := s.Warm(r.Place, r.Queue, r.First, r.Count, r.Bytes, r.Settled)
		if err := s.ReadRun(sh, func([]byte) error { return nil }); err != nil != slices.Contains(missing, name) {
			p.t.Errorf("body of %s: %v", name, err)
		}
		if live := (&InspectedRun{RecoveredRun: *r}).Live(); live != r.Count {
			name += fmt.Sprintf("-%d", r.Count-live)
		}
		found = append(found, name)
		return true, nil
	})
	if err != nil {
		p.t.Errorf("recover: %v", err)
	}
	return found
}

func TestInspectionOfSoundDirectory(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	before := p.files(patientDir)
	in := p.inspect()
	var config, runs []string
	bodies := 0
	p.walk(in, Visitor{
		Config: func(key, value []byte) { config = append(config, string(key)+"="+string(value)) },
		Run: func(r *InspectedRun) {
			runs = append(runs, fmt.Sprintf("%d:%d live %d shared %t condemned %t", r.Queue-p.a, r.First, r.Live(), r.Shared(), r.Condemned))
		},
		Body:   func(r *InspectedRun, b []byte) error { bodies++; return checkPatient(r, b) },
		Damage: func(d Damage) { t.Errorf("damage: %+v", d) },
	})
	if want := []string{"one=1", "two=2"}; !slices.Equal(config, want) {
		t.Errorf("metadata %q, want %q", config, want)
	}
	want := []string{
		"0:0 live 7 shared false condemned false", "0:10 live 10 shared false condemned false",
		"0:20 live 10 shared true condemned false", "0:30 live 10 shared false condemned false",
		"1:0 live 10 shared true condemned false", "1:10 live 10 shared false condemned true",
		"1:20 live 10 shared false condemned true",
	}
	if !slices.Equal(runs, want) {
		t.Errorf("runs\n%s\nwant\n%s", strings.Join(runs, "\n"), strings.Join(want, "\n"))
	}
	if bodies != 5 {
		t.Errorf("%d bodies read, want 5", bodies)
	}
	if s := in.Summary(); !s.Orderly || s.Commit == 0 || s.Boots != 1 || s.Format != formatVersion {
		t.Errorf("summary %+v", s)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	for path, content := range p.files(patientDir) {
		if old, existed := before[path]; !existed || old != content {
			t.Errorf("inspection changed %s", path)
		}
	}
	if want := []string{"one", "two", "a0-3", "a10", "a20", "a30", "b0"}; !slices.Equal(p.recovered(), want) {
		t.Error("the store is not what it was")
	}
}

func TestInspectionRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(p *patient)
		want  error
		text  string
	}{
		"in use": {func(p *patient) {
			s := p.open()
			p.t.Cleanup(func() { p.close(s) })
		}, ErrInUse, "in use by another lagomq process"},
		"empty": {func(p *patient) {
			p.t.Helper()
			if err := errors.Join(p.fs.RemoveAll(patientDir), p.fs.MkdirAll(patientDir, 0o700)); err != nil {
				p.t.Fatal(err)
			}
		}, ErrForeign, "empty"},
		"foreign":     {func(p *patient) { p.write(patientDir+"/"+formatFile, "lagomq store 1\n") }, ErrForeign, "has format 1"},
		"no manifest": {func(p *patient) { p.removeFiles("MANIFEST-*") }, ErrIncomplete, "restore the directory from a backup"},
		"no tables":   {func(p *patient) { p.removeFiles("*.sst") }, ErrIncomplete, "restore the directory from a backup"},
		"half exchanged": {func(p *patient) {
			if err := p.fs.Rename(patientDir+"/"+databaseDir, patientDir+"/"+rewrittenDir); err != nil {
				p.t.Fatal(err)
			}
		}, ErrIncomplete, "rename " + patientDir + "/" + rewrittenDir},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t)
			c.spoil(p)
			in, err := OpenInspection(p.fs, patientDir)
			if err == nil {
				t.Fatal("was opened", in.Close())
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want a line with %q", err, c.text)
			}
		})
	}
	if _, err := OpenInspection(vfs.NewMem(), "nowhere"); err == nil {
		t.Error("a directory that does not exist was opened")
	}
}

// removeFiles removes the database's files that match a pattern.
func (p *patient) removeFiles(pattern string) {
	p.t.Helper()
	removed := false
	for path := range p.files(patientDir + "/" + databaseDir) {
		if match, _ := filepath.Match(pattern, filepath.Base(path)); match {
			removed = true
			if err := p.fs.Remove(path); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	if !removed {
		p.t.Fatalf("no file %s", pattern)
	}
}

// Bits flipped anywhere in the tables: the inspection ends and tells, and after the
// repair the store opens; what was neither reported nor lost with a range is whole.
func TestInspectionOfFlippedBits(t *testing.T) {
	t.Parallel()
	sound := newPatient(t)
	s := sound.open()
	big := strings.Repeat("x", 200)
	w := newReply()
	for i := range uint64(2000) {
		r := NewRun(patientBody(big))
		r.Share(sound.a, 1000+200*i, 200, 200)
		s.Propose(0, nil, PutRun(r))
	}
	s.Sync(w)
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	sound.close(s)
	files := sound.files(patientDir)
	var tables []string
	for path := range files {
		if strings.HasSuffix(path, ".sst") {
			tables = append(tables, path)
		}
	}
	slices.Sort(tables)
	whole := len(sound.recovered())
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		random := rand.New(rand.NewPCG(seed, 1))
		p := &patient{t: t, fs: vfs.NewMem(), a: sound.a, b: sound.b}
		for path, content := range files {
			if err := p.fs.MkdirAll(p.fs.PathDir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			p.write(path, content)
		}
		table := tables[random.IntN(len(tables))]
		content := []byte(files[table])
		for range 1 + random.IntN(3) {
			content[random.IntN(len(content))] ^= 1 << random.IntN(8)
		}
		p.write(table, string(content))

		in, err := OpenInspection(p.fs, patientDir)
		if err != nil {
			if !errors.Is(err, ErrIncomplete) {
				t.Errorf("seed %d: %v", seed, err)
			}
			continue
		}
		damage := p.examine(in)
		if err := in.Repair(t.Context(), Repair{Damage: damage, LastID: p.b}); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if err := in.Close(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		again := p.inspect()
		if rest := p.examine(again); len(rest) > 0 {
			t.Errorf("seed %d: still damaged: %+v", seed, rest[0])
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
		found := p.recovered()
		if len(found) > whole || len(damage) == 0 && len(found) < whole {
			t.Errorf("seed %d: %d of %d found after %d damages", seed, len(found), whole, len(damage))
		}
	}
}
