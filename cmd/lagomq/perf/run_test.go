// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/lagomq/lagomq/amqp/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runPerf runs the command against the broker and returns its JSON object.
func runPerf(ctx context.Context, t *testing.T, b *fakeBroker, args ...string) (result, string, error) {
	t.Helper()
	cmd := Command()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(append([]string{"--uri", b.uri(), "--json"}, args...))
	err := cmd.ExecuteContext(ctx)
	var res result
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for _, line := range slices.Backward(lines) {
		if strings.HasPrefix(line, "{") {
			if err := json.Unmarshal([]byte(line), &res); err != nil {
				t.Fatalf("last object: %v", err)
			}
			break
		}
	}
	return res, out.String(), err
}

// Whatever the shape of the load, everything arrives and is accounted for.
func TestLoadsAreDelivered(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"-C 100",
		"-C 100 -a",
		"-C 1000 -c 10",
		"-C 1000 -c 100 -q 50 -A 20 -f persistent",
		"-C 300 -s 8 -c 50",
		"-C 300 -s 0 -c 50",
		"-C 100 -s 300000 -c 10", // more than a frame
		"-C 200 -x 3 -y 2 -X 2 -Y 3 -c 20",
		"-C 200 -x 4 -y 4 --queue-pattern q-%d --queue-pattern-from 3 --queue-pattern-to 6",
		"-C 20 -r 1000",
		"-C 20 -R 1000 -c 5",
		"-C 50 -D 50",
		"-C 500 --priorities 10 -f persistent -c 50",
		"-C 100 -e orders -t topic -k a.b -u a.b",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			b := startFakeBroker(t, faults{})
			res, out, err := runPerf(t.Context(), t, b, strings.Fields(args)...)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if res.Published == 0 || res.Consumed != res.Published || !res.Verified || res.Missing != 0 {
				t.Errorf("published %d, consumed %d, missing %d, verified %t", res.Published, res.Consumed, res.Missing, res.Verified)
			}
			if strings.Contains(args, "-c ") && res.Confirmed != res.Published {
				t.Errorf("confirmed %d of %d", res.Confirmed, res.Published)
			}
			if int(res.Published) != b.published {
				t.Errorf("the broker got %d of %d", b.published, res.Published)
			}
			if wantSamples := !strings.Contains(args, "-s 0"); wantSamples != (res.Latency.Samples == int64(res.Consumed)) {
				t.Errorf("%d latencies of %d messages", res.Latency.Samples, res.Consumed)
			}
		})
	}
}

// A confirmed message that is not delivered fails the run, whatever hides it.
func TestLossFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		faults faults
		args   string
		want   string
	}{
		{"confirms", faults{loseEvery: 100}, "-C 300 -c 50", "3 confirmed messages were not delivered"},
		{"hidden by duplicates", faults{loseEvery: 100, repeatEvery: 10}, "-C 300 -c 50", "3 confirmed messages were not delivered"},
		{"among nacks", faults{loseEvery: 100, nackEvery: 15}, "-C 300 -c 50", "2 confirmed messages were not delivered"},
		{"too small for identities", faults{loseEvery: 100}, "-C 300 -c 50 -s 0", "3 confirmed messages were not delivered"},
		{"several consumers", faults{loseEvery: 100}, "-C 300 -c 50 -y 3 -x 2", "6 confirmed messages were not delivered"},
		{"consumer waits for its count", faults{loseEvery: 100}, "-C 300 -D 300 -c 50", "3 confirmed messages were not delivered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startFakeBroker(t, tt.faults)
			res, out, err := runPerf(t.Context(), t, b, append(strings.Fields(tt.args), "--drain-timeout", "200ms")...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q\n%s", err, tt.want, out)
			}
			if res.Verified || res.Missing == 0 {
				t.Errorf("verified %t, missing %d", res.Verified, res.Missing)
			}
		})
	}
}

// What was not promised, or was asked not to be checked, is no failure.
func TestNoPromiseNoFailure(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		faults       faults
		args         string
		wantVerified bool
		wantMissing  uint64
	}{
		{"without confirms", faults{loseEvery: 100}, "-C 300", false, 3},
		{"verification off", faults{loseEvery: 100}, "-C 300 -c 50 --verify=false", false, 0},
		{"nacked", faults{nackEvery: 100}, "-C 300 -c 50", true, 0},
		{"returned", faults{returnEvery: 100}, "-C 300 -c 50 -f mandatory", true, 0},
		{"returned without confirms", faults{returnEvery: 100}, "-C 300 -f mandatory", true, 0},
		{"consumer with a smaller count", faults{}, "-C 300 -D 100 -c 50", false, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startFakeBroker(t, tt.faults)
			res, out, err := runPerf(t.Context(), t, b, append(strings.Fields(tt.args), "--drain-timeout", "200ms")...)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if res.Verified != tt.wantVerified || res.Missing != tt.wantMissing {
				t.Errorf("verified %t, missing %d", res.Verified, res.Missing)
			}
			if f := tt.faults; f.nackEvery > 0 && res.Nacked != 3 || f.returnEvery > 0 && res.Returned != 3 {
				t.Errorf("nacked %d, returned %d", res.Nacked, res.Returned)
			}
		})
	}
}

func TestServerErrorsFail(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		faults faults
		args   string
		want   string
	}{
		{"connection.close", faults{closeAt: 10, closeWith: &wire.ConnectionClose{ReplyCode: wire.ConnectionForced, ReplyText: "CONNECTION_FORCED - broker forced connection closure"}},
			"-z 60", "producer 0: the server closed the connection: 320 CONNECTION_FORCED - broker forced connection closure"},
		{"channel.close", faults{closeAt: 10, closeWith: &wire.ChannelClose{ReplyCode: wire.NotFound, ReplyText: "NOT_FOUND - no exchange 'x' in vhost '/'"}},
			"-z 60 -c 100", "producer 0: the server closed channel 1: 404 NOT_FOUND - no exchange 'x' in vhost '/'"},
		{"declare", faults{refuse: wire.IDQueueDeclare}, "-u q", `declare queue "q": the server closed channel 1: 403 ACCESS_REFUSED - not today`},
		{"consume", faults{refuse: wire.IDBasicConsume}, "-z 60 -r 10", "consumer 0: the server closed channel 1: 403 ACCESS_REFUSED - not today"},
		{"impossible confirm", faults{confirmTag: 1 << 40}, "-C 10 -c 10", "confirmed delivery tag 1099511627776"},
		{"no confirms", faults{mute: true}, "-C 10 -c 100 --drain-timeout 200ms", "10 messages were neither confirmed nor refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startFakeBroker(t, tt.faults)
			_, out, err := runPerf(t.Context(), t, b, strings.Fields(tt.args)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q\n%s", err, tt.want, out)
			}
		})
	}
}

func TestLoginRefused(t *testing.T) {
	t.Parallel()
	b := startFakeBroker(t, faults{})
	_, _, err := runPerf(t.Context(), t, b, "--uri", "amqp://guest:wrong@"+b.addr)
	var refused *serverError
	if !errors.As(err, &refused) || refused.text != "403 ACCESS_REFUSED - who are you" {
		t.Fatalf("error %v", err)
	}
}

// Without consumers the messages are stored; a later run takes them, and a third
// one is not confused by what others have left.
func TestQueueIsFilledAndDrained(t *testing.T) {
	t.Parallel()
	b := startFakeBroker(t, faults{})
	res, out, err := runPerf(t.Context(), t, b, "-y", "0", "-u", "q", "-C", "500", "-c", "100")
	if err != nil || res.Published != 500 || res.Confirmed != 500 {
		t.Fatalf("fill: %v\n%s", err, out)
	}
	if n := len(b.queues["q"].messages); n != 500 {
		t.Fatalf("%d messages are stored", n)
	}
	if res, out, err = runPerf(t.Context(), t, b, "-u", "q", "-C", "100", "-c", "10"); err != nil {
		t.Fatalf("run on a filled queue: %v\n%s", err, out)
	}
	if !res.Verified || res.Consumed != 600 || res.Foreign != 500 {
		t.Errorf("consumed %d, of others %d, verified %t", res.Consumed, res.Foreign, res.Verified)
	}
	if _, out, err = runPerf(t.Context(), t, b, "-y", "0", "-u", "q", "-C", "500"); err != nil {
		t.Fatalf("fill: %v\n%s", err, out)
	}
	res, out, err = runPerf(t.Context(), t, b, "-x", "0", "-u", "q", "-D", "500", "-A", "100")
	if err != nil || res.Consumed != 500 || b.acked != 500 {
		t.Fatalf("drain: consumed %d, acked %d, %v\n%s", res.Consumed, b.acked, err, out)
	}
	if len(b.deleted) > 0 {
		t.Errorf("queues %v were deleted", b.deleted)
	}
}

// What is left of a group of acknowledgements is sent when the consumers end.
func TestLastAcknowledgement(t *testing.T) {
	t.Parallel()
	b := startFakeBroker(t, faults{})
	if _, out, err := runPerf(t.Context(), t, b, "-C", "250", "-A", "100"); err != nil || b.acked != 250 {
		t.Fatalf("%d acknowledged, %v\n%s", b.acked, err, out)
	}
}

// Rejected messages are rejected one by one or many at once, the last of them
// when the consumers end.
func TestNegativeAcknowledgements(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args  string
		nacks []wire.BasicNack
	}{
		{"-C 2 --nack --requeue=false", []wire.BasicNack{{DeliveryTag: 1}, {DeliveryTag: 2}}},
		{"-C 250 -A 100 --nack --requeue=false", []wire.BasicNack{
			{DeliveryTag: 100, Multiple: true}, {DeliveryTag: 200, Multiple: true}, {DeliveryTag: 250, Multiple: true},
		}},
		{"-C 1 -D 1 --nack", []wire.BasicNack{{DeliveryTag: 1, Requeue: true}}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			b := startFakeBroker(t, faults{})
			res, out, err := runPerf(t.Context(), t, b, strings.Fields(tt.args)...)
			if err != nil || !slices.Equal(b.nacks, tt.nacks) || b.acked > 0 || !res.Verified {
				t.Fatalf("nacks %+v, %d acknowledged, verified %t, %v\n%s", b.nacks, b.acked, res.Verified, err, out)
			}
		})
	}
}

// Consumers that requeue what they get do not keep a run from ending, nor from
// seeing that something is lost.
func TestRequeuedMessagesArriveAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		faults faults
		args   string
		want   string
	}{
		{"all delivered", faults{}, "", ""},
		{"not judged", faults{}, "--verify=false --drain-timeout 200ms", ""},
		{"lost", faults{loseEvery: 100}, "--drain-timeout 200ms", "3 confirmed messages were not delivered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startFakeBroker(t, tt.faults)
			res, out, err := runPerf(t.Context(), t, b, strings.Fields("-C 300 -c 50 --nack "+tt.args)...)
			switch {
			case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Fatalf("error %v, want %q\n%s", err, tt.want, out)
			case tt.args != "" && (res.Redelivered == 0 || res.Duplicates == 0):
				t.Errorf("%d redelivered, %d duplicates", res.Redelivered, res.Duplicates)
			}
		})
	}
}

func TestTopologyIsDeclared(t *testing.T) {
	t.Parallel()
	b := startFakeBroker(t, faults{})
	if _, out, err := runPerf(t.Context(), t, b, "-C", "1", "-t", "fanout"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !slices.Equal(b.exchanges, []string{"fanout fanout"}) {
		t.Errorf("exchanges %q", b.exchanges)
	}
	if len(b.deleted) != 1 || !strings.HasPrefix(b.deleted[0], "lagomq-perf-") {
		t.Errorf("deleted %q, want the run's own queue", b.deleted)
	}
}

// An interrupt ends the run with a summary and without an error.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"", "-c 10", "-R 5 -q 10", "-x 0 -u q"} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			b := startFakeBroker(t, faults{heartbeat: 6, onHeartbeat: cancel, onPublish: func(n int) {
				if n == 1000 {
					cancel()
				}
			}})
			res, out, err := runPerf(ctx, t, b, strings.Fields(args)...)
			if err != nil || !res.Interrupted {
				t.Fatalf("interrupted %t, error %v\n%s", res.Interrupted, err, out)
			}
		})
	}
}

// The object's names are an interface; so is that it is the last line.
func TestJSONShape(t *testing.T) {
	t.Parallel()
	b := startFakeBroker(t, faults{})
	_, out, err := runPerf(t.Context(), t, b, "-C", "10", "-c", "5")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	var object map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &object); err != nil {
		t.Fatalf("last line: %v", err)
	}
	for _, name := range []string{
		"published", "confirmed", "nacked", "returned", "unconfirmed", "consumed", "redelivered", "duplicates", "foreign", "missing",
		"elapsed_s", "publish_s", "consume_s", "publish_rate", "consume_rate",
	} {
		if _, ok := object[name].(float64); !ok {
			t.Errorf("%s is %v", name, object[name])
		}
	}
	for _, name := range []string{"latency_ms", "confirm_latency_ms"} {
		latency, _ := object[name].(map[string]any)
		for _, name := range []string{"samples", "min", "median", "p75", "p95", "p99", "p999", "max"} {
			if _, ok := latency[name].(float64); !ok {
				t.Errorf("%s is %v", name, latency[name])
			}
		}
	}
}
