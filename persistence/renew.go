// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import "fmt"

// worthRenewing is how many bytes of memtables make it worth to open the database
// anew. Pebble begins with small ones and doubles them as they fill, never makes them
// smaller, and keeps one more to be used again: so a burst of traffic leaves twice
// Options.MemTableSize behind for good.
const worthRenewing = 4 << 20

// slim has the database opened anew if memtables hold memory that nobody needs. It is
// called while nothing is committed, again and again until there is no more to do, since
// neither compactions nor reads are interrupted for it.
func (h *housekeeper) slim() {
	m, err := h.metrics()
	switch {
	case err != nil || m.Compact.NumInProgress > 0:
	case m.MemTable.Size > worthRenewing:
		h.renewed = true
		h.askForRenewal()
	default:
		h.slimmed = true
		if h.renewed && h.opts.Events.Idle != nil {
			h.opts.Events.Idle()
		}
		h.renewed = false
	}
}

// askForRenewal has the committer open the database anew, unless there is something
// else to do.
func (s *Store) askForRenewal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewal = true
	s.wake.Signal()
}

// restingLocked says that nothing is proposed, on its way or being read.
func (s *Store) restingLocked(g *generation) bool {
	return len(s.pending.proposals) == 0 && s.taken == nil && len(s.flights) == 0 && !s.reporting && g.readers == 0
}

// renew closes the database and goes on with the next generation. It runs on the
// committer. What is proposed or to be read meanwhile waits, some ten milliseconds.
// If the database cannot be opened, the disk has failed this generation.
func (s *Store) renew(g *generation) {
	next, err := s.renewed(g)
	if err == nil {
		s.replaceGeneration(next)
		return
	}
	s.generationFailed(g, fmt.Errorf("open database anew: %w", err))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.working = false
	s.wakeAll()
}

// renewing reports whether everybody waits for generation g to follow one that was
// closed for it.
func (s *Store) renewing(g *generation) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gen != nil && s.gen != g && s.gen.closed && s.failure == nil
}

func (s *Store) renewed(g *generation) (next *generation, err error) {
	s.giveSparesUp() // its batches
	if err := g.run(g.db.Close); err != nil {
		return nil, err
	}
	if g.hasFailed() { // and is the restorer's
		return nil, g.cause
	}
	g.fs.cut()
	g.db = nil // what refers to this generation must not hold its memory
	if next, err = s.reopen(); err == nil {
		s.opts.Logger.Debug("database opened anew, with small memtables")
	}
	return next, err
}
