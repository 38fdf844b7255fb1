// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// deathAt is a death with reason rejected, at a time in seconds.
func deathAt(name string, seconds int64, exchange, key string, cc ...string) death {
	return death{queue: name, reason: queue.Rejected, exchange: exchange, key: key, cc: cc, at: time.Unix(seconds, 999)}
}

// entryOf is an entry of x-death as it has to be, its fields in their order.
func entryOf(count int64, reason, queue string, seconds uint64, exchange string, keys ...any) wire.Table {
	return wire.Table{
		{Name: "count", Value: count},
		{Name: "reason", Value: reason},
		{Name: "queue", Value: queue},
		{Name: "time", Value: wire.Timestamp(seconds)},
		{Name: "exchange", Value: exchange},
		{Name: "routing-keys", Value: wire.Array(keys)},
	}
}

// expired puts the expiration that a message had in front of an entry.
func expired(expiration string, entry wire.Table) wire.Table {
	return append(wire.Table{{Name: "original-expiration", Value: expiration}}, entry...)
}

// deathHeaders are the headers of a dead letter: x-death, then exchange, queue
// and reason of the first and of the last death.
func deathHeaders(deaths wire.Array, first, last [3]string) wire.Table {
	return wire.Table{
		{Name: "x-death", Value: deaths},
		{Name: "x-first-death-exchange", Value: first[0]},
		{Name: "x-first-death-queue", Value: first[1]},
		{Name: "x-first-death-reason", Value: first[2]},
		{Name: "x-last-death-exchange", Value: last[0]},
		{Name: "x-last-death-queue", Value: last[1]},
		{Name: "x-last-death-reason", Value: last[2]},
	}
}

// lie is what a client may write into headers to look like a dead letter.
func lie() wire.Table {
	return wire.Table{
		{Name: "x-first-death-reason", Value: "lie"},
		{Name: "x-death", Value: wire.Array{entryOf(41, "rejected", "a", 1, "lie", "lie")}},
		{Name: "x-last-death-queue", Value: "lie"},
		{Name: "x-first-death-queue", Value: int64(7)},
	}
}

func TestDeathRecord(t *testing.T) {
	t.Parallel()
	a, b := [3]string{"xa", "a", "rejected"}, [3]string{"xb", "b", "rejected"}
	everything := wire.Properties{
		ContentType: "text/plain", ContentEncoding: "gzip", DeliveryMode: 2, Priority: 9, CorrelationID: "c", ReplyTo: "r",
		Expiration: "5000", MessageID: "m", Timestamp: 77, Type: "t", UserID: "guest", AppID: "app", ClusterID: "cluster",
		Flags: 0xfffc &^ wire.FlagHeaders,
	}
	allKept := everything
	allKept.Flags = 0xfffc &^ wire.FlagExpiration
	allKept.Expiration = ""
	allKept.Headers = deathHeaders(wire.Array{expired("5000", entryOf(1, "rejected", "a", 10, "xa", "k"))}, a, a)
	other := deathAt("a", 30, "xa", "k")
	other.reason = queue.Expired

	headers := func(table wire.Table) wire.Properties {
		return wire.Properties{Flags: wire.FlagHeaders, Headers: table}
	}
	for _, test := range []struct {
		name    string
		in      wire.Properties
		tracked bool
		deaths  []death
		want    wire.Properties
	}{
		{
			"no properties", wire.Properties{}, false, []death{deathAt("a", 10, "xa", "k")},
			headers(deathHeaders(wire.Array{entryOf(1, "rejected", "a", 10, "xa", "k")}, a, a)),
		},
		{
			"default exchange and empty key", wire.Properties{}, false, []death{deathAt("a", 10, "", "")},
			headers(deathHeaders(wire.Array{entryOf(1, "rejected", "a", 10, "", "")}, [3]string{"", "a", "rejected"}, [3]string{"", "a", "rejected"})),
		},
		{"every property", everything, false, []death{deathAt("a", 10, "xa", "k")}, allKept},
		{
			"further keys", headers(wire.Table{{Name: "CC", Value: wire.Array{"c1", "c2"}}}), false,
			[]death{deathAt("a", 10, "xa", "k", "c1", "c2")},
			headers(append(wire.Table{{Name: "CC", Value: wire.Array{"c1", "c2"}}},
				deathHeaders(wire.Array{entryOf(1, "rejected", "a", 10, "xa", "k", "c1", "c2")}, a, a)...)),
		},
		{
			"what the client wrote", headers(lie()), false, []death{deathAt("a", 10, "xa", "k")},
			headers(deathHeaders(wire.Array{entryOf(1, "rejected", "a", 10, "xa", "k")}, a, a)),
		},
		{
			"what the client wrote, twice", headers(lie()), false, []death{deathAt("a", 10, "xa", "k"), deathAt("b", 20, "xb", "k")},
			headers(deathHeaders(wire.Array{entryOf(1, "rejected", "b", 20, "xb", "k"), entryOf(1, "rejected", "a", 10, "xa", "k")}, a, b)),
		},
		{
			"headers are sorted and the first of a name counts",
			headers(wire.Table{{Name: "z", Value: int16(1)}, {Name: "b", Value: nil}, {Name: "z", Value: int16(2)}, {Name: "b", Value: true}}),
			false, []death{deathAt("a", 10, "xa", "k")},
			headers(append(append(wire.Table{{Name: "b"}}, deathHeaders(wire.Array{entryOf(1, "rejected", "a", 10, "xa", "k")}, a, a)...),
				wire.Field{Name: "z", Value: int16(1)})),
		},
		{
			"the same queue again keeps time, exchange and keys of the first", wire.Properties{}, false,
			[]death{deathAt("a", 10, "xa", "k"), deathAt("a", 20, "xb", "other"), deathAt("a", 30, "xb", "other")},
			headers(deathHeaders(wire.Array{entryOf(3, "rejected", "a", 10, "xa", "k")}, a, [3]string{"xb", "a", "rejected"})),
		},
		{
			"two queues, the last in front", wire.Properties{}, false, []death{deathAt("a", 10, "xa", "k"), deathAt("b", 20, "xb", "l")},
			headers(deathHeaders(wire.Array{entryOf(1, "rejected", "b", 20, "xb", "l"), entryOf(1, "rejected", "a", 10, "xa", "k")}, a, b)),
		},
		{
			"back in the first queue", wire.Properties{Flags: wire.FlagExpiration, Expiration: "9"}, false,
			[]death{deathAt("a", 10, "xa", "k"), deathAt("b", 20, "xb", "l"), deathAt("a", 30, "xc", "m")},
			headers(deathHeaders(wire.Array{
				expired("9", entryOf(2, "rejected", "a", 10, "xa", "k")), entryOf(1, "rejected", "b", 20, "xb", "l"),
			}, a, [3]string{"xc", "a", "rejected"})),
		},
		{
			"another reason is another entry", wire.Properties{}, false, []death{deathAt("a", 10, "xa", "k"), other, deathAt("a", 40, "xa", "k")},
			headers(deathHeaders(wire.Array{entryOf(2, "rejected", "a", 10, "xa", "k"), entryOf(1, "expired", "a", 30, "xa", "k")}, a, a)),
		},
		{
			"a list that is no list", headers(wire.Table{{Name: "x-death", Value: "no list"}}), true, []death{deathAt("a", 10, "xa", "k")},
			headers(deathHeaders(wire.Array{entryOf(1, "rejected", "a", 10, "xa", "k")}, a, a)),
		},
		{
			"an entry that is no table", headers(wire.Table{
				{Name: "x-death", Value: wire.Array{"no table"}},
				{Name: "x-first-death-exchange", Value: "xb"}, {Name: "x-first-death-queue", Value: "b"}, {Name: "x-first-death-reason", Value: "rejected"},
			}), true, []death{deathAt("a", 10, "xa", "k")},
			headers(deathHeaders(wire.Array{entryOf(1, "rejected", "a", 10, "xa", "k"), "no table"}, b, a)),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			header := wire.AppendHeader(nil, 1<<40, wire.AppendProperties(nil, &test.in))
			before := slices.Clone(header)
			got := header
			for i, d := range test.deaths {
				got = d.recordHeader(got, test.tracked || i > 0)
			}
			if !slices.Equal(header, before) {
				t.Error("the header it was given, which others share, has changed")
			}
			want := wire.AppendHeader(nil, 1<<40, wire.AppendProperties(nil, &test.want))
			if !slices.Equal(got, want) {
				h, _ := wire.ParseHeader(got)
				p, err := wire.ParseProperties(h.Properties)
				t.Errorf("got %+v, %v\nwant %+v\nbytes %x\nwant  %x", p, err, test.want, got, want)
			}
		})
	}
}

// TestDeathHistory compares the list after many deaths with a model of it.
func TestDeathHistory(t *testing.T) {
	t.Parallel()
	type entry struct {
		queue  string
		reason queue.Reason
		count  int64
		since  uint64
	}
	rapid.Check(t, func(t *rapid.T) {
		header := wire.AppendHeader(nil, 0, []byte{0, 0})
		var model []entry
		for i := range rapid.IntRange(1, 30).Draw(t, "deaths") {
			e := entry{
				rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "queue"),
				rapid.SampledFrom([]queue.Reason{queue.Rejected, queue.Expired}).Draw(t, "reason"), 1, uint64(i),
			}
			d := deathAt(e.queue, int64(i), "x", "k")
			d.reason = e.reason
			header = d.recordHeader(header, i > 0)
			at := slices.IndexFunc(model, func(o entry) bool { return o.queue == e.queue && o.reason == e.reason })
			if at >= 0 {
				e.count, e.since = model[at].count+1, model[at].since
				model = slices.Delete(model, at, at+1)
			}
			model = slices.Insert(model, 0, e)
		}
		var want wire.Array
		for _, e := range model {
			want = append(want, entryOf(e.count, e.reason.String(), e.queue, e.since, "x", "k"))
		}
		h, _ := wire.ParseHeader(header)
		p, err := wire.ParseProperties(h.Properties)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := p.Headers.Get("x-death"); !reflect.DeepEqual(got, want) {
			t.Fatalf("deaths are\n%v, want\n%v", got, want)
		}
		first, _ := p.Headers.Get("x-first-death-queue")
		last, _ := p.Headers.Get("x-last-death-queue")
		oldest := slices.MinFunc(model, func(a, b entry) int { return int(a.since) - int(b.since) })
		if first != oldest.queue || last != model[0].queue {
			t.Fatalf("first queue is %v, last %v", first, last)
		}
	})
}

// FuzzDeathRecord checks that every content header that may be published can be
// dead-lettered again and again.
func FuzzDeathRecord(f *testing.F) {
	add := func(p wire.Properties) { f.Add(wire.AppendHeader(nil, 3, wire.AppendProperties(nil, &p))) }
	add(wire.Properties{})
	add(wire.Properties{Flags: wire.FlagExpiration | wire.FlagPriority, Expiration: "1"})
	add(wire.Properties{Flags: wire.FlagHeaders, Headers: lie()})
	add(wire.Properties{Flags: wire.FlagHeaders, Headers: wire.Table{{Name: "CC", Value: wire.Array{"c", nil, int8(1)}}}})
	f.Fuzz(func(t *testing.T, header []byte) {
		var v wire.PropertyView
		h, err := wire.ParseHeader(header)
		if err != nil || v.Scan(h.Properties) != nil {
			return
		}
		for i := range 3 {
			d := deathAt("a", int64(i), "x", "k", ccOf(v.Headers)...)
			header = d.recordHeader(header, i > 0)
			if h, err = wire.ParseHeader(header); err != nil {
				t.Fatal(err)
			}
			if err = v.Scan(h.Properties); err != nil || v.Has(wire.FlagExpiration) {
				t.Fatalf("after death %d: %v, flags %b", i, err, v.Flags)
			}
		}
		p, _ := wire.ParseProperties(h.Properties)
		deaths, _ := p.Headers.Get("x-death")
		if list, _ := deaths.(wire.Array); len(list) != 1 {
			t.Fatalf("deaths are %v", deaths)
		} else if count, _ := list[0].(wire.Table).Get("count"); count != int64(3) {
			t.Fatalf("count is %v", count)
		}
	})
}

// recordHeader is record for a content header, with what a stamp does besides.
func (d *death) recordHeader(header []byte, tracked bool) []byte {
	var view wire.PropertyView
	h, err := wire.ParseHeader(header)
	if err == nil {
		err = view.Read(h.Properties)
	}
	if err != nil {
		panic(err)
	}
	headers, err := wire.ParseTable(view.Headers)
	if err != nil {
		panic(err)
	}
	d.expires, d.expiration = view.Has(wire.FlagExpiration), string(view.Expiration)
	headers, _ = d.record(headers, tracked)
	return wire.AppendHeader(nil, h.BodySize, wire.ReplaceHeaders(nil, h.Properties, wire.AppendTable(nil, headers), wire.FlagExpiration))
}
