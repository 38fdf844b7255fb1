// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"slices"

	"pgregory.net/rapid"
)

// storing is what a store and its shell do to the engine, none of which may change
// what the consumers see.
func (m *machine) storing() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"commit": func(t *rapid.T) {
			if len(m.late) == 0 {
				t.Skip("nothing is on its way")
			}
			n := rapid.IntRange(1, len(m.late)).Draw(t, "commits")
			m.step(t, func() {
				for _, d := range m.late[:n] {
					d.late = false
				}
				m.late = m.late[n:]
			})
		},
		"spilled": func(t *rapid.T) {
			if len(m.spills) == 0 {
				t.Skip("nothing is spilled")
			}
			r := m.spills[0]
			m.spills = m.spills[1:]
			var stored any
			if rapid.IntRange(0, 3).Draw(t, "taken") > 0 {
				stored = m.put(t, r.First, int(r.Count))
			}
			m.step(t, func() {
				if want := !r.Done(); m.engine.Spilled(r, stored) != want {
					t.Fatalf("run %d is wanted spilled: %t", r.First, !want)
				}
			})
		},
		"scattered": func(t *rapid.T) {
			if m.keeper == nil {
				t.Skip("nothing is stored")
			}
			zeal := rapid.SampledFrom([]Zeal{Busy, Unread, Idle}).Draw(t, "zeal")
			m.step(t, func() {
				group := m.engine.Scattered(zeal)
				if m.group == nil {
					m.group = group
					m.checkGroup(t)
				} else if group != nil {
					t.Fatal("two groups are given out at a time")
				}
			})
		},
		"gather": func(t *rapid.T) {
			if m.group == nil {
				t.Skip("no group is given out")
			}
			m.step(t, func() { m.gather(t) })
		},
		"scatter": func(t *rapid.T) {
			if m.group == nil {
				t.Skip("no group is given out")
			}
			m.step(t, func() { m.engine.Scatter(m.group); m.group = nil })
		},
		"thin": func(t *rapid.T) {
			m.step(t, func() {
				for _, r := range m.engine.Thin(rapid.IntRange(1, 3).Draw(t, "most")) {
					if r.Done() || 4*r.live() > r.Count || slices.ContainsFunc(m.thins, func(h thinning) bool { return h.run == r }) {
						t.Fatalf("run %d is rewritten without need", r.First)
					}
					m.thins = append(m.thins, thinning{r, r.Settled()})
				}
			})
		},
		"replace": func(t *rapid.T) {
			if len(m.thins) == 0 {
				t.Skip("nothing is thinned")
			}
			h := m.thins[0]
			m.thins = m.thins[1:]
			d := m.put(t, h.run.First, int(h.run.Count))
			d.nothing = h.settled
			page := m.messages.pageWithout(h.run.First, int(h.run.Count), h.settled)
			if !d.late && rapid.Bool().Draw(t, "without page") {
				page = nil
			}
			old := h.run.Stored
			m.step(t, func() {
				if want := !h.run.Done() && !h.run.loading; m.engine.Replace(h.run, page, d) != want {
					t.Fatalf("run %d is replaced: %t", h.run.First, !want)
				} else if want {
					drop(old)
				}
			})
		},
	}
}

// drop makes a handle unusable.
func drop(stored any) {
	if d, ok := stored.(*disk); ok {
		d.gone = true
	}
}

// checkGroup checks what Scattered has given out.
func (m *machine) checkGroup(t *rapid.T) {
	l, messages, largest := m.engine.tuned, uint32(0), uint32(0)
	for i, r := range m.group {
		if i > 0 && r.First != m.group[i-1].end() || r.sent > 0 || r.gone > 0 || r.Volatile != m.group[0].Volatile {
			t.Fatalf("run %d does not belong to its group", r.First)
		}
		messages += r.Count
		largest = max(largest, r.Count)
	}
	if len(m.group) == 1 || messages > l.runMessages {
		t.Fatalf("%d runs of %d messages together are to be joined", len(m.group), messages)
	}
}

// gather feeds the group back. The joined run has the messages of its members,
// which are done.
func (m *machine) gather(t *rapid.T) {
	first := m.group[0].First
	count := int(m.group[len(m.group)-1].end() - first)
	d := m.put(t, first, count)
	page := m.messages.fill(m.pages.New(), first, count, Bitmap{})
	given := page
	if !d.late && rapid.Bool().Draw(t, "without page") {
		given = nil
	}
	runs := m.engine.RunCount()
	touched := slices.ContainsFunc(m.group, func(r *Run) bool { return !r.fresh() })
	r, ok := m.engine.Gather(m.group, given, d)
	page.Release()
	if ok == touched {
		t.Fatalf("run %d of %d messages is gathered: %t, its members were touched: %t", first, count, ok, touched)
	}
	if ok {
		for _, r := range m.group {
			drop(r.Stored)
		}
		if r.First != first || int(r.Count) != count || r.Bytes != uint64(8*count) || m.engine.RunCount() != runs-len(m.group)+1 {
			t.Fatalf("run %d of %d messages and %d bytes is gathered", r.First, r.Count, r.Bytes)
		}
		if slices.ContainsFunc(m.group, func(r *Run) bool { return !r.Done() || r.Page != nil }) {
			t.Fatal("members of a group live on")
		}
	}
	m.group = nil
}
