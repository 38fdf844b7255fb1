// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
)

// TestMatch checks what the checker says of contents that are right and of such
// as must not be.
func TestMatch(t *testing.T) {
	t.Parallel()
	one := simMessage{id: "c0/1", persistent: true, exchange: "x", key: "k", header: wire.AppendHeader(nil, 9, []byte{0, 0}), body: []byte("c0/1|body")}
	two, three := one, one
	two.id, two.body = "c0/2", []byte("c0/2|body")
	three.id, three.body = "c0/3", []byte("c0/3|body")
	give := func(messages ...simMessage) (contents []*simContent) {
		for _, m := range messages {
			contents = append(contents, &simContent{envelopeOf(m.exchange, m.key), m.header, m.body, true, 0})
		}
		return contents
	}
	altered, rerouted, retitled := one, one, one
	altered.body = []byte("c0/1|bodz")
	rerouted.key = "other"
	retitled.header = wire.AppendHeader(nil, 8, []byte{0, 0})

	// Steps: 1 declare q, 2 declare r and x, 3 one to q, 4 two to both, 5 three to
	// q, 6 settle one of q. Steps up to 4 are on disk.
	c := newSimClient(&simulation{}, "c0", nil, newSimModel())
	q, r := &simQueue{name: "c0.q", durable: true}, &simQueue{name: "c0.r", durable: true}
	c.model.queues[q.name] = q
	c.step()
	c.model.queues[r.name] = r
	c.model.exchanges["c0.x"] = &simExchange{"c0.x", "fanout", true}
	c.model.bindings[simBinding{"c0.x", "c0.r", "k"}] = true
	c.step()
	for _, to := range []struct {
		m      *simMessage
		queues []*simQueue
	}{{&one, []*simQueue{q}}, {&two, []*simQueue{q, r}}, {&three, []*simQueue{q}}} {
		for _, queue := range to.queues {
			queue.put(nil, 0, to.m)
		}
		c.step()
	}
	q.remove(q.entries[0])
	c.step()
	c.steps[6].queues["c0.q"].entries[0].since = 5 // two was delivered

	declared := []string{"binding c0.r to c0.x by k", "exchange c0.x fanout", "queue c0.q", "queue c0.r"}
	for _, test := range []struct {
		name     string
		declared []string
		q, r     []*simContent
		low      int
		want     string // "" if the contents are right
	}{
		{"at the first moment", declared, give(one, two), give(two), 4, ""},
		{"in between", declared, give(one, two, three), give(two), 4, ""},
		{"at the last moment", declared, give(two, three), give(two), 4, ""},
		{"missing", declared, give(one, three), give(two), 4, "message c0/2 is missing in c0.q, which was confirmed at step 4"},
		{"missing in one queue", declared, give(one, two), nil, 4, "message c0/2 is missing in c0.r, which was confirmed at step 4"},
		{"back", declared, give(one, two, three), give(two), 6,
			"message c0/1 is back in c0.q: it came with step 3 and left with step 6, and all up to step 6 is on disk"},
		{"twice", declared, give(one, two, two), give(two), 4, "message c0/2 is in c0.q 2 times"},
		{"in another queue", declared, give(one, two), give(two, three), 4, "message c0/3 is in c0.r and was never to be kept there"},
		{"unknown", declared, give(one, two, simMessage{body: []byte("what")}), give(two), 4, `message unknown "what" is in c0.q`},
		{"order", declared, give(two, one), give(two), 4, "was never there at one time"},
		{"torn", declared, give(three), nil, 2, "was never there at one time"},
		{"altered", declared, give(altered, two), give(two), 4, "message c0/1 in c0.q is altered: body"},
		{"rerouted", declared, give(rerouted, two), give(two), 4, "message c0/1 in c0.q is altered: exchange and key"},
		{"header", declared, give(retitled, two), give(two), 4, "message c0/1 in c0.q is altered: header"},
		{"without a binding", declared[1:], give(one, two), give(two), 4, "binding c0.r to c0.x by k is missing, which was answered at step 2"},
		{"with another exchange", slices.Insert(slices.Clone(declared), 2, "exchange c0.z fanout"), give(one, two), give(two), 4,
			"exchange c0.z fanout is there, and not in any of steps 4 to 6"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			found := &simContents{lines: test.declared, queues: map[string][]*simContent{"c0.q": test.q, "c0.r": test.r}}
			_, problems := c.match(found, simWindow{test.low, 6, 6}, false)
			got := strings.Join(problems, "\n")
			if !strings.Contains(got, test.want) || test.want == "" && got != "" {
				t.Errorf("problems %q, want %q", got, test.want)
			}
		})
	}
	t.Run("unmarked", func(t *testing.T) {
		t.Parallel()
		found := &simContents{lines: declared, queues: map[string][]*simContent{"c0.q": give(two, three), "c0.r": give(two)}}
		found.queues["c0.q"][0].redelivered = false
		_, problems := c.match(found, simWindow{6, 6, 6}, false)
		if want := "[message c0/2 in c0.q is recovered with redelivered false]"; fmt.Sprint(problems) != want {
			t.Errorf("problems %v, want %s", problems, want)
		}
		_, problems = c.match(found, simWindow{6, 6, 6}, true)
		if len(problems) != 3 { // after an orderly stop that of three and of r is wrong, too
			t.Errorf("problems %v", problems)
		}
	})
}

// noticed is a simulation with a client that has published to queue c0.q0.
func noticed(t *testing.T) *simulation {
	t.Helper()
	setup := simSetup{residentBytes: 1 << 20, pageReaders: 1, memTableSize: 1 << 20, settleDelay: time.Hour}
	s := newSimulation(1, setup, 1)
	t.Cleanup(func() { s.stop() })
	c := s.clients[0]
	c.declare(&simQueue{name: "c0.q0", durable: true})
	c.publishTo("", "c0.q0", true)
	c.barrier()
	if report := s.report(); report != "" {
		t.Fatal(report)
	}
	return s
}

func (s *simulation) wantProblem(t *testing.T, want string) {
	t.Helper()
	if report := s.report(); !strings.Contains(report, want) {
		t.Errorf("problems are %q, want %q", report, want)
	}
}

// TestSimulationNotices checks that a simulation notices disks that lie, and what
// happens behind its back.
func TestSimulationNotices(t *testing.T) {
	t.Parallel()
	t.Run("a disk that does not sync", func(t *testing.T) {
		t.Parallel()
		s := newSimulation(1, simSetup{residentBytes: 1 << 20, pageReaders: 1, memTableSize: 1 << 20, settleDelay: time.Hour}, 2)
		s.points.deafTo(".log")
		s.run(60, 50)
		s.verifyCrashes(0)
		s.stop()
		s.wantProblem(t, "is missing")
	})
	t.Run("a disk that alters a message", func(t *testing.T) {
		t.Parallel()
		s := noticed(t)
		crash := s.cut(rand.New(rand.NewPCG(2, 2)))
		message := s.clients[0].model.queues["c0.q0"].entries[0]
		altered := 0
		for _, name := range filesIn(t, crash.fs, "") {
			data, err := crash.fs.UnsafeGetFileDataBuffer(name)
			if err != nil {
				t.Fatal(err)
			}
			if i := bytes.Index(data, message.body); i >= 0 && message.persistent {
				data[i+len(message.body)-1] ^= 1
				altered++
			}
		}
		if altered == 0 {
			t.Fatal("the message is in no file")
		}
		s.verify(crash.fs, crash.windows, false)
		s.wantProblem(t, "is missing")
	})
	t.Run("a message nobody published", func(t *testing.T) {
		t.Parallel()
		s := noticed(t)
		s.broker.post(t, "", "c0.q0", persistentMode(), "c0/1000|")
		s.clients[0].barrier()
		s.crash()
		s.wantProblem(t, "message c0/1000 is in c0.q0 and was never to be kept there")
	})
	t.Run("a message somebody took", func(t *testing.T) {
		t.Parallel()
		s := noticed(t)
		if _, _, err := s.broker.PurgeQueue("c0.q0", 1, nil); err != nil {
			t.Fatal(err)
		}
		s.clients[0].barrier()
		s.crash()
		s.wantProblem(t, "is missing in c0.q0")
	})
	t.Run("a queue somebody deleted", func(t *testing.T) {
		t.Parallel()
		s := noticed(t)
		if _, _, err := s.broker.DeleteQueue("c0.q0", false, false, 1, nil); err != nil {
			t.Fatal(err)
		}
		s.restart()
		s.wantProblem(t, "queue c0.q0 is missing")
	})
	t.Run("a queue nobody declared", func(t *testing.T) {
		t.Parallel()
		s := noticed(t)
		s.broker.declare(t, "other", "durable", 1)
		s.restart()
		s.wantProblem(t, "there is what nobody declared: [queue other]")
	})
}

// filesIn lists the files of a folder and those in it.
func filesIn(t testing.TB, fs *vfs.MemFS, folder string) (files []string) {
	t.Helper()
	names, err := fs.List(folder)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		path := fs.PathJoin(folder, name)
		info, err := fs.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			files = append(files, filesIn(t, fs, path)...)
		} else {
			files = append(files, path)
		}
	}
	return files
}
