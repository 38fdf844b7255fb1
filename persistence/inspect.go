// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"math/bits"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Inspection is a data directory that is looked at while no broker uses it. It
// holds the directory's lock until Close, and changes nothing but by Repair. It is
// used by one goroutine.
type Inspection struct {
	fs      vfs.FS
	dir     string
	lock    io.Closer
	gen     *generation // read-only; nil once closed
	state   state
	summary Summary
	damage  []Damage // of what is outside the key spaces that Walk goes over
}

// Summary is what a data directory says about itself.
type Summary struct {
	Format  int    // of the directory
	Orderly bool   // whether the last stop was
	Commit  uint64 // number of the latest commit, 0 if it is unknown
	Boots   uint64 // how often it has been opened, about; 0 if it is unknown
}

// DamageKind says what is damaged.
type DamageKind string

// The kinds of damage. All but DamagedBody keep a store from being opened or
// recovered.
const (
	DamagedState     DamageKind = "state"     // the STATE file, or it is not this database's
	DamagedCounter   DamageKind = "counter"   // the boot counter or the commit number
	DamagedConfig    DamageKind = "metadata"  // a piece of metadata
	DamagedEntry     DamageKind = "entry"     // of a queue's directory
	DamagedMark      DamageKind = "settled"   // which messages of a run are settled
	DamagedDelivered DamageKind = "delivered" // how far a queue had been delivered
	DamagedDeletion  DamageKind = "deletion"  // a range of a queue's messages that is deleted
	DamagedBody      DamageKind = "body"      // the messages of a run; or they are missing
	DamagedFile      DamageKind = "file"      // a range of keys that cannot be read
)

// Damage is one thing found to be damaged or missing.
type Damage struct {
	Kind   DamageKind
	Key    []byte // of the record; of DamagedFile the first key that cannot be read
	Until  []byte // of DamagedFile: the first key after those that cannot be read
	Reason string

	Queue uint64 // the queue it belongs to, 0 if it belongs to none
	First uint64 // of an entry, mark, deletion or body: the number of the first message
	Count uint32 // of a body: its messages
	Live  uint32 // of a body: those of them that are not settled
}

// Config returns the key, as it was given to [SetConfig], of a damaged piece of
// metadata.
func (d *Damage) Config() []byte { return configKeyName(d.Key) }

// InspectedRun is a sound entry of a queue's directory.
type InspectedRun struct {
	RecoveredRun
	Condemned bool // it counts as deleted, and will be when the store has time
}

// Live is how many of the run's messages are not settled.
func (r *InspectedRun) Live() uint32 {
	settled := 0
	for _, word := range r.Settled {
		settled += bits.OnesCount64(word)
	}
	return r.Count - min(r.Count, uint32(settled))
}

// Shared reports whether other queues may have the same body.
func (r *InspectedRun) Shared() bool { return r.Place.Flags&placeShared != 0 }

// Visitor is called for what is found, in the order of keys. Functions that are nil
// are not called; slices are valid only during the call.
type Visitor struct {
	// Config is called for each sound piece of metadata.
	Config func(key, value []byte)
	// Run is called for each sound entry of a directory.
	Run func(*InspectedRun)
	// Body is called with the sound body of each run that is not condemned, and
	// returns what is wrong with its content. If it is nil bodies are not read.
	Body func(*InspectedRun, []byte) error
	// Damage is called for all that is damaged. Key and Until may be kept.
	Damage func(Damage)
}

// OpenInspection opens the data directory dir, which must exist and be a store, for
// inspection and repair. A nil fs is the operating system's. Errors wrap [ErrInUse]
// if a broker uses it, [ErrForeign] if it is none of this version's stores, and
// [ErrIncomplete] if its database cannot be opened, so that nothing can be told or
// repaired.
func OpenInspection(fs vfs.FS, dir string) (*Inspection, error) {
	if fs == nil {
		fs = vfs.Default
	}
	lock, format, err := lockExisting(fs, dir)
	if err != nil {
		return nil, err
	}
	in := &Inspection{fs: fs, dir: dir, lock: lock, summary: Summary{Format: format}}
	if err := in.open(); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

// lockExisting locks a directory that is a store and returns its format. It makes
// nothing, besides the lock file.
func lockExisting(fs vfs.FS, dir string) (lock io.Closer, format int, err error) {
	if _, err := fs.Stat(dir); err != nil {
		return nil, 0, fmt.Errorf("data directory %s: %w", dir, plain(err))
	}
	if format, err = checkFormat(fs, dir); err != nil {
		return nil, 0, err
	}
	if format == 0 {
		return nil, 0, fmt.Errorf("data directory %s is %w: it is empty", dir, ErrForeign)
	}
	lock, err = fs.Lock(fs.PathJoin(dir, lockFile))
	if err != nil && isHeld(err) {
		return nil, 0, fmt.Errorf("data directory %s is %w", dir, ErrInUse)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("lock data directory %s: %w", dir, plain(err))
	}
	return lock, format, nil
}

func (in *Inspection) open() (err error) {
	path := in.fs.PathJoin(in.dir, databaseDir)
	rewritten := in.fs.PathJoin(in.dir, rewrittenDir)
	if _, err := in.fs.Stat(path); errors.Is(err, iofs.ErrNotExist) {
		if _, err := in.fs.Stat(rewritten); err == nil {
			return fmt.Errorf("data directory %s is %w: a repair was interrupted at its very end; rename %s to %s", in.dir, ErrIncomplete, rewritten, path)
		}
	}
	if in.gen, err = openOffline(in.fs, path, &pebble.Options{ReadOnly: true, ErrorIfNotExists: true}); err != nil {
		return fmt.Errorf("data directory %s is %w: its database cannot be opened: %w; that cannot be repaired: restore the directory from a backup",
			in.dir, ErrIncomplete, oneLine{err})
	}
	in.summary.Boots = in.counter(metaBoot)
	in.summary.Commit = in.counter(metaCommit)
	in.checkState()
	return nil
}

// openOffline opens a database that only this goroutine uses. Besides the given
// options it has those that all databases of the store have.
func openOffline(fs vfs.FS, path string, o *pebble.Options) (*generation, error) {
	g := &generation{failed: make(chan struct{})}
	var once sync.Once
	g.fs = newGuardFS(fs, path, new(diskTimes), func(err error) {
		once.Do(func() {
			g.cause = err
			close(g.failed)
		})
	})
	o.FS = g.fs
	o.FormatMajorVersion = databaseFormat
	o.Logger = &databaseLogger{slog.New(slog.DiscardHandler), g}
	// Whoever reads is told; the default would be fatal.
	o.EventListener = &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}}
	open := func() (err error) {
		g.db, err = pebble.Open(path, o)
		return err
	}
	err := g.run(open)
	if err == nil {
		g.fs.absent, err = absentBlobs(g.db, fs, path)
	}
	if err == nil && len(g.fs.absent) > 0 { // so that it sees them
		err = g.run(func() error { return errors.Join(g.db.Close(), open()) })
	}
	if err != nil {
		g.fs.cut()
		return nil, err
	}
	return g, nil
}

// counter reads a number of the database's own.
func (in *Inspection) counter(name string) uint64 {
	key := metaKey(name)
	n, _, err := getNumber(in.gen.db, key, 0)
	if err != nil {
		in.damage = append(in.damage, Damage{Kind: DamagedCounter, Key: key, Reason: "the counter " + name + ": " + reason(err)})
	}
	return n
}

// checkState compares the STATE file with the database.
func (in *Inspection) checkState() {
	st, err := readState(in.fs, in.dir)
	wrong := ""
	switch commit := in.summary.Commit; {
	case err != nil:
		wrong = "the file cannot be read: " + err.Error()
	case st.kind == stateNew && in.summary.Boots > 0:
		wrong = "it says that nothing was ever stored"
	case st.kind != stateStopped || len(in.damage) > 0:
	case st.commit > commit:
		wrong = fmt.Sprintf("the store was stopped at commit %d and its database ends with %d: commits %d to %d are lost", st.commit, commit, commit+1, st.commit)
	case st.commit < commit:
		wrong = fmt.Sprintf("the store was stopped at commit %d and its database goes on to %d: the file is older than the database", st.commit, commit)
	}
	if wrong == "" {
		wrong = in.checkFiles(st)
	}
	in.state = st
	in.summary.Orderly = st.kind == stateStopped && wrong == ""
	if wrong != "" {
		in.damage = append(in.damage, Damage{Kind: DamagedState, Reason: wrong})
	}
}

// checkFiles looks for what an open store would be refused for besides.
func (in *Inspection) checkFiles(st state) string {
	switch st.kind {
	case stateStopped:
		manifest, err := manifestSum(in.fs, in.dir)
		if err != nil || manifest != st.manifest {
			return "the database's manifest is not that of the last stop, or blob files are missing: what was stored last may be lost"
		}
	case stateRunning:
		if err := checkManifest(in.fs, in.dir); err != nil {
			return err.Error()
		}
		flushed, err := in.flushedCommit()
		if err == nil {
			err = checkCommits(in.fs, in.dir, st, flushed, in.summary.Commit)
		}
		if err != nil {
			return err.Error()
		}
	}
	return ""
}

// flushedCommit is the number of the latest commit without the logs.
func (in *Inspection) flushedCommit() (commit uint64, err error) {
	g, err := openOffline(withoutLogs{in.fs}, in.fs.PathJoin(in.dir, databaseDir), &pebble.Options{ReadOnly: true, ErrorIfNotExists: true})
	if err != nil {
		return 0, err
	}
	defer g.fs.cut()
	err = g.run(func() error {
		commit, err = g.lastCommit()
		return errors.Join(err, g.db.Close())
	})
	return commit, err
}

// Summary returns what was read when the directory was opened.
func (in *Inspection) Summary() Summary { return in.summary }

// Close closes and unlocks the directory.
func (in *Inspection) Close() error {
	err := in.closeDatabase()
	if in.lock != nil {
		err = errors.Join(err, in.lock.Close())
		in.lock = nil
	}
	if err != nil {
		return fmt.Errorf("close data directory %s: %w", in.dir, err)
	}
	return nil
}

func (in *Inspection) closeDatabase() error {
	if in.gen == nil {
		return nil
	}
	g := in.gen
	in.gen = nil
	return g.run(g.db.Close)
}

// reason is what is wrong with a record, without saying which record it is.
func reason(err error) string {
	if d := (*DamagedError)(nil); errors.As(err, &d) {
		return d.Reason
	}
	return err.Error()
}

// Walk goes over everything but volatile bodies and verifies each checksum; if
// Visitor.Body is nil, bodies are only looked for in the files, not verified. It
// reports damage and goes on; its error is that of ctx.
func (in *Inspection) Walk(ctx context.Context, v Visitor) error {
	return in.walk(ctx, v, (*walk).config, (*walk).marks, (*walk).delivered, (*walk).deletions, (*walk).directory, (*walk).bodies)
}

// WalkDirectories is Walk without the bodies, which takes little time.
func (in *Inspection) WalkDirectories(ctx context.Context, v Visitor) error {
	v.Body = nil
	return in.walk(ctx, v, (*walk).config, (*walk).marks, (*walk).delivered, (*walk).deletions, (*walk).directory)
}

func (in *Inspection) walk(ctx context.Context, v Visitor, parts ...func(*walk) error) error {
	for _, d := range in.damage {
		v.damaged(d)
	}
	w := &walk{ctx: ctx, db: in.gen.db, Visitor: v}
	for _, part := range parts {
		if err := part(w); err != nil {
			return fmt.Errorf("inspect data directory %s: %w", in.dir, err)
		}
	}
	return nil
}

// WalkConfig is Walk for the metadata only.
func (in *Inspection) WalkConfig(ctx context.Context, v Visitor) error {
	w := &walk{ctx: ctx, db: in.gen.db, Visitor: v}
	if err := w.config(); err != nil {
		return fmt.Errorf("inspect metadata of data directory %s: %w", in.dir, err)
	}
	return nil
}

// WalkQueue is Walk for one queue's directory, settled marks and bodies.
func (in *Inspection) WalkQueue(ctx context.Context, queue uint64, v Visitor) error {
	w := &walk{ctx: ctx, db: in.gen.db, Visitor: v, only: queue}
	for _, part := range []func() error{w.marks, w.deletionsQuietly, w.directory} {
		if err := part(); err != nil {
			return fmt.Errorf("inspect queue %d in data directory %s: %w", queue, in.dir, err)
		}
	}
	return nil
}

func (v *Visitor) damaged(d Damage) {
	if v.Damage != nil {
		v.Damage(d)
	}
}
