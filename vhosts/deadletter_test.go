// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// dlx are the arguments of a queue with that dead letter exchange and, if given,
// routing key.
func dlx(exchange string, key ...string) []wire.Field {
	args := []wire.Field{{Name: "x-dead-letter-exchange", Value: exchange}}
	for _, k := range key {
		args = append(args, wire.Field{Name: "x-dead-letter-routing-key", Value: k})
	}
	return args
}

// post publishes whole messages with those properties as one run.
func (b *broker) post(t testing.TB, exchange, key string, p wire.Properties, bodies ...string) {
	t.Helper()
	var headers []byte
	if p.Has(wire.FlagHeaders) {
		headers = wire.AppendTable(nil, p.Headers)[4:]
	}
	view := publishView(t, exchange, key)
	route := NewRoutes(b.VHost).Find(view, &wire.PropertyView{Headers: headers}, ccOf(headers))
	if route.Err != nil {
		t.Fatal(route.Err)
	}
	if p.Has(wire.FlagPriority) {
		route = route.For(Priority(p.Priority))
	}
	page := b.pages.New()
	for _, body := range bodies {
		page.Append(view.ExchangeAndKey, wire.AppendHeader(nil, uint64(len(body)), wire.AppendProperties(nil, &p)), []byte(body))
	}
	b.Publish(route, page, p.DeliveryMode == wire.Persistent, nil)
	page.Release()
}

func persistentMode() wire.Properties {
	return wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: wire.Persistent}
}

// mail is a message with everything that can be read of it.
type mail struct {
	got
	exchange, key string
	bodySize      uint64
	properties    wire.Properties
}

// deaths is the list x-death without times, which must be set.
func (m *mail) deaths(t testing.TB) wire.Array {
	t.Helper()
	value, _ := m.properties.Headers.Get("x-death")
	list, _ := value.(wire.Array)
	for _, entry := range list {
		for i, f := range entry.(wire.Table) {
			if at, ok := f.Value.(wire.Timestamp); ok && at > 0 {
				entry.(wire.Table)[i].Value = wire.Timestamp(0)
			} else if f.Name == "time" {
				t.Errorf("time of a death is %v", f.Value)
			}
		}
	}
	return list
}

// postbox is an inbox that keeps whole messages.
type postbox struct {
	*inbox
	mail []mail // guarded by inbox.mu, in step with inbox.messages
}

func newPostbox(prefetch uint32) *postbox {
	p := &postbox{inbox: newInbox("postbox", false, prefetch)}
	p.Consumer.Sink = p
	return p
}

func (p *postbox) Deliver(d *queue.Delivery) bool {
	p.mu.Lock()
	for i := range d.Count {
		envelope, header, body := d.Page.Message(int(d.Offset(i)))
		e := wire.PublishView{ExchangeAndKey: slices.Clone(envelope)}
		h, _ := wire.ParseHeader(header)
		properties, _ := wire.ParseProperties(h.Properties)
		p.mail = append(p.mail, mail{
			got{d.Number(i), string(body), d.Redelivered}, string(e.Exchange()), string(e.RoutingKey()), h.BodySize, properties,
		})
	}
	p.mu.Unlock()
	return p.inbox.Deliver(d)
}

// collect takes the n messages that are ready or about to come, and acknowledges
// them.
func collect(t testing.TB, q *Queue, n int) []mail {
	t.Helper()
	in := newPostbox(0)
	consume(t, q, in.inbox)
	numbers := numbersOf(in.take(n))
	q.Cancel(in.Consumer)
	q.Settle(in.Consumer, numbers, false)
	return in.mail
}

// rejectAll consumes the n messages of a queue and rejects them at once.
func rejectAll(t testing.TB, q *Queue, n int) {
	t.Helper()
	in := newInbox("rejecter", false, 0)
	consume(t, q, in)
	messages := in.take(n)
	q.Cancel(in.Consumer)
	q.Settle(in.Consumer, numbersOf(messages), true)
}

func wantCounts(t testing.TB, q *Queue, ready, unacked uint64) {
	t.Helper()
	if s := q.Stats(); s.Ready != ready || s.Unacked != unacked {
		t.Errorf("queue %s has %d ready and %d unacked messages, want %d and %d", q.name, s.Ready, s.Unacked, ready, unacked)
	}
}

// TestRejectRoutes checks where a rejected message goes. It was published to
// amq.topic with key k and came to queue source.
func TestRejectRoutes(t *testing.T) {
	t.Parallel()
	cc := wire.Table{{Name: "CC", Value: wire.Array{"cc", "k"}}}
	for _, test := range []struct {
		name    string
		args    []wire.Field
		headers wire.Table
		want    map[string]string // queue: exchange and key of what it gets
	}{
		{"own key", dlx("direct"), nil, map[string]string{"a": "direct k"}},
		{"own keys", dlx("direct"), cc, map[string]string{"a": "direct k", "c": "direct k"}},
		{"set key", dlx("direct", "other"), nil, map[string]string{"b": "direct other"}},
		{"set key, not CC", dlx("direct", "other"), cc, map[string]string{"b": "direct other"}},
		{"empty key", dlx("amq.topic", ""), nil, map[string]string{"source": "amq.topic "}},
		{"no exchange set", nil, nil, nil},
		{"missing exchange", dlx("missing"), cc, nil},
		{"no destination", dlx("direct", "nowhere"), nil, nil},
		{"default exchange", dlx("", "a"), nil, map[string]string{"a": " a"}},
		{"default exchange, own keys", dlx(""), wire.Table{{Name: "CC", Value: wire.Array{"b", "c"}}}, map[string]string{"b": " k", "c": " k"}},
		{"fanout", dlx("amq.fanout"), nil, map[string]string{"a": "amq.fanout k", "b": "amq.fanout k"}},
		{"headers", dlx("amq.headers"), wire.Table{{Name: "h", Value: int32(1)}}, map[string]string{"c": "amq.headers k"}},
		{"headers that do not match", dlx("amq.headers"), wire.Table{{Name: "h", Value: int32(2)}}, nil},
		{"internal", dlx("internal"), nil, map[string]string{"c": "internal k"}},
		{"alternate exchange", dlx("with alternate"), nil, map[string]string{"a": "with alternate k", "b": "with alternate k"}},
		{"the same queue", dlx("amq.topic"), nil, map[string]string{"source": "amq.topic k"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := openBroker(t, vfs.NewMem())
			source := b.declare(t, "source", "", 1, test.args...)
			for _, name := range []string{"a", "b", "c"} {
				b.declare(t, name, "", 1)
			}
			for _, d := range []exchanges.Declaration{
				{Name: "direct", Type: "direct"},
				{Name: "internal", Type: "fanout", Internal: true},
				{Name: "with alternate", Type: "direct", Arguments: wire.Table{{Name: "alternate-exchange", Value: "amq.fanout"}}},
			} {
				b.declareExchange(t, d)
			}
			for _, binding := range []Binding{
				{Source: "amq.topic", Destination: "source", Key: "#"},
				{Source: "direct", Destination: "a", Key: "k"},
				{Source: "direct", Destination: "b", Key: "other"},
				{Source: "direct", Destination: "c", Key: "cc"},
				{Source: "direct", Destination: "c", Key: "k2"},
				{Source: "amq.fanout", Destination: "a"},
				{Source: "amq.fanout", Destination: "b"},
				{Source: "amq.headers", Destination: "c", Arguments: wire.Table{{Name: "x-match", Value: "all"}, {Name: "h", Value: int32(1)}}},
				{Source: "internal", Destination: "c"},
			} {
				b.bind(t, binding)
			}
			p := wire.Properties{ContentType: "text/plain", Flags: wire.FlagContentType}
			if test.headers != nil {
				p.Flags, p.Headers = p.Flags|wire.FlagHeaders, test.headers
			}
			b.post(t, "amq.topic", "k", p, "body")
			rejectAll(t, source, 1)

			keys := append(wire.Array{"k"}, func() wire.Array { v, _ := test.headers.Get("CC"); list, _ := v.(wire.Array); return list }()...)
			deaths := wire.Array{entryOf(1, "rejected", "source", 0, "amq.topic", keys...)}
			found := map[string]string{}
			for name, q := range maps.Clone(b.queues) {
				if q.Stats().Ready == 0 {
					continue
				}
				for _, m := range collect(t, q, int(q.Stats().Ready)) {
					found[name] += m.exchange + " " + m.key
					if got := m.deaths(t); !reflect.DeepEqual(got, deaths) {
						t.Errorf("deaths are\n%v, want\n%v", got, deaths)
					}
					for _, f := range test.headers {
						if value, _ := m.properties.Headers.Get(f.Name); !reflect.DeepEqual(value, f.Value) {
							t.Errorf("header %s is %v, want %v", f.Name, value, f.Value)
						}
					}
					if m.body != "body" || m.bodySize != 4 || m.redelivered || m.properties.ContentType != "text/plain" {
						t.Errorf("message is %+v", m)
					}
				}
			}
			if !maps.Equal(found, test.want) {
				t.Errorf("message went to %q, want %q", found, test.want)
			}
			wantCounts(t, source, 0, 0)
			if c := source.Stats().Counters; c.Rejected != 1 || c.Requeued != 0 {
				t.Errorf("counted are %+v", c)
			}
		})
	}
}

// TestRejectOnward checks that a message which got another key forgets those of
// its header CC, here and in all later queues.
func TestRejectOnward(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	b.declare(t, "first", "durable", 1, dlx("", "second")...)
	b.declare(t, "second", "durable", 1, dlx("amq.topic")...)
	b.declare(t, "third", "durable", 1, dlx("amq.topic")...)
	b.declare(t, "cc", "durable", 1)
	b.bind(t, Binding{Source: "amq.topic", Destination: "third", Key: "second"})
	b.bind(t, Binding{Source: "amq.topic", Destination: "cc", Key: "cc"})
	p := persistentMode()
	p.Flags |= wire.FlagHeaders
	p.Headers = wire.Table{{Name: "CC", Value: wire.Array{"cc"}}}
	b.post(t, "", "first", p, "body")
	collect(t, b.queue(t, "cc"), 1)
	want := wire.Array{entryOf(1, "rejected", "first", 0, "", "first", "cc")}
	for _, step := range []struct{ from, to, exchange string }{
		{"first", "second", ""}, {"second", "third", "amq.topic"}, {"third", "third", "amq.topic"},
	} {
		b = b.restart(t, fs) // what is known of a message is on disk too
		rejectAll(t, b.queue(t, step.from), 1)
		in := newPostbox(0)
		q := b.queue(t, step.to)
		consume(t, q, in.inbox)
		in.take(1)
		q.Cancel(in.Consumer)
		q.Return(in.Consumer, []uint64{in.mail[0].number}, false)
		m := in.mail[0]
		if got := m.deaths(t); !reflect.DeepEqual(got, want) {
			t.Errorf("in %s deaths are\n%v, want\n%v", step.to, got, want)
		}
		if m.exchange != step.exchange || m.key != "second" {
			t.Errorf("in %s the message has exchange %q and key %q", step.to, m.exchange, m.key)
		}
		if cc, _ := m.properties.Headers.Get("CC"); !reflect.DeepEqual(cc, wire.Array{"cc"}) {
			t.Errorf("in %s header CC is %v", step.to, cc)
		}
		want = slices.Insert(want, 0, any(entryOf(1, "rejected", step.to, 0, step.exchange, "second")))
	}
	wantCounts(t, b.queue(t, "cc"), 0, 0)
}

// TestRejectLoop has a queue that is its own dead letter target: each reject is
// one round.
func TestRejectLoop(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	q := b.declare(t, "q", "durable", 1, dlx("")...)
	p := persistentMode()
	p.Flags |= wire.FlagExpiration
	p.Expiration = "60000"
	b.post(t, "", "q", p, "body")
	in := newPostbox(1)
	consume(t, q, in.inbox)
	for round := range int64(5) {
		in.take(1)
		m := in.mail[round]
		if m.redelivered {
			t.Error("a dead letter is no redelivery")
		}
		var want wire.Array
		if round > 0 {
			want = wire.Array{expired("60000", entryOf(round, "rejected", "q", 0, "", "q"))}
		}
		if got := m.deaths(t); !reflect.DeepEqual(got, want) || m.properties.Has(wire.FlagExpiration) != (round == 0) {
			t.Fatalf("in round %d deaths are\n%v, want\n%v", round, got, want)
		}
		wantCounts(t, q, 0, 1)
		q.Settle(in.Consumer, []uint64{m.number}, true)
	}
	if c := q.Stats().Counters; c.Rejected != 5 || c.Published != 6 || c.Acknowledged != 0 {
		t.Errorf("counted are %+v", c)
	}
}

// TestRejectPersistence checks which copies survive a restart.
func TestRejectPersistence(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		source, targets string
		mode            uint8
		want            string
	}{
		{"durable", "durable", 2, "durable"},
		{"", "durable", 2, "durable"},
		{"durable", "", 2, ""},
		{"", "", 2, ""},
		{"durable", "durable", 1, ""},
		{"durable", "durable", 0, ""},
		{"durable", "durable transient", 2, "durable"},
	} {
		t.Run(fmt.Sprintf("%s to %s mode %d", test.source, test.targets, test.mode), func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			b := openBroker(t, fs)
			source := b.declare(t, "source", test.source, 1, dlx("amq.fanout")...)
			for _, flags := range strings.Split(test.targets, " ") {
				b.declare(t, "target "+flags, flags, 1)
				b.bind(t, Binding{Source: "amq.fanout", Destination: "target " + flags})
			}
			b.post(t, "", "source", wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: test.mode}, "body")
			rejectAll(t, source, 1)
			for name, q := range maps.Clone(b.queues) {
				if name != "source" {
					wantCounts(t, q, 1, 0)
				}
			}
			b = b.restart(t, fs)
			var left []string
			for name, q := range maps.Clone(b.queues) {
				if body := drain(t, q); body != "" {
					left = append(left, name+" "+body)
				}
			}
			want := ""
			if test.want != "" {
				want = "target " + test.want + " body"
			}
			if got := strings.Join(left, ", "); got != want {
				t.Errorf("after a restart there is %q, want %q", got, want)
			}
		})
	}
}

// TestRejectCredit checks that a reject makes room in the consumer's prefetch.
func TestRejectCredit(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	q := b.declare(t, "q", "", 1, dlx("", "target")...)
	target := b.declare(t, "target", "", 1)
	b.post(t, "", "q", wire.Properties{}, "1", "2", "3", "4")
	in := newInbox("c", false, 2)
	consume(t, q, in)
	messages := in.take(2)
	wantCounts(t, q, 2, 2)
	q.Settle(in.Consumer, numbersOf(messages[1:]), true)
	if got := bodiesOf(in.take(1)); got != "3" || in.waiting() != 0 {
		t.Errorf("after one reject come %q and %d more", got, in.waiting())
	}
	wantCounts(t, q, 1, 2)
	q.Settle(in.Consumer, numbersOf(messages[:1]), true)
	if got := bodiesOf(in.take(1)); got != "4" {
		t.Errorf("after another reject comes %q", got)
	}
	wantCounts(t, q, 0, 2)
	if got := drain(t, target); got != "2 1" {
		t.Errorf("dead letters are %q", got)
	}
}
