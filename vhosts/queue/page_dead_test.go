// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestPageDeadRoundTrip checks that a page remembers which of its messages were
// dead-lettered and what routing keys were hidden, in all its forms, and that this changes nothing else of them,
// with the longest envelope there can be.
func TestPageDeadRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type message struct {
			envelope      []byte
			died, rekeyed bool
			hidden        []string
		}
		var want []message
		p := new(Page)
		for range rapid.IntRange(1, 8).Draw(t, "messages") {
			m := message{
				bytes.Repeat([]byte{'e'}, rapid.SampledFrom([]int{2, 3, 255, 256, 511, 512}).Draw(t, "envelope")),
				rapid.Bool().Draw(t, "died"), rapid.Bool().Draw(t, "rekeyed"),
				rapid.SliceOfN(rapid.StringN(0, 3, 300), 0, 3).Draw(t, "hidden"),
			}
			m.rekeyed = m.rekeyed && m.died
			want = append(want, m)
			if m.died {
				p.AppendDead(m.envelope, []byte("header"), []byte("body"), m.rekeyed)
			} else {
				p.Append(m.envelope, []byte("header"), []byte("body"))
			}
			p.Hide(m.hidden)
		}
		check := func(what string, p *Page) {
			for i, m := range want {
				envelope, header, body := p.Message(i)
				if !bytes.Equal(envelope, m.envelope) || string(header) != "header" || string(body) != "body" {
					t.Fatalf("%s page: message %d is %q %q %q", what, i, envelope, header, body)
				}
				if p.Died(i) != m.died || p.Rekeyed(i) != m.rekeyed {
					t.Fatalf("%s page: message %d died %t rekeyed %t, want %+v", what, i, p.Died(i), p.Rekeyed(i), m)
				}
				if hidden := p.Hidden(i); !slices.Equal(hidden, m.hidden) {
					t.Fatalf("%s page: message %d has hidden keys %q, want %q", what, i, hidden, m.hidden)
				}
			}
		}
		check("filled", p)
		check("compact", p.Compact())
		loaded, err := ParsePage(p.AppendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		check("loaded", loaded)
		again, err := ParsePage(loaded.AppendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		check("loaded again", again)
		copied := new(Page)
		for i := range want {
			copied.AppendFrom(p, i)
		}
		check("copied", copied)
		taken := new(Page)
		if taken.Take(p) {
			check("taken", taken)
		}
		// A page that is used again forgets.
		p.Reset()
		p.Append(nil, nil, nil)
		if p.Died(0) || p.Rekeyed(0) || p.Hidden(0) != nil {
			t.Fatal("an emptied page remembers a death, or hidden keys")
		}
	})
}

// TestPageNothing checks that a page in which nothing stands for some messages
// keeps the positions of the others, stored and read back too.
func TestPageNothing(t *testing.T) {
	t.Parallel()
	p := newPage(0, 2, 8)
	p.AppendNothing()
	p.AppendDead(nil, nil, []byte("last"), false)
	loaded, err := ParsePage(p.AppendTo(nil))
	if err != nil {
		t.Fatal(err)
	}
	envelope, header, body := loaded.Message(2)
	if _, _, last := loaded.Message(3); loaded.Len() != 4 || len(envelope)+len(header)+len(body) > 0 || loaded.Died(2) || string(last) != "last" {
		t.Errorf("%d messages, nothing is %q %q %q, the last is %q", loaded.Len(), envelope, header, body, last)
	}
}

// TestPageLeading checks how many messages are taken by their size.
func TestPageLeading(t *testing.T) {
	t.Parallel()
	p := new(Page)
	for _, body := range []string{"", "1", "22", "333", "4444"} {
		p.Append([]byte("e"), []byte("h"), []byte(body)) // 2, 3, 4, 5 and 6 bytes
	}
	for _, test := range []struct {
		from, most uint32
		size       int
		n          uint32
		bytes      int
	}{
		{0, 5, 100, 5, 20}, {0, 5, 20, 5, 20}, {0, 5, 19, 4, 14}, {0, 3, 100, 3, 9}, {1, 4, 7, 2, 7}, {1, 4, 6, 1, 3}, {4, 1, 1, 1, 6},
	} {
		if n, bytes := p.Leading(test.from, test.most, test.size); n != test.n || bytes != test.bytes {
			t.Errorf("of %d from %d on %d with %d bytes fit into %d, want %d with %d",
				test.most, test.from, n, bytes, test.size, test.n, test.bytes)
		}
	}
}
