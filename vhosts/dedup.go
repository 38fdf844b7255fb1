// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Deduplication, by the header that the queue or the exchange names. A message is a
// duplicate for as long as the window of one that was taken remembers that. To the
// publisher it counts as taken, as soon as its original is durable.
//
// It happens where messages enter queues, so that it is the same for all that
// publishers do. Dead letters pass: they come back to a queue because they have left
// it, and are no publisher's second attempt.

// filter is a window that messages of a route have to pass: the queue's, or that of
// the exchange they were published to.
type filter struct {
	window *window
	queue  *Queue // nil for the exchange's
}

// addFilters gives the route the filters of its exchange, whose window may be nil,
// and of its queues.
func (r *Route) addFilters(exchange *window) {
	if exchange != nil {
		r.filters = append(r.filters, filter{exchange, nil})
	}
	for _, q := range r.Queues {
		if w := q.window.Load(); w != nil {
			r.filters = append(r.filters, filter{w, q})
		}
	}
}

// Waits reports whether the waiter of Hosts.Publish is told of messages on this
// route: of persistent ones if they are stored, and of all if they may be duplicates
// of such.
func (r *Route) Waits(persistent bool) bool { return persistent && r.Durable || r.filters != nil }

// lockWindows locks the windows of all filters, in their order, and returns who
// unlocks them.
func lockWindows(filters []filter) (unlock func()) {
	windows := make([]*window, len(filters))
	for i := range filters {
		windows[i] = filters[i].window
	}
	slices.SortFunc(windows, func(a, b *window) int { return cmp.Compare(a.id, b.id) })
	windows = slices.Compact(windows)
	for _, w := range windows {
		w.mu.Lock()
	}
	return func() {
		for _, w := range windows {
			w.mu.Unlock()
		}
	}
}

// publishOnce is Publish for a route with filters.
func (h *Hosts) publishOnce(r *Route, page *queue.Page, persistent bool, w persistence.Waiter) *queue.Bitmap {
	letters, refused := h.publishFiltered(r, page, persistent, w)
	h.forwarder.forward(letters...)
	return refused
}

func (h *Hosts) publishFiltered(r *Route, page *queue.Page, persistent bool, w persistence.Waiter) (letters []*Queue, refused *queue.Bitmap) {
	defer lockWindows(r.filters)()
	var o outcome
	now := h.timers.now()
	page.Arrive(now)
	refused = tellRefused(o.sift(r, page, persistent, now), w)
	o.keepFresh(r.filters, now)
	if w != nil || len(o.records) > 0 {
		h.store.Propose(0, w, o.records...)
	}
	return o.letters, refused
}

// sift puts the messages of page that are no duplicates into the queues of a route.
// The caller holds the locks of the route's windows, and calls keepFresh before it
// proposes. It returns what queues refused: that is not remembered, as its publisher
// is to try again.
func (o *outcome) sift(r *Route, page *queue.Page, persistent bool, now uint64) (refused []refusal) {
	s := sieve{route: r, persistent: persistent, now: now}
	from, to := 0, s.judge(page, 0)
	for i := 1; i <= page.Len(); i++ {
		next := (*Route)(nil)
		if i < page.Len() {
			if next = s.judge(page, i); next == to {
				continue
			}
		}
		if to != nil {
			for _, part := range o.put(to, partOfPage(page, from, i), persistent) {
				refused = append(refused, s.forget(page, &part, from))
			}
			s.leave(page, o.copied, from, i)
		}
		from, to = i, next
	}
	if len(refused) > 0 {
		refused = append(refused, s.bereaved(page, refused[0].queue)...)
	}
	s.count()
	return refused
}

// bereaved are the duplicates whose original came in the same page and was refused:
// they are refused too, as nothing was taken of what they duplicate.
func (s *sieve) bereaved(page *queue.Page, by *Queue) (refused []refusal) {
	r := refusal{queue: by}
	for _, d := range s.dropped {
		w := s.route.filters[d.filter].window
		if id, _ := identify(headersOf(page, d.message), w.settings.header); !w.knows(id, s.now) {
			r.messages.Set(uint32(d.message))
			s.duplicates[d.filter]--
		}
	}
	if r.messages.Count() == 0 {
		return nil
	}
	return []refusal{r}
}

// forget takes messages out of the windows that a queue has refused, and returns the
// refusal, which is of a part of the page that begins with message from, as one of
// the whole page.
func (s *sieve) forget(page *queue.Page, part *refusal, from int) refusal {
	whole := refusal{queue: part.queue, steps: part.steps}
	for i := part.messages.NextSet(0, queue.MaxRunMessages); i < queue.MaxRunMessages; i = part.messages.NextSet(i+1, queue.MaxRunMessages) {
		at := from + int(i)
		whole.messages.Set(uint32(at))
		headers := headersOf(page, at)
		for k := range s.route.filters {
			f := &s.route.filters[k]
			if id, named := identify(headers, f.window.settings.header); named && (f.queue == nil || f.queue == part.queue) {
				f.window.forget(id)
			}
		}
	}
	return whole
}

// leave takes messages from..end-1 out of the windows of queues that get them as
// copies later: what they duplicate is asked then.
func (s *sieve) leave(page *queue.Page, queues []*Queue, from, end int) {
	for k := range s.route.filters {
		f := &s.route.filters[k]
		if f.queue == nil || !slices.Contains(queues, f.queue) {
			continue
		}
		for i := from; i < end; i++ {
			if id, named := identify(headersOf(page, i), f.window.settings.header); named {
				f.window.forget(id)
			}
		}
	}
}

// partOfPage is a page of the messages from and up to end of another.
func partOfPage(page *queue.Page, from, end int) *queue.Page {
	if from == 0 && end == page.Len() {
		return page
	}
	part := new(queue.Page)
	for i := from; i < end; i++ {
		part.AppendFrom(page, i)
	}
	return part
}

// keepFresh adds what the store has to know of the windows that messages were added
// to. The caller holds their locks until that is proposed.
func (o *outcome) keepFresh(filters []filter, now uint64) {
	for i := range filters {
		if w := filters[i].window; len(w.fresh) > 0 {
			o.records = w.keep(o.records, now)
		}
	}
}

// sieve tells duplicates from other messages of one page.
type sieve struct {
	route      *Route
	persistent bool
	now        uint64
	refused    []bool   // by filter, of the current message
	before     []bool   // of the one before
	to         *Route   // where that goes, nil for nowhere
	duplicates []uint64 // by filter
	dropped    []dropped
	ids        []identity
	named      []bool // by filter, whether the current message has an id
}

// dropped is a duplicate: a message and the filter that knows it.
type dropped struct{ message, filter int }

// judge finds where message i goes: s.route if it is new to all filters, nil if it
// goes nowhere. It is remembered where it goes.
func (s *sieve) judge(page *queue.Page, i int) (to *Route) {
	filters := s.route.filters
	if s.refused == nil {
		n := len(filters)
		s.refused, s.before, s.named = make([]bool, n), make([]bool, n), make([]bool, n)
		s.duplicates, s.ids = make([]uint64, n), make([]identity, n)
		s.to = s.route
	}
	headers := headersOf(page, i)
	for k := range filters {
		w := filters[k].window
		s.ids[k], s.named[k] = identify(headers, w.settings.header)
		s.refused[k] = s.named[k] && w.knows(s.ids[k], s.now)
		if s.refused[k] {
			s.duplicates[k]++
			s.dropped = append(s.dropped, dropped{i, k})
			if filters[k].queue == nil {
				clear(s.refused[k+1:]) // it goes nowhere, whatever queues know
				break
			}
		}
	}
	if !slices.Equal(s.refused, s.before) {
		s.to = s.narrow()
	}
	copy(s.before, s.refused)
	if s.to == nil {
		return nil
	}
	expires := expiryOf(headers)
	for k := range filters {
		f := &filters[k]
		if !s.named[k] || s.refused[k] {
			continue
		}
		durable := s.to.Durable
		if f.queue != nil {
			durable = f.queue.durable
		}
		f.window.add(s.ids[k], f.window.expiry(s.now, expires), s.persistent && durable)
	}
	return s.to
}

// narrow is the route without the queues that refuse the current message, nil if
// nobody takes it.
func (s *sieve) narrow() *Route {
	filters := s.route.filters
	if filters[0].queue == nil && s.refused[0] {
		return nil
	}
	to := s.route.without(func(q *Queue) bool {
		k := slices.IndexFunc(filters, func(f filter) bool { return f.queue == q })
		return k >= 0 && s.refused[k]
	})
	switch {
	case to == s.route:
		return to
	case to.Nowhere():
		return nil
	}
	return to.at(s.route.priority)
}

// count adds the duplicates to the counters of queues and exchanges.
func (s *sieve) count() {
	for k, n := range s.duplicates {
		f := &s.route.filters[k]
		f.window.duplicates += n
		if n > 0 && f.queue != nil {
			f.queue.mu.Lock()
			f.queue.stats.Deduplicated += n
			f.queue.mu.Unlock()
		}
	}
}

// expiry is when a message that comes now is forgotten: after ttl milliseconds if
// that is positive, and else after the window's own time.
func (w *window) expiry(now uint64, ttl int64) uint64 {
	if ttl <= 0 {
		ttl = w.settings.ttl
	}
	if ttl <= 0 {
		return 0
	}
	return now + uint64(ttl)
}

// headersOf are the contents of the headers table of message i.
func headersOf(page *queue.Page, i int) []byte {
	_, header, _ := page.Message(i)
	var properties wire.PropertyView
	if properties.Scan(header[wire.ContentHeaderSize:]) != nil {
		return nil // it was checked when it was published: only damage gets here
	}
	return properties.Headers
}

// identify reads what makes a message a duplicate; false if it does not say. Integers
// of any width are the same, other types are not.
func identify(headers []byte, name string) (id identity, named bool) {
	tag, value, ok := wire.LookupField(headers, name)
	if !ok || tag == 'V' {
		return id, false
	}
	if n, ok := integerField(tag, value); ok {
		return newIdentity('l', binary.BigEndian.AppendUint64(nil, uint64(n))), true
	}
	return newIdentity(tag, value), true
}

// expiryOf is the message's own header x-cache-ttl, 0 if it has none.
func expiryOf(headers []byte) int64 {
	tag, value, _ := wire.LookupField(headers, "x-cache-ttl")
	ttl, _ := integerField(tag, value)
	return min(ttl, maxMilliseconds)
}

// integerField reads an integer of any width in the form of wire.LookupField.
func integerField(tag byte, value []byte) (n int64, ok bool) {
	switch tag {
	case 'b', 's', 'I', 'l', 'L':
		n = int64(int8(value[0]))
	case 'B', 'u', 'i':
		n = int64(value[0])
	default:
		return 0, false
	}
	for _, octet := range value[1:] {
		n = n<<8 | int64(octet)
	}
	return n, true
}

// checkDedupArguments validates the arguments of a new exchange that are about
// duplicates.
func checkDedupArguments(arguments wire.Table, exchange, vhost string) *wire.Error {
	for i := range dedupArguments {
		a := &dedupArguments[i]
		if value, given := arguments.Get(a.name); given {
			if detail := a.check(value); detail != "" {
				return wire.Errorf(wire.PreconditionFailed, "invalid arg '%s' for exchange '%s' in vhost '%s': %s", a.name, exchange, vhost, detail)
			}
		}
	}
	return nil
}

// configureWindow gives a queue a window, takes it away or changes it, as its
// settings say. Called under VHost.mu and VHost.routes; cached routes are to be made
// stale if it returns true. records, if any, are to be proposed.
func (q *Queue) configureWindow() (changed bool, records []persistence.Record) {
	settings, w := q.settings.Load().dedup, q.window.Load()
	switch {
	case settings == nil && w == nil:
	case settings == nil:
		q.window.Store(nil)
		return true, w.close(nil)
	case w == nil:
		var key []byte
		if q.durable {
			key = windowKey(q.vhost.id, q.name, false)
		}
		q.window.Store(newWindow(q.id, key, *settings))
		return true, nil
	default:
		w.configure(*settings)
	}
	return false, nil
}

// configureExchangeWindow does the same for an exchange.
func (v *VHost) configureExchangeWindow(x *Exchange, settings *dedupSettings) (changed bool, records []persistence.Record) {
	w := v.windows[x.Name]
	switch {
	case settings == nil && w == nil:
	case settings == nil:
		delete(v.windows, x.Name)
		return true, w.close(nil)
	case w == nil:
		var key []byte
		if x.Durable {
			key = windowKey(v.id, x.Name, true)
		}
		v.windows[x.Name] = newWindow(v.hosts.store.NewID(), key, *settings)
		return true, nil
	default:
		w.configure(*settings)
	}
	return false, nil
}

// reconfigureWindows brings the windows of queues in line with their settings, after
// policies have changed. Called without locks.
func (v *VHost) reconfigureWindows(queues []*Queue) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var records []persistence.Record
	v.changeRoutes(func(r *exchanges.Router[*Queue]) {
		for _, q := range queues {
			if v.queues[q.name] != q {
				continue // deleted meanwhile, its window with it
			}
			changed, forgotten := q.configureWindow()
			records = append(records, forgotten...)
			if changed {
				r.Touch()
			}
		}
	})
	v.commit(nil, records...)
}

// ExchangeDuplicates counts the duplicates that an exchange has dropped since it was
// made or recovered, or given deduplication.
func (v *VHost) ExchangeDuplicates(name string) uint64 {
	v.routes.RLock()
	w := v.windows[name]
	v.routes.RUnlock()
	if w == nil {
		return 0
	}
	return w.found()
}
