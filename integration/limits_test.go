// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/amqp/wire"
)

// declareLimited declares a queue with arguments given as alternating names and
// values.
func declareLimited(t testing.TB, channel *amqp091.Channel, name string, durable bool, args ...any) {
	t.Helper()
	table := amqp091.Table{}
	for i := 0; i < len(args); i += 2 {
		table[args[i].(string)] = args[i+1]
	}
	_, err := channel.QueueDeclare(name, durable, false, false, false, table)
	must(t, err)
}

// startToRestart starts a broker, and returns how to restart it if it is to be
// restarted.
func startToRestart(t testing.TB, restarts bool) (broker *lagomq.Broker, again func() *lagomq.Broker) {
	t.Helper()
	if !restarts {
		return startBroker(t), nil
	}
	dir := t.TempDir()
	broker = startOnDisk(t, dir)
	return broker, func() *lagomq.Broker { return restart(t, broker, dir) }
}

// bodies gets all messages of a queue.
func bodies(t testing.TB, channel *amqp091.Channel, queue string) (list []string) {
	t.Helper()
	for {
		d, ok, err := channel.Get(queue, true)
		must(t, err)
		if !ok {
			return list
		}
		list = append(list, string(d.Body))
	}
}

// confirmed publishes messages in one burst, waits for all confirms, and returns
// which were taken.
func confirmed(t testing.TB, channel *amqp091.Channel, mode uint8, key string, bodies ...string) (taken []string) {
	t.Helper()
	var pending []*amqp091.DeferredConfirmation
	for _, body := range bodies {
		c, err := channel.PublishWithDeferredConfirmWithContext(t.Context(), "", key, false, false,
			amqp091.Publishing{DeliveryMode: mode, Body: []byte(body)})
		must(t, err)
		pending = append(pending, c)
	}
	for i, c := range pending {
		ok, err := c.WaitContext(t.Context())
		must(t, err)
		if ok {
			taken = append(taken, bodies[i])
		}
	}
	return taken
}

// TestDropHead: what is beyond a limit leaves at the head, perhaps the new message
// itself; unacked messages do not count.
func TestDropHead(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		args []any
		want string
	}{
		{"length", []any{"x-max-length", int32(3)}, "eeeee f ggg"},
		{"bytes", []any{"x-max-length-bytes", int32(9)}, "eeeee f ggg"},
		{"both", []any{"x-max-length", int32(2), "x-max-length-bytes", int32(9)}, "f ggg"},
		{"bytes, too small for one", []any{"x-max-length-bytes", int32(2)}, ""},
		{"length 0", []any{"x-max-length", int32(0)}, ""},
		{"quorum", []any{"x-queue-type", "quorum", "x-max-length", int32(1)}, "ggg"},
		{"overflow said", []any{"x-max-length", int32(2), "x-overflow", "drop-head"}, "f ggg"},
	} {
		for _, mode := range []uint8{amqp091.Transient, amqp091.Persistent} {
			t.Run(fmt.Sprint(test.name, mode), func(t *testing.T) {
				t.Parallel()
				broker, again := startToRestart(t, mode == amqp091.Persistent)
				channel := openChannel(t, dial(t, broker))
				declareLimited(t, channel, "q", true, append(slices.Clone(test.args), "x-dead-letter-exchange", "", "x-dead-letter-routing-key", "dead")...)
				declareQueue(t, channel, "dead")
				must(t, channel.Confirm(false))
				all := strings.Fields("a bb cccccccccc eeeee f ggg")
				if taken := confirmed(t, channel, mode, "q", all...); len(taken) != len(all) {
					t.Errorf("taken are %v", taken)
				}
				dropped := len(all) - len(strings.Fields(test.want))
				eventually(t, "the others are dead letters", func() bool { n, _ := waiting(t, channel, "dead"); return n == dropped })
				if mode == amqp091.Persistent {
					channel = openChannel(t, dial(t, again()))
				} else if got := bodies(t, channel, "dead"); !slices.Equal(got, all[:dropped]) {
					t.Errorf("dead letters are %v", got)
				}
				if got := strings.Join(bodies(t, channel, "q"), " "); got != test.want {
					t.Errorf("left are %q, want %q", got, test.want)
				}
			})
		}
	}
}

// TestDropHeadUnacked: only ready messages count, also when some come back.
func TestDropHeadUnacked(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	channel, other := openChannel(t, connection), openChannel(t, connection)
	declareLimited(t, channel, "q", false, "x-max-length", int32(2))
	must(t, channel.Qos(3, 0, false))
	deliveries := consume(t, channel, "q")
	publish(t, other, "", "q", numbers(5)...)
	for range 3 {
		next(t, deliveries)
	}
	eventually(t, "two wait", func() bool { n, _ := waiting(t, other, "q"); return n == 2 })
	must(t, channel.Close())
	eventually(t, "the oldest are gone", func() bool { n, _ := waiting(t, other, "q"); return n == 2 })
	if got := bodies(t, other, "q"); !slices.Equal(got, []string{"3", "4"}) {
		t.Errorf("left are %v", got)
	}
}

// TestDropHeadDeath: a dropped message tells why.
func TestDropHeadDeath(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareLimited(t, channel, "q", false, "x-max-length", int32(0), "x-dead-letter-exchange", "", "x-dead-letter-routing-key", "dead")
	declareQueue(t, channel, "dead")
	dead := consume(t, channel, "dead")
	publish(t, channel, "", "q", "body")
	d := next(t, dead)
	wantDeath(t, d, 1, amqp091.Table{
		"count": int64(1), "reason": "maxlen", "queue": "q", "exchange": "", "routing-keys": []any{"q"},
	})
	if d.Headers["x-first-death-reason"] != "maxlen" || d.Headers["x-last-death-reason"] != "maxlen" {
		t.Errorf("headers are %v", d.Headers)
	}
}

// TestRejectPublish: what has no room is refused, the rest of a burst taken in order,
// and when there is room again so are new messages.
func TestRejectPublish(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		args []any
		want string
	}{
		{"length", []any{"x-max-length", int32(3)}, "a bb cccccccccc"},
		{"bytes", []any{"x-max-length-bytes", int32(9)}, "a bb eeeee f"},
		{"both", []any{"x-max-length", int32(3), "x-max-length-bytes", int32(9)}, "a bb eeeee"},
		{"length 0", []any{"x-max-length", int32(0)}, ""},
		{"quorum", []any{"x-queue-type", "quorum", "x-max-length", int32(1)}, "a"},
	} {
		for _, mode := range []uint8{amqp091.Transient, amqp091.Persistent} {
			for _, overflow := range []string{"reject-publish", "reject-publish-dlx"} {
				if overflow == "reject-publish-dlx" && test.name == "quorum" {
					continue
				}
				t.Run(fmt.Sprint(test.name, mode, overflow), func(t *testing.T) {
					t.Parallel()
					broker, again := startToRestart(t, mode == amqp091.Persistent)
					channel := openChannel(t, dial(t, broker))
					declareLimited(t, channel, "q", true, append(slices.Clone(test.args), "x-overflow", overflow,
						"x-dead-letter-exchange", "", "x-dead-letter-routing-key", "dead")...)
					declareQueue(t, channel, "dead")
					must(t, channel.Confirm(false))
					all := strings.Fields("a bb cccccccccc eeeee f ggg")
					taken := confirmed(t, channel, mode, "q", all...)
					if got := strings.Join(taken, " "); got != test.want {
						t.Errorf("taken are %q, want %q", got, test.want)
					}
					if overflow == "reject-publish-dlx" {
						refused := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(taken, s) })
						eventually(t, "the others are dead letters", func() bool { n, _ := waiting(t, channel, "dead"); return n == len(refused) })
						if got := bodies(t, channel, "dead"); !slices.Equal(got, refused) {
							t.Errorf("dead letters are %v, want %v", got, refused)
						}
					}
					if mode == amqp091.Persistent {
						channel = openChannel(t, dial(t, again()))
						must(t, channel.Confirm(false))
					}
					if got := strings.Join(bodies(t, channel, "q"), " "); got != test.want {
						t.Errorf("left are %q, want %q", got, test.want)
					}
					if test.want != "" && len(confirmed(t, channel, mode, "q", "h")) != 1 {
						t.Error("there is room and a message is refused")
					}
					if overflow == "reject-publish" && mode == amqp091.Transient {
						if n, _ := waiting(t, channel, "dead"); n != 0 {
							t.Errorf("%d dead letters", n)
						}
					}
				})
			}
		}
	}
}

// TestRejectPublishConsumed: what a consumer takes at once does not count.
func TestRejectPublishConsumed(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	channel, other := openChannel(t, connection), openChannel(t, connection)
	declareLimited(t, channel, "q", false, "x-max-length", int32(1), "x-overflow", "reject-publish")
	must(t, channel.Qos(5, 0, false))
	deliveries := consume(t, channel, "q")
	must(t, other.Confirm(false))
	if taken := confirmed(t, other, amqp091.Transient, "q", numbers(20)...); !slices.Equal(taken, numbers(6)) {
		t.Errorf("taken are %v", taken)
	}
	if got := nextBodies(t, deliveries, 5); !slices.Equal(got, numbers(5)) {
		t.Errorf("delivered are %v", got)
	}
}

// TestRejectPublishSeveral: one queue that refuses is enough for a nack, and the
// others keep the message.
func TestRejectPublishSeveral(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareLimited(t, channel, "small", true, "x-max-length", int32(2), "x-overflow", "reject-publish")
	declareLimited(t, channel, "large", true)
	for _, q := range []string{"small", "large"} {
		must(t, channel.QueueBind(q, "", "amq.fanout", false, nil))
	}
	must(t, channel.Confirm(false))
	var pending []*amqp091.DeferredConfirmation
	for i := range 6 {
		c, err := channel.PublishWithDeferredConfirmWithContext(t.Context(), "amq.fanout", "", false, false,
			amqp091.Publishing{DeliveryMode: uint8(1 + i%2), Body: fmt.Append(nil, i)})
		must(t, err)
		pending = append(pending, c)
	}
	for i, c := range pending {
		if ok, err := c.WaitContext(t.Context()); err != nil || ok != (i < 2) {
			t.Errorf("message %d is confirmed: %t, %v", i, ok, err)
		}
	}
	if small, large := bodies(t, channel, "small"), bodies(t, channel, "large"); len(small) != 2 || !slices.Equal(large, numbers(6)) {
		t.Errorf("the small queue has %v, the large one %v", small, large)
	}
}

// TestRejectPublishFrames: neighbours that were refused leave as one nack, those that
// were taken as one ack, in order.
func TestRejectPublishFrames(t *testing.T) {
	t.Parallel()
	c := dialWire(t, startBroker(t))
	for _, q := range []struct {
		name string
		args wire.Table
	}{
		{"full", wire.Table{{Name: "x-max-length", Value: int32(0)}, {Name: "x-overflow", Value: "reject-publish"}}}, {"empty", nil},
	} {
		call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: q.name, Arguments: q.args})
	}
	call[*wire.ConfirmSelectOk](c, 1, &wire.ConfirmSelect{})
	c.publish(1, wire.BasicPublish{RoutingKey: "full"}, wire.Properties{}, "1")
	if n := expect[*wire.BasicNack](c, 1); n.DeliveryTag != 1 || n.Multiple || n.Requeue {
		t.Errorf("nack is %+v", n)
	}
	// Whatever bursts they come in, the tags are told in order and alike only with alike.
	for i := range 30 {
		c.publish(1, wire.BasicPublish{RoutingKey: []string{"full", "empty"}[i/10%2]}, wire.Properties{}, "x")
	}
	for told := uint64(1); told < 31; {
		var tag uint64
		var multiple, nack bool
		switch m := expect[wire.Method](c, 1).(type) {
		case *wire.BasicAck:
			tag, multiple = m.DeliveryTag, m.Multiple
		case *wire.BasicNack:
			tag, multiple, nack = m.DeliveryTag, m.Multiple, true
		default:
			t.Fatalf("frame is %+v", m)
		}
		if tag <= told || multiple != (tag > told+1) {
			t.Fatalf("tag %d with multiple %t follows %d", tag, multiple, told)
		}
		for n := told + 1; n <= tag; n++ {
			if full := (n-2)/10%2 == 0; full != nack {
				t.Errorf("publish %d is told with nack %t", n, nack)
			}
		}
		told = tag
	}
}

// TestRejectPublishUnconfirmed: without confirms nobody is told.
func TestRejectPublishUnconfirmed(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareLimited(t, channel, "q", false, "x-max-length", int32(2), "x-overflow", "reject-publish")
	publish(t, channel, "", "q", numbers(10)...)
	if got := bodies(t, channel, "q"); !slices.Equal(got, numbers(2)) {
		t.Errorf("taken are %v", got)
	}
}

// TestRejectPublishTx: a transaction that does not fit ends the channel; what fits
// is carried out.
func TestRejectPublishTx(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	other := openChannel(t, connection)
	for _, mode := range []uint8{amqp091.Transient, amqp091.Persistent} {
		name := fmt.Sprint("q", mode)
		declareLimited(t, other, name, true, "x-max-length", int32(2), "x-overflow", "reject-publish")
		tx := openChannel(t, connection)
		must(t, tx.Tx())
		for i := range 4 {
			must(t, tx.PublishWithContext(t.Context(), "", name, false, false, amqp091.Publishing{DeliveryMode: mode, Body: fmt.Append(nil, i)}))
		}
		err := tx.TxCommit()
		if e, ok := err.(*amqp091.Error); !ok || e.Code != 406 || e.Reason != "PRECONDITION_FAILED - partial tx completion" {
			t.Errorf("commit: %v", err)
		}
		if got := bodies(t, other, name); !slices.Equal(got, numbers(2)) {
			t.Errorf("taken are %v", got)
		}
	}
}

// TestDeadLetterRefused: a dead letter that finds no room waits, in order, until
// there is some, and is lost only when its own queue may not keep so many.
func TestDeadLetterRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []uint8{amqp091.Transient, amqp091.Persistent} {
		for _, bounded := range []bool{false, true} {
			t.Run(fmt.Sprint(mode, bounded), func(t *testing.T) {
				t.Parallel()
				channel := openChannel(t, dial(t, startBroker(t)))
				args := []any{"x-dead-letter-exchange", "dead"}
				if bounded {
					args = append(args, "x-max-length", int32(4))
				}
				declareLimited(t, channel, "q", true, args...)
				must(t, channel.ExchangeDeclare("dead", "fanout", false, false, false, false, nil))
				declareLimited(t, channel, "small", true, "x-max-length", int32(2), "x-overflow", "reject-publish")
				declareLimited(t, channel, "all", true)
				for _, q := range []string{"small", "all"} {
					must(t, channel.QueueBind(q, "", "dead", false, nil))
				}
				for _, body := range numbers(10) {
					must(t, channel.PublishWithContext(t.Context(), "", "q", false, false, amqp091.Publishing{DeliveryMode: mode, Body: []byte(body)}))
				}
				want := numbers(10)
				if bounded {
					// Six are beyond the limit: two fit, and the other four may wait. Whether
					// "all" has these already depends on which of them died together.
					want = numbers(6)
					eventually(t, "two are dead letters", func() bool { n, _ := waiting(t, channel, "small"); return n == 2 })
					deliveries := consume(t, channel, "q")
					for range 4 {
						must(t, next(t, deliveries).Ack(false))
					}
				} else {
					deliveries := consume(t, channel, "q")
					for range 10 {
						must(t, next(t, deliveries).Reject(false))
					}
				}
				small := consume(t, channel, "small")
				var got []string
				for range want {
					d := next(t, small)
					got = append(got, string(d.Body))
					must(t, d.Ack(false))
				}
				if !slices.Equal(got, want) {
					t.Errorf("dead letters are %v, want %v", got, want)
				}
				eventually(t, "all are there once", func() bool { n, _ := waiting(t, channel, "all"); return n == len(want) })
				if got := bodies(t, channel, "all"); !slices.Equal(got, want) {
					t.Errorf("the other queue has %v, want %v", got, want)
				}
			})
		}
	}
}

// TestLimitsCounted: management counts what a limit refuses and drops, and what becomes
// of the dead letters.
func TestLimitsCounted(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, managed)
	channel := openChannel(t, dial(t, broker))
	must(t, channel.Confirm(false))
	declareLimited(t, channel, "refuses", false, "x-max-length", int32(1), "x-overflow", "reject-publish")
	declareLimited(t, channel, "keeps", false)
	declareLimited(t, channel, "drops", false, "x-max-length", int32(1), "x-dead-letter-exchange", "", "x-dead-letter-routing-key", "keeps")
	declareLimited(t, channel, "loses", false, "x-max-length", int32(1), "x-dead-letter-exchange", "", "x-dead-letter-routing-key", "absent")
	for queue, want := range map[string]string{
		"refuses": `"refused":2,"timed_out":0,"dead":{"delivery_limit":0,"expired":0,"maxlen":0,"rejected":0},` +
			`"dead_lettered":{"delivery_limit":0,"expired":0,"maxlen":0,"rejected":0},"dead_letters_lost":0`,
		"drops": `"refused":0,"timed_out":0,"dead":{"delivery_limit":0,"expired":0,"maxlen":2,"rejected":0},` +
			`"dead_lettered":{"delivery_limit":0,"expired":0,"maxlen":2,"rejected":0},"dead_letters_lost":0`,
		"loses": `"refused":0,"timed_out":0,"dead":{"delivery_limit":0,"expired":0,"maxlen":2,"rejected":0},` +
			`"dead_lettered":{"delivery_limit":0,"expired":0,"maxlen":0,"rejected":0},"dead_letters_lost":2`,
	} {
		confirmed(t, channel, amqp091.Transient, queue, "1", "2", "3")
		eventually(t, queue+" is counted", func() bool {
			return strings.Contains(manage(t, broker, "GET", "/queues/%2F/"+queue, "", 200), want)
		})
	}
}
