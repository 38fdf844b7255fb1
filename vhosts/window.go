// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"crypto/sha256"
	"slices"
	"sort"
	"sync"

	"github.com/lagomq/lagomq/persistence"
)

// window remembers which messages a queue or an exchange with deduplication has
// taken lately: the last so many, and each for so long.
//
// What it remembers of a stored message is stored in the same commit as that, and
// what it remembers of others is lost with them; so after a crash a message and its
// place in the window are there or are not there together. In the store the window
// is a list of config entries, each with the identities of consecutive messages; one
// goes when all of it is forgotten.
//
// Lock order: VHost.routes -> window.mu -> Queue.mu. Who publishes holds mu from the
// look-up until what it adds is proposed. So a duplicate's proposal, or barrier, comes
// after its original's. Several windows are locked in the order of their ids.
type window struct {
	id  uint64
	key []byte // what the keys of its config entries begin with; nil if it is not durable

	mu       sync.Mutex
	settings dedupSettings
	closed   bool // its owner is gone, or takes duplicates now: nothing is added
	places   map[identity]uint64
	parts    []windowPart // oldest first
	first    uint64       // place of the oldest message in parts
	next     uint64       // place of the next message
	count    int          // messages in parts
	fresh    []freshEntry // added by who holds mu, and in no part yet
	removed  [][]byte     // keys of config entries to be deleted

	duplicates uint64 // messages found to be duplicates
}

// identity stands for what makes messages duplicates of each other: 128 bits of a
// cryptographic digest.
type identity [16]byte

// windowPart is consecutive messages of a window that are stored together, or not
// stored.
type windowPart struct {
	first   uint64 // place of the first message; names the config entry
	stored  bool
	entries []windowEntry
}

// windowEntry is one message that is remembered.
type windowEntry struct {
	id      identity
	expires uint64 // milliseconds since 1970; 0: never
}

// freshEntry is a message that is just being published.
type freshEntry struct {
	windowEntry
	stored bool
}

// unplaced is the place of fresh messages.
const unplaced = 1<<64 - 1

// partSize is how many messages a part has at least, but for the newest parts and
// those of small windows: as soon as there are as many smaller parts, they are
// joined. So each message is written twice at most.
const partSize = 64

func newWindow(id uint64, key []byte, settings dedupSettings) *window {
	return &window{id: id, key: key, settings: settings, places: map[identity]uint64{}}
}

func newIdentity(kind byte, value []byte) identity {
	digest := sha256.Sum256(append([]byte{kind}, value...))
	return identity(digest[:])
}

// knows reports whether a message is a duplicate of one that is remembered. The
// caller holds mu.
func (w *window) knows(id identity, now uint64) bool {
	place, ok := w.places[id]
	if !ok || place == unplaced {
		return ok
	}
	part := &w.parts[w.partOf(place)]
	expires := part.entries[place-part.first].expires
	return expires == 0 || expires > now
}

// partOf is the index of the part with that place.
func (w *window) partOf(place uint64) int {
	return sort.Search(len(w.parts), func(i int) bool { return w.parts[i].first > place }) - 1
}

// add remembers a message that is being published; stored says whether it is
// proposed to the store. Until keep the caller holds mu.
func (w *window) add(id identity, expires uint64, stored bool) {
	w.places[id] = unplaced
	w.fresh = append(w.fresh, freshEntry{windowEntry{id, expires}, stored && w.key != nil})
}

// forget takes a fresh message back: it was not taken after all.
func (w *window) forget(id identity) {
	delete(w.places, id)
	w.fresh = slices.DeleteFunc(w.fresh, func(f freshEntry) bool { return f.id == id })
}

// keep gives the fresh messages their places, forgets the oldest beyond the window's
// size, and appends what the store has to know, to be proposed together with the
// messages. The caller holds mu until it is proposed.
func (w *window) keep(records []persistence.Record, now uint64) []persistence.Record {
	if w.closed {
		w.fresh = nil
		clear(w.places)
		return records
	}
	for from := 0; from < len(w.fresh); {
		end := from + 1
		for end < len(w.fresh) && w.fresh[end].stored == w.fresh[from].stored {
			end++
		}
		records = w.append(records, w.fresh[from:end])
		from = end
	}
	w.fresh = w.fresh[:0]
	w.evict(now)
	for _, key := range w.removed {
		records = append(records, persistence.DeleteConfig(key))
	}
	w.removed = nil
	return records
}

// append puts messages, which are stored or not all alike, at the end.
func (w *window) append(records []persistence.Record, fresh []freshEntry) []persistence.Record {
	part := windowPart{first: w.next, stored: fresh[0].stored, entries: make([]windowEntry, len(fresh))}
	for i := range fresh {
		part.entries[i] = fresh[i].windowEntry
		w.places[fresh[i].id] = w.next + uint64(i)
	}
	w.next += uint64(len(fresh))
	w.count += len(fresh)
	if n := len(w.parts); !part.stored && n > 0 && !w.parts[n-1].stored && len(w.parts[n-1].entries) < partSize {
		w.parts[n-1].entries = append(w.parts[n-1].entries, part.entries...)
		return records
	}
	w.parts = append(w.parts, part)
	if !part.stored {
		return records
	}
	small := len(w.parts)
	for small > 0 && w.parts[small-1].stored && len(w.parts[small-1].entries) < partSize && w.parts[small-1].end() == w.startAfter(small-1) {
		small--
	}
	if len(w.parts)-small < partSize {
		return append(records, persistence.SetConfig(w.partKey(part.first), encodeWindowPart(part.entries)))
	}
	return w.join(records, small)
}

// end is the place after the part's last.
func (p *windowPart) end() uint64 { return p.first + uint64(len(p.entries)) }

// startAfter is where the part after part i begins, or would begin.
func (w *window) startAfter(i int) uint64 {
	if i+1 < len(w.parts) {
		return w.parts[i+1].first
	}
	return w.next
}

// join makes one part of those from index i on, of which the last is not stored yet.
func (w *window) join(records []persistence.Record, i int) []persistence.Record {
	joined := windowPart{first: w.parts[i].first, stored: true}
	for j := i; j < len(w.parts); j++ {
		joined.entries = append(joined.entries, w.parts[j].entries...)
		if j > i && j < len(w.parts)-1 {
			records = append(records, persistence.DeleteConfig(w.partKey(w.parts[j].first)))
		}
	}
	clear(w.parts[i:])
	w.parts = append(w.parts[:i], joined)
	return append(records, persistence.SetConfig(w.partKey(joined.first), encodeWindowPart(joined.entries)))
}

// evict forgets the oldest messages while there are too many, or their time is over.
func (w *window) evict(now uint64) {
	for w.count > 0 {
		part := &w.parts[0]
		oldest := part.entries[w.first-part.first]
		if w.count <= w.settings.size && (oldest.expires == 0 || oldest.expires > now) {
			return
		}
		if w.places[oldest.id] == w.first {
			delete(w.places, oldest.id)
		}
		w.count--
		w.first++
		if w.first < part.end() {
			continue
		}
		if part.stored {
			w.removed = append(w.removed, w.partKey(part.first))
		}
		*part = windowPart{}
		w.parts = w.parts[1:]
		if len(w.parts) > 0 {
			w.first = w.parts[0].first
		} else {
			w.first = w.next
		}
	}
}

// restore puts a part found in the store at the end. Parts come in the order of
// their places. The oldest part may have messages that were forgotten before.
func (w *window) restore(first uint64, entries []windowEntry, now uint64) {
	if w.count == 0 {
		w.first = first
	}
	for i, e := range entries {
		w.places[e.id] = first + uint64(i)
	}
	w.parts = append(w.parts, windowPart{first, true, entries})
	w.next = first + uint64(len(entries))
	w.count += len(entries)
	w.evict(now)
}

// close ends the window, and appends the records that make the store forget it.
func (w *window) close(records []persistence.Record) []persistence.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, key := range w.removed {
		records = append(records, persistence.DeleteConfig(key))
	}
	for i := range w.parts {
		if w.parts[i].stored {
			records = append(records, persistence.DeleteConfig(w.partKey(w.parts[i].first)))
		}
	}
	w.places, w.parts, w.removed, w.count = map[identity]uint64{}, nil, nil, 0
	return records
}

// configure gives the window other settings: a new size counts from the next message
// on, and a new time for messages that come from now on.
func (w *window) configure(settings dedupSettings) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settings = settings
}

// found is how many duplicates there were.
func (w *window) found() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.duplicates
}
