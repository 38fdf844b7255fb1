// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"strings"
	"testing"

	"github.com/lagomq/lagomq/amqp/wire"
)

// parse returns the options that a command line stands for.
func parse(t *testing.T, args string) (*options, error) {
	t.Helper()
	o := &options{}
	cmd := Command()
	cmd.ResetFlags()
	o.register(cmd)
	if err := cmd.ParseFlags(strings.Fields(args)); err != nil {
		t.Fatalf("parse %q: %v", args, err)
	}
	o.noteChanged(cmd)
	return o, o.complete()
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		ok   func(o *options) bool
	}{
		{"", func(o *options) bool {
			return o.endpoint.addr == "127.0.0.1:5672" && o.producers == 1 && o.consumers == 1 && o.size == 16 &&
				o.exchange == "" && o.autoDelete && !o.durable && !o.autoAck && o.confirm == 0
		}},
		{"-h amqp://u:p@h:1/v -x 2 -y 3 -X 4 -Y 5 -s 6", func(o *options) bool {
			return o.endpoint == endpoint{addr: "h:1", host: "h", user: "u", password: "p", vhost: "v"} &&
				o.producers == 2 && o.consumers == 3 && o.producerChannels == 4 && o.consumerChannels == 5 && o.size == 6
		}},
		{"-c 7 -q 8 -A 8 -r 9.5 -R 10 -C 11 -D 12 -z 13 -a", func(o *options) bool {
			return o.confirm == 7 && o.prefetch == 8 && o.multiAckEvery == 8 && o.rate == 9.5 && o.consumerRate == 10 &&
				o.publishCount == 11 && o.consumeCount == 12 && o.seconds == 13 && o.autoAck
		}},
		{"-f persistent -f mandatory", func(o *options) bool { return o.persistent() && o.mandatory() && o.durable }},
		{"-f persistent,mandatory --durable=false", func(o *options) bool { return o.persistent() && o.mandatory() && !o.durable }},
		{"-t fanout", func(o *options) bool { return o.exchange == "fanout" && o.exchangeType == "fanout" }},
		{"-e orders", func(o *options) bool { return o.exchange == "orders" && o.exchangeType == "direct" }},
		{"--queue-args x-max-length=10,x-queue-type=quorum,x-single-active-consumer=true", func(o *options) bool {
			return o.arguments.Equal(wire.Table{
				{Name: "x-max-length", Value: int64(10)},
				{Name: "x-queue-type", Value: "quorum"},
				{Name: "x-single-active-consumer", Value: true},
			})
		}},
	} {
		o, err := parse(t, tt.args)
		if err != nil {
			t.Errorf("%q: %v", tt.args, err)
		} else if !tt.ok(o) {
			t.Errorf("%q: %+v", tt.args, o)
		}
	}
}

func TestOptionProblems(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-x 0 -y 0":                 "nothing to do",
		"-x -1":                     "--producers -1",
		"-x 100 -X 200":             "more than 16384",
		"-s -1":                     "--size -1",
		"-q 70000":                  "--qos 70000",
		"-q 10 -A 11":               "--multi-ack-every 11",
		"-a --nack":                 "--autoack and --nack",
		"-f durable":                "--flag durable",
		"-r -5":                     "--rate",
		"-h http://localhost":       "--uri",
		"--queue-args novalue":      "--queue-args",
		"--queue-pattern q":         "--queue-pattern",
		"--queue-pattern q-%d -u q": "exclude each other",
		"--queue-pattern q-%d%s":    "--queue-pattern",
		"--queue-pattern q-%d --queue-pattern-from 3": "not a range",
		"-C 99999999999":     "--pmessages",
		"--drain-timeout 0s": "--drain-timeout",
	} {
		if _, err := parse(t, args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", args, err, want)
		}
	}
	_, err := parse(t, "-x -1 -s -1 -c -1")
	if n := strings.Count(err.Error(), "\n"); n != 2 {
		t.Errorf("not all problems are listed: %v", err)
	}
}

func TestParseURI(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]endpoint{
		"amqp://":                       {addr: "127.0.0.1:5672", host: "127.0.0.1", user: "guest", password: "guest", vhost: "/"},
		"amqp://h":                      {addr: "h:5672", host: "h", user: "guest", password: "guest", vhost: "/"},
		"amqp://u:p%40@h/%2f":           {addr: "h:5672", host: "h", user: "u", password: "p@", vhost: "/"},
		"amqp://u:p@h:1234/a%2Fb":       {addr: "h:1234", host: "h", user: "u", password: "p", vhost: "a/b"},
		"amqps://h":                     {addr: "h:5671", host: "h", tls: true, user: "guest", password: "guest", vhost: "/"},
		"amqp://guest:guest@[::1]:5672": {addr: "[::1]:5672", host: "::1", user: "guest", password: "guest", vhost: "/"},
	} {
		if got, err := parseURI(uri); err != nil || got != want {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
	_, err := parseURI("amqp://u:secret@h:port/")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}

func TestTopologyRoutes(t *testing.T) {
	t.Parallel()
	pattern := "--queue-pattern q-%d --queue-pattern-to 3 "
	for _, tt := range []struct {
		args            string
		producer, queue int
		want            bool
	}{
		{pattern, 0, 0, true},
		{pattern, 4, 1, true},
		{pattern, 0, 1, false},
		{pattern + "-e x", 0, 1, false},
		{pattern + "-e x -k key", 0, 1, true},
		{pattern + "-e x -t fanout", 0, 2, true},
		{pattern + "-e x -t x-random", 0, 0, false},
		{"-u q -k other", 0, 0, false},
	} {
		o, err := parse(t, tt.args)
		if err != nil {
			t.Fatal(err)
		}
		top := newTopology(o, 1)
		if got := top.routes(tt.producer, tt.queue); got != tt.want {
			t.Errorf("%q: producer %d, queue %d: %t", tt.args, tt.producer, tt.queue, got)
		}
	}
}
