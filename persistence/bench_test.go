// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// credit is a Waiter that bounds how many proposals are on their way.
type credit struct {
	mu   sync.Mutex
	more sync.Cond
	free int
}

func newCredit(n int) *credit {
	c := &credit{free: n}
	c.more.L = &c.mu
	return c
}

func (c *credit) take() {
	c.mu.Lock()
	for c.free == 0 {
		c.more.Wait()
	}
	c.free--
	c.mu.Unlock()
}

func (c *credit) Durable(err error) {
	if err != nil {
		panic(err)
	}
	c.mu.Lock()
	c.free++
	c.mu.Unlock()
}

func (c *credit) Flush() { c.more.Signal() }

func benchStore(b *testing.B, fs vfs.FS) *Store {
	o := quiet(Options{Dir: b.TempDir(), FS: fs})
	o.MemTableSize = 0
	s, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { mustClose(b, s) })
	return s
}

// BenchmarkRuns stores and then drops runs of 256 messages. One operation is
// one message.
func BenchmarkRuns(b *testing.B) {
	for _, disk := range []string{"mem", "disk"} {
		for _, size := range []int{16, 1024} {
			b.Run(fmt.Sprintf("%s/%dB", disk, size), func(b *testing.B) {
				var fs vfs.FS
				if disk == "mem" {
					fs = vfs.NewMem()
				}
				s := benchStore(b, fs)
				body := text(make([]byte, MaxRunMessages*size))
				const window = 64
				c := newCredit(window)
				q := s.NewID()
				var shares [2 * window]*Share
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for i := 0; i < b.N; i += MaxRunMessages {
					c.take()
					r := NewRun(body)
					sh := r.Share(q, uint64(i), MaxRunMessages, uint64(len(body)))
					s.Propose(0, c, PutRun(r))
					oldest := &shares[i/MaxRunMessages%len(shares)]
					if *oldest != nil {
						s.Propose(0, nil, Drop(*oldest))
					}
					*oldest = sh
				}
				mustPropose(b, s)
			})
		}
	}
}

// BenchmarkLatency commits one run of one message at a time.
func BenchmarkLatency(b *testing.B) {
	for _, disk := range []string{"mem", "disk"} {
		b.Run(disk, func(b *testing.B) {
			var fs vfs.FS
			if disk == "mem" {
				fs = vfs.NewMem()
			}
			s := benchStore(b, fs)
			q := s.NewID()
			done := newReply()
			b.ReportAllocs()
			for i := range b.N {
				r := NewRun(text("0123456789abcdef"))
				sh := r.Share(q, uint64(i), 1, 16)
				s.Propose(0, done, PutRun(r))
				done.want(b)
				s.Propose(0, nil, Drop(sh))
			}
		})
	}
}

// BenchmarkSettledBeforeCommit puts and drops runs faster than they are taken.
// One operation is one run.
func BenchmarkSettledBeforeCommit(b *testing.B) {
	s := benchStore(b, nil)
	body := text(make([]byte, MaxRunMessages*16))
	c := newCredit(1024)
	q := s.NewID()
	b.ReportAllocs()
	for i := range b.N {
		c.take()
		r := NewRun(body)
		sh := r.Share(q, uint64(i), MaxRunMessages, uint64(len(body)))
		s.Propose(0, c, PutRun(r), Drop(sh))
	}
	mustPropose(b, s)
}

// BenchmarkPropose is the cost to the proposer, under a queue's lock.
func BenchmarkPropose(b *testing.B) {
	s := benchStore(b, vfs.NewMem())
	r := NewRun(text("body"))
	sh := r.Share(s.NewID(), 1, MaxRunMessages, 4)
	mustPropose(b, s, PutRun(r))
	var settled Settled
	b.ReportAllocs()
	for i := range b.N {
		settled.Set(uint32(i) % MaxRunMessages)
		s.Propose(0, nil, Settle(sh, settled))
	}
	mustPropose(b, s)
}

// BenchmarkSettlementsGather proposes settlements that nothing follows for a while.
func BenchmarkSettlementsGather(b *testing.B) {
	const gathered = 20000
	s := mustOpen(b, Options{FS: vfs.NewMem(), SettleDelay: time.Hour})
	sh := put(b, s, s.NewID(), 1, "body")
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%gathered == 0 {
			mustPropose(b, s)
		}
		s.Propose(0, nil, Settle(sh, Settled{1}))
	}
}
