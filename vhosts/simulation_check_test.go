// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lagomq/lagomq/vhosts/queue"
)

// simContents is all that a started broker holds.
type simContents struct {
	lines  []string // what is declared
	queues map[string][]*simContent
}

var errDamaged = errors.New("a queue cannot be read")

// readContents reads everything: it consumes every queue and puts all back. It
// fails if a queue cannot be read.
func readContents(b *broker, log *errorLog) (*simContents, error) {
	all := &simContents{queues: map[string][]*simContent{}}
	for _, s := range b.QueueStats() {
		q := simQueue{name: s.Name, kind: simKindOf(s.Arguments), deadLetters: settingsOf(s.Arguments, s.Policies).deadLetters}
		all.lines = append(all.lines, q.describe())
		contents, err := readQueue(b, s.Name, int(s.Ready), log)
		if err != nil {
			return nil, err
		}
		all.queues[s.Name] = contents
	}
	for _, x := range b.Exchanges() {
		if x.Name != "" && !strings.HasPrefix(x.Name, "amq.") {
			all.lines = append(all.lines, "exchange "+x.Name+" "+x.Type)
		}
	}
	for _, d := range b.Bindings() {
		if d.Source != "" {
			all.lines = append(all.lines, simBinding{d.Source, d.Destination, d.Key}.describe())
		}
	}
	for _, p := range b.Policies(UserPolicy) {
		exchange, _ := p.Definition.Get("dead-letter-exchange")
		policy := simPolicy{strings.Trim(strings.ReplaceAll(p.Pattern, "\\", ""), "^$"), exchange.(string)}
		all.lines = append(all.lines, policy.describe(p.Name))
	}
	slices.Sort(all.lines)
	return all, nil
}

func readQueue(b *broker, name string, ready int, log *errorLog) ([]*simContent, error) {
	q, wireErr := b.Queue(name, 1)
	if wireErr != nil {
		return nil, wireErr
	}
	r := &simReader{enough: make(chan struct{}), wanted: ready}
	c := &queue.Consumer{Sink: r}
	if wireErr := q.Consume(c, false, func() {}); wireErr != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, wireErr)
	}
	var err error
	if ready > 0 {
		select {
		case <-r.enough:
		case <-log.reported:
			err = fmt.Errorf("%w: %v", errDamaged, log.errors())
		case <-time.After(patience):
			err = fmt.Errorf("only %d of %d messages of %s come", len(r.take()), ready, name)
		}
	}
	q.Cancel(c)
	contents := r.take()
	var numbers []uint64
	for _, m := range contents {
		numbers = append(numbers, m.number)
	}
	q.Return(c, numbers, false)
	return contents, err
}

// simReader is a consumer that keeps what it is given.
type simReader struct {
	mu       sync.Mutex
	contents []*simContent
	wanted   int
	enough   chan struct{}
}

// Reserve implements [queue.Sink].
func (r *simReader) Reserve(n uint32) uint32 { return n }

// Release implements [queue.Sink].
func (r *simReader) Release(uint32) {}

// Waits implements [queue.Sink].
func (r *simReader) Waits() queue.Wait { return queue.WaitNot }

// Cancelled implements [queue.Sink]. Why is in the log.
func (r *simReader) Cancelled() {}

// Oldest implements [queue.Sink]: it may hold messages for ever.
func (r *simReader) Oldest() (uint64, bool) { return 0, false }

// TimeOut implements [queue.Sink].
func (r *simReader) TimeOut() []uint64 { return nil }

// Deliver implements [queue.Sink].
func (r *simReader) Deliver(d *queue.Delivery) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.contents)
	r.contents = append(r.contents, contentsOf(d)...)
	if before < r.wanted && len(r.contents) >= r.wanted {
		close(r.enough)
	}
	return true
}

func (r *simReader) take() []*simContent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.contents
}

// simWindow is what may be left of a client's steps: those up to low are there
// for sure, and none after high. What was delivered before step seen had been
// delivered when the power failed.
type simWindow struct{ low, high, seen int }

// part is what belongs to a client. What is left in the end belongs to nobody.
func (all *simContents) part(prefix string) *simContents {
	p := &simContents{queues: map[string][]*simContent{}}
	all.lines = slices.DeleteFunc(all.lines, func(line string) bool {
		mine := strings.HasPrefix(strings.SplitN(line, " ", 2)[1], prefix+".")
		if mine {
			p.lines = append(p.lines, line)
		}
		return mine
	})
	for name, contents := range all.queues {
		if strings.HasPrefix(name, prefix+".") {
			p.queues[name] = contents
		}
	}
	return p
}

// simLeft is what is left of a client's part: the state after a step, but for what was
// settled later and therefore never written.
type simLeft struct {
	step  int
	state *simState
}

// match finds the step after which the contents are all there is: that is the
// whole promise, as operations come to the disk in order and whole. If there is
// none it says what is wrong.
func (c *simClient) match(found *simContents, w simWindow, orderly bool) (left simLeft, problems []string) {
	for step := w.high; step >= w.low; step-- {
		if state := c.steps[step].without(found, w.high); state != nil {
			return simLeft{step, state}, state.compare(found, orderly, w.seen)
		}
	}
	return simLeft{step: -1}, c.explain(found, w)
}

// without is the state without what is not found, as it was settled with a step up to
// high; nil if what is found is not that. It compares names.
func (s *simState) without(found *simContents, high int) *simState {
	if s.lines != strings.Join(found.lines, "\n") {
		return nil
	}
	left := *s
	left.queues = map[string]simQueueState{}
	for name, q := range s.queues {
		entries, ok := s.queueWithout(name, found, high)
		if !ok {
			return nil
		}
		q.entries = entries
		left.queues[name] = q
	}
	return &left
}

func (s *simState) queueWithout(name string, found *simContents, high int) (entries []*simEntry, ok bool) {
	contents := found.queues[name]
	for _, e := range s.queues[name].entries {
		switch {
		case len(entries) < len(contents) && e.name() == contents[len(entries)].name():
			entries = append(entries, e)
		case e.spared == 0 || e.spared > high:
			return nil, false
		}
	}
	return entries, len(entries) == len(contents)
}

// compare checks contents and redelivered flags where the names are right.
func (s *simState) compare(found *simContents, orderly bool, seen int) (problems []string) {
	for name, q := range s.queues {
		for i, e := range q.entries {
			content := found.queues[name][i]
			if differs := content.differs(e.simMessage); differs != "" {
				problems = append(problems, fmt.Sprintf("message %s in %s is altered: %s", e.name(), name, differs))
			}
			if !e.markAfter(orderly, seen).allows(content.redelivered) {
				problems = append(problems, fmt.Sprintf("message %s in %s is recovered with redelivered %t", e.name(), name, content.redelivered))
			}
		}
	}
	return problems
}

// explain says what is wrong with contents that no step leaves.
func (c *simClient) explain(found *simContents, w simWindow) (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	window := c.steps[w.low : w.high+1]
	always := func(has func(*simState) bool) bool {
		return !slices.ContainsFunc(window, func(s *simState) bool { return !has(s) })
	}
	for _, line := range strings.Split(window[0].lines, "\n") {
		if line != "" && always(func(s *simState) bool { return s.declares(line) }) && !slices.Contains(found.lines, line) {
			say("%s is missing, which was answered at step %d", line, c.firstStep(func(s *simState) bool { return s.declares(line) }))
		}
	}
	for _, line := range found.lines {
		if !slices.ContainsFunc(window, func(s *simState) bool { return s.declares(line) }) {
			say("%s is there, and not in any of steps %d to %d", line, w.low, w.high)
		}
	}
	for name, q := range window[0].queues {
		for _, e := range q.entries {
			kept := always(func(s *simState) bool { return s.holds(name, e.name()) })
			if kept && !slices.ContainsFunc(found.queues[name], func(m *simContent) bool { return m.name() == e.name() }) {
				say("message %s is missing in %s, which was confirmed at step %d", e.name(), name,
					c.firstStep(func(s *simState) bool { return s.holds(name, e.name()) }))
			}
		}
	}
	for name, contents := range found.queues {
		problems = append(problems, c.explainQueue(name, contents, w)...)
	}
	if len(problems) == 0 {
		say("what is there was never there at one time: %s", c.fits(found, w))
	}
	return problems
}

// explainQueue looks for messages that must not be there, or not there.
func (c *simClient) explainQueue(name string, contents []*simContent, w simWindow) (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	window := c.steps[w.low : w.high+1]
	times := map[string]int{}
	for _, m := range contents {
		held := func(s *simState) bool { return s.holds(name, m.name()) }
		times[m.name()]++
		most := 0
		for _, s := range window {
			most = max(most, s.count(name, m.name()))
		}
		switch before := c.firstStep(held); {
		case most > 0 && times[m.name()] > most:
			say("message %s is in %s %d times", m.name(), name, times[m.name()])
		case most > 0:
		case before < 0 || before > w.high:
			say("message %s is in %s and was never to be kept there", m.name(), name)
		default:
			last := before
			for i := before; i < w.low; i++ {
				if held(c.steps[i]) {
					last = i
				}
			}
			say("message %s is back in %s: it came with step %d and left with step %d, and all up to step %d is on disk",
				m.name(), name, before, last+1, w.low)
		}
	}
	return problems
}

// fits says of each part which steps leave it so.
func (c *simClient) fits(found *simContents, w simWindow) string {
	var parts []string
	part := func(name string, fits func(*simState) bool) {
		var steps []int
		for i := w.low; i <= w.high; i++ {
			if fits(c.steps[i]) {
				steps = append(steps, i)
			}
		}
		parts = append(parts, fmt.Sprintf("%s fits steps %v", name, steps))
	}
	part("what is declared", func(s *simState) bool { return s.lines == strings.Join(found.lines, "\n") })
	for name, contents := range found.queues {
		var names []string
		for _, m := range contents {
			names = append(names, m.name())
		}
		part(fmt.Sprintf("queue %s (%v)", name, names), func(s *simState) bool {
			_, ok := s.queueWithout(name, found, w.high)
			return ok
		})
	}
	return strings.Join(parts, "; ")
}

func (s *simState) declares(line string) bool {
	return slices.Contains(strings.Split(s.lines, "\n"), line)
}

func (s *simState) holds(queue, message string) bool { return s.count(queue, message) > 0 }

func (s *simState) count(queue, message string) (n int) {
	for _, e := range s.queues[queue].entries {
		if e.name() == message {
			n++
		}
	}
	return n
}

func (c *simClient) firstStep(is func(*simState) bool) int { return slices.IndexFunc(c.steps, is) }
