// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// buried is the properties of a message that died, worked out for it alone.
func buried(p wire.Properties, d death, tracked bool) wire.Properties {
	d.expires, d.expiration = p.Has(wire.FlagExpiration), p.Expiration
	p.Headers, _ = d.record(p.Headers, tracked)
	p.Flags = p.Flags&^wire.FlagExpiration | wire.FlagHeaders
	p.Expiration = ""
	return p
}

// TestStamps has batches of messages die that are alike in some of what decides about
// their copies, in any mixture, twice over: each copy is what it would be if the message
// had died alone, and they come in the order of death.
func TestStamps(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	b := openWith(t, vfs.NewMem(), Options{Clock: func() time.Time { return now }})
	most := wire.Field{Name: "x-max-length", Value: int64(0)}
	b.declare(t, "first", "durable", 1, append(dlx("", "second"), most)...)
	b.declare(t, "second", "durable", 1, append(dlx("", "target"), most)...)
	target := b.declare(t, "target", "durable", 1)
	b.bind(t, Binding{Source: "amq.topic", Destination: "first", Key: "#"})

	rapid.Check(t, func(rt *rapid.T) {
		kinds := make([]wire.Properties, rapid.IntRange(1, 4).Draw(rt, "kinds"))
		for i := range kinds {
			p := &kinds[i]
			p.Flags = rapid.SampledFrom([]uint16{
				0, wire.FlagDeliveryMode, wire.FlagHeaders, wire.FlagExpiration, wire.FlagHeaders | wire.FlagPriority | wire.FlagMessageID,
				wire.FlagContentType | wire.FlagHeaders | wire.FlagDeliveryMode | wire.FlagExpiration | wire.FlagAppID,
			}).Draw(rt, "flags")
			if p.Has(wire.FlagHeaders) {
				p.Headers = rapid.SampledFrom([]wire.Table{
					nil, {{Name: "h", Value: "v"}}, {{Name: "h", Value: "w"}}, {{Name: "z"}, {Name: "a", Value: true}}, lie(),
				}).Draw(rt, "headers")
			}
			if p.Has(wire.FlagDeliveryMode) {
				p.DeliveryMode = rapid.Uint8Range(1, 2).Draw(rt, "mode")
			}
			if p.Has(wire.FlagExpiration) {
				p.Expiration = rapid.SampledFrom([]string{"60000", "70000"}).Draw(rt, "expiration")
			}
			if p.Has(wire.FlagMessageID) {
				p.MessageID = rapid.SampledFrom([]string{"", "m", "n"}).Draw(rt, "id")
			}
		}
		type sent struct {
			key  string
			kind wire.Properties
		}
		var messages []sent
		page := b.pages.New()
		for range rapid.IntRange(1, 40).Draw(rt, "messages") {
			m := sent{rapid.SampledFrom([]string{"k", "l"}).Draw(rt, "key"), rapid.SampledFrom(kinds).Draw(rt, "kind")}
			body := []byte(strconv.Itoa(len(messages)))
			page.Append(publishView(t, "amq.topic", m.key).ExchangeAndKey,
				wire.AppendHeader(nil, uint64(len(body)), wire.AppendProperties(nil, &m.kind)), body)
			messages = append(messages, m)
		}
		route := NewRoutes(b.VHost).Find(publishView(t, "amq.topic", "k"), nil, nil)
		b.Publish(route, page, rapid.Bool().Draw(rt, "persistent"), nil)
		page.Release()

		for i, got := range collect(t, target, len(messages)) {
			m := messages[i]
			first := death{queue: "first", reason: queue.Maxlen, exchange: "amq.topic", key: m.key, at: now}
			second := death{queue: "second", reason: queue.Maxlen, exchange: "", key: "second", at: now}
			want := buried(buried(m.kind, first, false), second, true)
			if is, wants := string(wire.AppendProperties(nil, &got.properties)), string(wire.AppendProperties(nil, &want)); is != wants {
				rt.Fatalf("copy %d has properties %+v, want %+v", i, got.properties, want)
			}
			if got.body != strconv.Itoa(i) || got.bodySize != uint64(len(got.body)) || got.exchange != "" || got.key != "target" {
				rt.Fatalf("copy %d is %+v", i, got)
			}
		}
	})
}

// TestDamagedLetter: a message that cannot be read any more does not keep others from
// being forwarded.
func TestDamagedLetter(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	source := b.declare(t, "source", "", 1, append(dlx("", "target"), wire.Field{Name: "x-max-length", Value: int64(0)})...)
	target := b.declare(t, "target", "", 1)
	view := publishView(t, "", "source")
	page := b.pages.New()
	for _, header := range [][]byte{
		wire.AppendHeader(nil, 4, []byte{0, 0}),
		wire.AppendHeader(nil, 4, []byte{0xff, 0xff, 1}),
		[]byte("short"),
		wire.AppendHeader(nil, 4, []byte{0x20, 0, 0, 0, 0, 2, 1, 'n'}),
		wire.AppendHeader(nil, 4, []byte{0, 0}),
	} {
		page.Append(view.ExchangeAndKey, header, []byte("body"))
	}
	b.Publish(NewRoutes(b.VHost).Find(view, nil, nil), page, false, nil)
	page.Release()
	if got := drain(t, target); got != "body body" {
		t.Errorf("dead letters are %q", got)
	}
	if c := source.Stats().Counters; c.LettersLost != 3 || c.DeadLettered[queue.Maxlen] != 2 {
		t.Errorf("counted are %+v", c)
	}
	wantCounts(t, source, 0, 0)
}

// TestStampsOfHiddenKeys: letters that differ only in what nobody sees of them go
// different ways.
func TestStampsOfHiddenKeys(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.declare(t, "source", "", 1, append(dlx("amq.direct"), wire.Field{Name: "x-max-length", Value: int64(0)})...)
	view := publishView(t, "", "source")
	page := b.pages.New()
	for i, key := range []string{"a", "a", "b", "", "a"} {
		body := strconv.Itoa(i)
		page.Append(view.ExchangeAndKey, wire.AppendHeader(nil, uint64(len(body)), []byte{0, 0}), []byte(body))
		if key != "" {
			page.Hide([]string{key})
		}
	}
	for _, key := range []string{"a", "b"} {
		b.declare(t, key, "", 1)
		b.bind(t, Binding{Source: "amq.direct", Destination: key, Key: key})
	}
	b.Publish(NewRoutes(b.VHost).Find(view, nil, nil), page, false, nil)
	page.Release()
	for key, want := range map[string]string{"a": "0 1 4", "b": "2"} {
		if got := drain(t, b.queue(t, key)); got != want {
			t.Errorf("%s has got %q, want %q", key, got, want)
		}
	}
}
