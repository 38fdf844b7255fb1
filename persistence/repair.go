// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// rewrittenDir is the database that a repair writes anew, until it takes the
	// place of the damaged one, which becomes damagedDir. A rewrittenDir beside a
	// databaseDir is not complete.
	rewrittenDir = databaseDir + ".repaired"
	damagedDir   = databaseDir + ".damaged"
)

// unknownCommit takes the place of a commit number that is lost: no store reaches
// it in a lifetime, and commits must go on with a greater number than they had.
const unknownCommit = 1 << 48

// Repair is what is to be changed in a data directory.
type Repair struct {
	// Damage is given up. A damaged record is removed; with an entry its settled
	// mark; with a body the entry of the queue that it was reported for, and the body
	// itself when no other queue has it. If parts of the files cannot be read, the
	// whole database is written anew without them.
	Damage []Damage
	// DeleteConfig and SetConfig change metadata besides.
	DeleteConfig [][]byte
	SetConfig    []ConfigEntry
	// LastID is at least the greatest id that the metadata mentions. It matters when
	// the boot counter is lost, since ids must never be used twice.
	LastID uint64
}

// ConfigEntry is a piece of metadata, see [SetConfig].
type ConfigEntry struct{ Key, Value []byte }

// rewrites reports whether the database has to be written anew.
func (r *Repair) rewrites() bool {
	for i := range r.Damage {
		if r.Damage[i].Kind == DamagedFile {
			return true
		}
	}
	return false
}

// doubtful reports whether it cannot be said any more how the last stop went.
func (r *Repair) doubtful() bool {
	for i := range r.Damage {
		switch r.Damage[i].Kind {
		case DamagedState, DamagedCounter, DamagedFile:
			return true
		}
	}
	return false
}

// Sharers calls visit for each other queue that has a body which Damage reports: with
// the damage, the queue and the number of the first message there. It reads all
// directories once.
func (in *Inspection) Sharers(ctx context.Context, damage []Damage, visit func(d *Damage, queue, first uint64)) error {
	byBody := map[runName][]*Damage{}
	for i := range damage {
		d := &damage[i]
		if name, ok := parseBodyKey(d.Key); ok && d.Kind == DamagedBody {
			byBody[name] = append(byBody[name], d)
		}
	}
	if len(byBody) == 0 {
		return nil
	}
	w := &walk{ctx: ctx, db: in.gen.db, Visitor: Visitor{Run: func(r *InspectedRun) {
		for _, d := range byBody[runName{r.Place.Group, r.Place.Index, r.Place.Part}] {
			if d.Queue != r.Queue || d.First != r.First {
				visit(d, r.Queue, r.First)
			}
		}
	}}}
	if err := w.directory(); err != nil {
		return fmt.Errorf("look for queues that share bodies in data directory %s: %w", in.dir, err)
	}
	return nil
}

// Repair changes the directory durably. Nothing but Close may be called after it.
// If it fails or is interrupted, the directory can be repaired again.
func (in *Inspection) Repair(ctx context.Context, r Repair) error {
	if err := in.repair(ctx, r); err != nil {
		return fmt.Errorf("repair data directory %s: %w", in.dir, err)
	}
	return nil
}

func (in *Inspection) repair(ctx context.Context, r Repair) (err error) {
	m := mend{Repair: r, commit: in.summary.Commit + 1, boots: in.summary.Boots, kept: map[string]bool{}}
	if err := in.plan(ctx, &m); err != nil {
		return err
	}
	// Should it be interrupted, the last stop was not an orderly one.
	if err := writeState(in.fs, in.dir, state{kind: stateRunning}); err != nil {
		return err
	}
	g, err := in.openRepaired(ctx, r.rewrites())
	if err != nil {
		return err
	}
	err = g.run(func() error {
		// In a table, it need not follow from the commits in the logs.
		return errors.Join(m.apply(g.db), g.db.Flush(), g.db.Close())
	})
	if err == nil && r.rewrites() {
		err = in.exchange()
	}
	if err == nil && in.summary.Orderly && !r.doubtful() {
		err = writeStopped(in.fs, in.dir, m.commit)
	}
	return err
}

// plan finds out what depends on more than the damage itself.
func (in *Inspection) plan(ctx context.Context, m *mend) error {
	given := map[string]bool{} // entries that are given up
	for i := range m.Damage {
		if d := &m.Damage[i]; d.Kind == DamagedBody {
			given[string(entryKey(spaceDirectory, d.Queue, d.First))] = true
		}
	}
	err := in.Sharers(ctx, m.Damage, func(d *Damage, queue, first uint64) {
		if !given[string(entryKey(spaceDirectory, queue, first))] {
			m.kept[string(d.Key)] = true
		}
	})
	if err != nil {
		return err
	}
	for i := range m.Damage {
		if m.Damage[i].Kind != DamagedCounter {
			continue
		}
		switch string(m.Damage[i].Key) {
		case string(metaKey(metaBoot)):
			if m.boots, err = in.greatestBoot(ctx, m.LastID); err != nil {
				return err
			}
		case string(metaKey(metaCommit)):
			m.commit = max(in.state.commit, unknownCommit) + 1
		}
	}
	return nil
}

// greatestBoot finds the boot that gave out the greatest id in use.
func (in *Inspection) greatestBoot(ctx context.Context, lastID uint64) (uint64, error) {
	see := func(id uint64) { lastID = max(lastID, id) }
	for _, space := range []byte{spaceDirectory, spaceSettled, spaceDelivered, spaceCondemned, spaceBody, spaceVolatileDirectory, spaceVolatileBody} {
		lower, upper := spaceBounds(space)
		err := salvage(ctx, in.gen.db, lower, upper, func(key, _ []byte, _ error) error {
			if name, ok := parseBodyKey(key); ok {
				see(name.index)
			} else if queue, _, ok := parseEntryKey(key); ok {
				see(queue)
			} else if queue, ok := parseDeliveredKey(key); ok {
				see(queue)
			}
			return nil
		}, func(Damage) {})
		if err != nil {
			return 0, err
		}
	}
	return lastID >> idBits, nil
}

// openRepaired opens the database to be changed: the one there is, or one written
// anew from all of it that can be read.
func (in *Inspection) openRepaired(ctx context.Context, rewrite bool) (*generation, error) {
	if rewrite {
		return in.rewrite(ctx)
	}
	if err := in.closeDatabase(); err != nil {
		return nil, err
	}
	return openOffline(in.fs, in.fs.PathJoin(in.dir, databaseDir), &pebble.Options{
		ErrorIfNotExists: true,
		// The broker does that, and knows better what to do about a file it cannot read.
		DisableAutomaticCompactions: true,
	})
}

// rewriteBatch is about how many bytes are copied at a time.
const rewriteBatch = 4 << 20

// rewrite copies everything that can be read into a new database.
func (in *Inspection) rewrite(ctx context.Context) (*generation, error) {
	kept := in.fs.PathJoin(in.dir, damagedDir)
	if _, err := in.fs.Stat(kept); err == nil {
		return nil, fmt.Errorf("%s is what an earlier repair kept of the damaged database: move it elsewhere first", kept)
	}
	path := in.fs.PathJoin(in.dir, rewrittenDir)
	if err := in.fs.RemoveAll(path); err != nil {
		return nil, fmt.Errorf("remove what an interrupted repair left: %w", err)
	}
	g, err := openOffline(in.fs, path, &pebble.Options{ErrorIfExists: true, MemTableSize: 64 << 20})
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	err = g.run(func() error { return in.copyInto(ctx, g.db) })
	if err == nil {
		err = in.closeDatabase()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write the database anew: %w", err), g.run(g.db.Close))
	}
	return g, nil
}

// copyInto copies all spaces but the volatile one. Bodies are copied by the entries
// that name them, so that none is missed that can be read.
func (in *Inspection) copyInto(ctx context.Context, db *pebble.DB) error {
	c := copier{from: in.gen.db, to: db, batch: db.NewBatch(), shared: map[runName]bool{}}
	for _, space := range []byte{spaceMeta, spaceConfig, spaceDirectory, spaceSettled, spaceDelivered, spaceCondemned} {
		lower, upper := spaceBounds(space)
		if err := salvage(ctx, c.from, lower, upper, c.record, func(Damage) {}); err != nil {
			return errors.Join(err, c.batch.Close())
		}
	}
	return errors.Join(c.batch.Commit(pebble.Sync), c.batch.Close())
}

// copier copies records from one database to another.
type copier struct {
	from, to *pebble.DB
	batch    *pebble.Batch
	shared   map[runName]bool // bodies that several queues may have and that are copied
}

// record copies one record. What cannot be read is among what is given up.
func (c *copier) record(key, value []byte, err error) error {
	if err != nil {
		return nil
	}
	if err := c.set(key, value); err != nil || key[0] != spaceDirectory {
		return err
	}
	e, err := unsealEntry(key, value, 0)
	if err != nil || c.shared[e.name] {
		return nil
	}
	body := make([]byte, bodyKeyLen)
	putBodyKey(body, spaceBody, e.name)
	content, closer, err := get(c.from, body)
	if err != nil {
		return nil
	}
	if e.shared { // bodies must be set once only, see [batchWriter.drop]
		c.shared[e.name] = true
	}
	return errors.Join(c.set(body, content), closer.Close())
}

func (c *copier) set(key, value []byte) error {
	if err := c.batch.Set(key, value, nil); err != nil || c.batch.Len() < rewriteBatch {
		return err
	}
	err := errors.Join(c.batch.Commit(pebble.NoSync), c.batch.Close())
	c.batch = c.to.NewBatch()
	return err
}

// exchange puts the rewritten database in the place of the damaged one, which is
// kept.
func (in *Inspection) exchange() error {
	path := in.fs.PathJoin(in.dir, databaseDir)
	if err := in.fs.Rename(path, in.fs.PathJoin(in.dir, damagedDir)); err != nil {
		return err
	}
	if err := in.fs.Rename(in.fs.PathJoin(in.dir, rewrittenDir), path); err != nil {
		return err
	}
	return syncDir(in.fs, in.dir)
}

// mend is a repair that knows all it changes.
type mend struct {
	Repair
	commit uint64          // number of the commit that it is
	boots  uint64          // the boot counter
	kept   map[string]bool // keys of damaged bodies that other queues have
}

// apply changes the database by one commit.
func (m *mend) apply(db *pebble.DB) error {
	b := db.NewBatch()
	var errs []error
	remove := func(key []byte) { errs = append(errs, b.Delete(key, nil)) }
	for i := range m.Damage {
		switch d := &m.Damage[i]; d.Kind {
		case DamagedConfig, DamagedMark, DamagedDelivered, DamagedDeletion:
			remove(d.Key)
		case DamagedEntry:
			remove(d.Key)
			remove(entryKey(spaceSettled, d.Queue, d.First))
		case DamagedBody:
			remove(entryKey(spaceDirectory, d.Queue, d.First))
			remove(entryKey(spaceSettled, d.Queue, d.First))
			if !m.kept[string(d.Key)] {
				remove(d.Key)
			}
		}
	}
	for _, key := range m.DeleteConfig {
		remove(appendConfigKey(nil, key))
	}
	for _, e := range m.SetConfig {
		key := appendConfigKey(nil, e.Key)
		value := append(make([]byte, sealLen), e.Value...)
		seal(key, value)
		errs = append(errs, b.Set(key, value, nil))
	}
	errs = append(errs, setNumber(b, metaKey(metaCommit), m.commit), setNumber(b, metaKey(metaBoot), m.boots))
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, b.Close())
	}
	return errors.Join(b.Commit(pebble.Sync), b.Close())
}
