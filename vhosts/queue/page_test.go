// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPageRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type parts struct{ envelope, header, body []byte }
		var want []parts
		p := new(Page)
		for range rapid.IntRange(0, 5).Draw(t, "messages") {
			m := parts{
				rapid.SliceOfN(rapid.Byte(), 0, 512).Draw(t, "envelope"),
				rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "header"),
				rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "body"),
			}
			if n := len(want); n > 0 && rapid.Bool().Draw(t, "like") {
				m.envelope, m.header = want[n-1].envelope, want[n-1].header
				m.body = rapid.SliceOfN(rapid.Byte(), len(want[n-1].body), len(want[n-1].body)).Draw(t, "body")
				if rapid.Bool().Draw(t, "known") {
					p.AppendLike(m.body)
				} else {
					p.Append(slices.Clone(m.envelope), slices.Clone(m.header), m.body)
				}
				if !p.Resembles(n, n-1) {
					t.Fatalf("message %d does not resemble the one before", n)
				}
			} else {
				p.Append(m.envelope, m.header, m.body)
			}
			want = append(want, m)
		}
		check := func(what string, p *Page) {
			bodies, spread := uint64(0), 0
			if p.Len() != len(want) {
				t.Fatalf("%s page holds %d messages, want %d", what, p.Len(), len(want))
			}
			for i, m := range want {
				bodies += uint64(len(m.body))
				spread += len(m.envelope) + len(m.header) + len(m.body)
				envelope, header, body := p.Message(i)
				if !bytes.Equal(envelope, m.envelope) || !bytes.Equal(header, m.header) || !bytes.Equal(body, m.body) {
					t.Fatalf("%s page: message %d is %q %q %q, want %q", what, i, envelope, header, body, m)
				}
			}
			for i := range want {
				for j := range i {
					if p.Resembles(i, j) && (!bytes.Equal(want[i].envelope, want[j].envelope) ||
						!bytes.Equal(want[i].header, want[j].header) || len(want[i].body) != len(want[j].body)) {
						t.Fatalf("%s page: messages %d and %d are %q and %q", what, j, i, want[j], want[i])
					}
				}
			}
			if p.BodyBytes() != bodies {
				t.Fatalf("%s page counts %d body bytes, want %d", what, p.BodyBytes(), bodies)
			}
			if p.Spread() != spread {
				t.Fatalf("%s page counts %d bytes, want %d", what, p.Spread(), spread)
			}
		}
		check("filled", p)
		check("compact", p.Compact())
		stored := p.AppendTo(nil)
		if len(stored) != p.Size() {
			t.Fatalf("stored form has %d bytes, Size says %d", len(stored), p.Size())
		}
		loaded, err := ParsePage(stored)
		if err != nil {
			t.Fatal(err)
		}
		check("loaded", loaded)
		pages := new(Pages)
		for range 2 { // the second time with memory that was used
			copied, err := pages.Parse(stored)
			if err != nil {
				t.Fatal(err)
			}
			check("copied", copied)
			for i := range stored {
				stored[i] ^= 0xff
			}
			check("copied and overwritten", copied)
			for i := range stored {
				stored[i] ^= 0xff
			}
			copied.Release()
		}
		appended := new(Page)
		for i := range want {
			appended.AppendFrom(p, i)
		}
		check("appended", appended)
		if appended.Bytes() > p.Bytes() {
			t.Fatalf("%d bytes became %d when messages were appended to another page", p.Bytes(), appended.Bytes())
		}
		first := p.exact()
		if p.Take(loaded) {
			want = append(want, want...)
			check("doubled", p)
			want = want[:first.Len()]
		}
		p.Reset()
		want = nil
		check("emptied", p)
	})
}

// TestPageLike checks that messages that are alike take the room of their bodies, but
// count in full where pages are bounded, and which are known to be alike.
func TestPageLike(t *testing.T) {
	t.Parallel()
	p := new(Page)
	head := make([]byte, 1<<12)
	p.AppendDead([]byte("e"), head, []byte("b0"), true)
	for p.Fits(1 + len(head) + 2) {
		p.AppendLike([]byte("bn"))
	}
	if want := MaxRunBytes / (1 + len(head) + 2); p.Len() != want || p.Bytes() != 1+len(head)+2*want {
		t.Fatalf("%d messages in %d bytes, want %d", p.Len(), p.Bytes(), want)
	}
	if p.Like(0) || !p.Like(1) || !p.Died(1) || !p.Rekeyed(1) {
		t.Errorf("first is like another: %t; second is: %t, died: %t, rekeyed: %t", p.Like(0), p.Like(1), p.Died(1), p.Rekeyed(1))
	}
	p.Reset()
	p.Append(nil, nil, nil)
	for range 5 {
		p.AppendLike(nil)
	}
	p.Hide([]string{"key"})
	p.AppendLike(nil)
	p.AppendDead(nil, nil, nil, false)
	if !p.Like(4) || p.Like(5) || p.Like(6) || p.Like(7) || p.Hidden(6) != nil {
		t.Errorf("alike: %t %t %t %t; hidden keys %q", p.Like(4), p.Like(5), p.Like(6), p.Like(7), p.Hidden(6))
	}
}

// TestPageMessageCapacity checks that appending to a part of a message does not
// write over the next.
func TestPageMessageCapacity(t *testing.T) {
	t.Parallel()
	p := newPage(0, 2, 4)
	envelope, header, body := p.Message(0)
	_, _, _ = append(envelope, 'x'), append(header, 'x'), append(body, 'x')
	if _, header, body := p.Message(0); string(header) != "header" || string(body) != "0.\x00\x00" {
		t.Errorf("message 0 became %q %q", header, body)
	}
	if envelope, _, _ := p.Message(1); string(envelope) != "\x00\x01q" {
		t.Errorf("message 1 became %q", envelope)
	}
}

// TestPagesAreUsedAgain checks that a page goes back when its last holder, of
// filler, runs and store, has released it, and not before.
func TestPagesAreUsedAgain(t *testing.T) {
	t.Parallel()
	var pages Pages
	var one, two Engine
	var fx Effects
	p := fillPage(pages.New(), 0, 2, 8)
	one.Append(0, p, nil)
	two.Append(0, p, nil)
	p.Hold() // the store's
	p.Release()
	steps := []struct {
		name string
		do   func()
	}{
		{"settled by one queue", func() { one.Purge(&fx); one.ReleasePages() }},
		{"settled by the other", func() { two.Purge(&fx) }},
		{"effects carried out", func() { two.ReleasePages() }},
	}
	for _, step := range steps {
		step.do()
		if p.Len() != 2 {
			t.Fatalf("page is empty once it is %s", step.name)
		}
		if one.Resident() != 0 {
			t.Errorf("%d bytes are resident", one.Resident())
		}
	}
	p.Release()
	if p.Len() != 0 {
		t.Error("page is not emptied when nobody holds it")
	}
}

func TestPageBounds(t *testing.T) {
	t.Parallel()
	p := new(Page)
	if !p.Fits(5 * MaxRunBytes) {
		t.Error("an empty page does not take a large message")
	}
	p.Append(nil, nil, make([]byte, MaxRunBytes-10))
	if p.Full() || !p.Fits(10) || p.Fits(11) {
		t.Errorf("with 10 bytes left: full %t, fits 10 %t, fits 11 %t", p.Full(), p.Fits(10), p.Fits(11))
	}
	p.Append(nil, nil, make([]byte, 10))
	if !p.Full() || p.Fits(1) {
		t.Error("page is not full by its bytes")
	}
	p.Reset()
	for range MaxRunMessages - 1 {
		p.Append(nil, nil, nil)
	}
	if p.Full() || !p.Fits(0) {
		t.Error("page is full before its last message")
	}
	p.Append(nil, nil, nil)
	if !p.Full() || p.Fits(0) {
		t.Error("page is not full by its messages")
	}
}

func TestPageCompact(t *testing.T) {
	t.Parallel()
	p := newPage(0, 3, 1000)
	small := p.Compact()
	if small.Compact() != small {
		t.Error("a compact page is copied")
	}
	wasteful := &Page{buf: make([]byte, 0, 1<<16), messages: make([]message, 0, 256)}
	wasteful.Append(nil, nil, []byte("body"))
	c := wasteful.Compact()
	if c == wasteful || cap(c.buf) > 64 || cap(c.messages) > 8 {
		t.Errorf("the copy has room for %d bytes and %d messages", cap(c.buf), cap(c.messages))
	}
	wasteful.Reset()
	wasteful.Append(nil, nil, []byte("BODY"))
	if _, _, body := c.Message(0); string(body) != "body" {
		t.Errorf("the copy shares memory: %q", body)
	}
}

func TestParsePageErrors(t *testing.T) {
	t.Parallel()
	unlike := new(Page)
	unlike.Append([]byte("\x00\x01q"), []byte("header"), make([]byte, 8))
	unlike.Append([]byte("\x00\x01q"), []byte("HEADER"), make([]byte, 8))
	good := unlike.AppendTo(nil)
	change := func(at int, value uint32) []byte {
		b := slices.Clone(good)
		binary.BigEndian.PutUint32(b[at:], value)
		return b
	}
	for _, test := range []struct {
		name, want string
		page       []byte
	}{
		{"empty", "0 bytes are too few", nil},
		{"no count", "3 bytes are too few", good[:3]},
		{"too many messages", "257 messages", change(0, MaxRunMessages+1)},
		{"count beyond input", "200 messages in", change(0, 200)},
		{"huge count", "1073741823 messages", change(0, 1<<30-1)},
		{"no time", "no time of arrival", change(0, 2|timedFlag)[:11]},
		{"a time of 0", "no time of arrival", append(binary.BigEndian.AppendUint64(change(0, 2|timedFlag)[:4], 0), good[4:]...)},
		{"stamps without a time", "bytes of stamps in", change(0, 2|stampedFlag)},
		{"cut short", "message 1 ends at byte 34 of 33", good[:len(good)-1]},
		{"too long", "messages end at byte 34 of 35", append(slices.Clone(good), 0)},
		{"first like another", "message 0 is not like", change(4, likeFlag<<16|binary.BigEndian.Uint32(good[4:]))},
		{"like one with another envelope", "message 1 is not like", slices.Concat(good[:14], []byte{likeFlag >> 8, 4}, good[24:])},
		{"no lengths", "lengths of message 1 are missing", good[:15]},
		{"half the lengths", "lengths of message 1 are missing", good[:23]},
		{"huge header", "message 0 ends at byte 4294967306 of 34", change(6, 1<<32-1)},
		{"huge body", "message 1 ends at byte 4294967321 of 34", change(20, 1<<32-1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, err := ParsePage(test.page)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("page %v, error %v, want %q", p, err, test.want)
			}
			if p, err = new(Pages).Parse(test.page); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("copied: page %v, error %v, want %q", p, err, test.want)
			}
		})
	}
}

func FuzzParsePage(f *testing.F) {
	f.Add([]byte{})
	f.Add(new(Page).AppendTo(nil))
	f.Add(newPage(7, 3, 20).AppendTo(nil))
	f.Add(newPage(0, 256, 0).AppendTo(nil))
	f.Add([]byte{0, 0, 1, 0})
	for _, p := range []*Page{newPage(7, 3, 20), newPage(7, 3, 20)} {
		p.Meet(After(1000))
		p.Arrive(1_700_000_000_000)
		f.Add(p.AppendTo(nil))
	}
	hidden := newPage(7, 2, 3)
	hidden.Hide([]string{"key", ""})
	f.Add(hidden.AppendTo(nil))
	alike := newPage(7, 2, 3)
	alike.AppendLike([]byte("abc"))
	alike.AppendLike([]byte("def"))
	f.Add(alike.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePage(b)
		copied, copyErr := new(Pages).Parse(b)
		if (err == nil) != (copyErr == nil) {
			t.Fatalf("parsed with %v, copied with %v", err, copyErr)
		}
		if err != nil {
			return
		}
		if got := p.AppendTo(nil); !bytes.Equal(got, b) {
			t.Fatalf("stored form %x, want %x", got, b)
		}
		if got := copied.AppendTo(nil); !bytes.Equal(got, b) {
			t.Fatalf("stored form of the copy %x, want %x", got, b)
		}
		if pageLikeSize*cap(p.messages) > len(b) || cap(p.buf) > cap(b) {
			t.Fatalf("%d messages and %d bytes of room made of %d bytes", cap(p.messages), cap(p.buf), len(b))
		}
		total := 0
		for i := range p.Len() {
			envelope, header, body := p.Message(i)
			total += len(envelope) + len(header) + len(body) + len(p.blind(i))
			for _, key := range p.Hidden(i) {
				if len(key) >= len(p.blind(i)) {
					t.Fatalf("a key of %d bytes is hidden in %d", len(key), len(p.blind(i)))
				}
			}
		}
		if total != p.Spread() || p.Bytes() > p.Spread() {
			t.Fatalf("messages have %d bytes, page counts %d and takes %d", total, p.Spread(), p.Bytes())
		}
	})
}
