// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScripts runs testdata/scripts. Every file starts with an empty queue and holds
// blocks of commands, one a line. Each command is followed by a Dispatch, as the
// shell does it, and what both had for effect is printed:
//
//	append COUNT [size=BYTES] [stored]       stored runs can be trimmed and loaded
//	restore FIRST COUNT [settled=NUMBERS]    all of 10 bytes a message
//	redeliver-below NUMBER | skip-to NUMBER
//	consume NAME [prefetch=N] [noack] [room=N]
//	cancel NAME
//	room NAME N                              the sink takes N more messages
//	settle NAME NUMBERS | return NAME NUMBERS
//	get NAME [noack] | forget NAME | take-gets
//	purge
//	loaded [COUNT]                           feeds back the oldest (all) loads
//	trim BYTES
//	state | delivered | runs
//
// NUMBERS is a list such as 1,3-5. A star marks redelivered messages.
func TestScripts(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		t.Parallel()
		s := &script{consumers: map[string]*Consumer{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			for line := range strings.Lines(d.Input) {
				words := strings.Fields(line)
				if len(words) == 0 {
					continue
				}
				if err := s.step(words[0], words[1:]); err != nil {
					d.Fatalf(t, "%s: %v", strings.TrimSpace(line), err)
				}
			}
			return s.out.String()
		})
	})
}

type script struct {
	engine    Engine
	fx        Effects
	consumers map[string]*Consumer
	loads     []*Run
	out       strings.Builder
}

func (s *script) step(command string, args []string) error {
	if err := s.run(command, args); err != nil {
		return err
	}
	for more := true; more; {
		more = s.engine.Dispatch(&s.fx)
		if err := s.print(); err != nil {
			return err
		}
		s.fx.Reset()
		s.engine.ReleasePages()
	}
	return checkDispatched(&s.engine)
}

func (s *script) run(command string, args []string) error {
	e := &s.engine
	option := func(name string, unset int) int {
		for _, a := range args {
			if value, ok := strings.CutPrefix(a, name+"="); ok {
				n, err := strconv.Atoi(value)
				if err != nil {
					panic(err)
				}
				return n
			}
		}
		return unset
	}
	number := func(i int) uint64 {
		n, err := strconv.ParseUint(args[i], 10, 64)
		if err != nil {
			panic(err)
		}
		return n
	}
	switch command {
	case "append":
		var stored any
		if slices.Contains(args, "stored") {
			stored = "disk"
		}
		e.Append(newPage(e.Next(), int(number(0)), option("size", 10)), stored)
	case "restore":
		var settled Bitmap
		for _, n := range numbersOption(args) {
			settled.Set(uint32(n - number(0)))
		}
		if err := e.Restore(number(0), uint32(number(1)), 10*number(1), settled, "disk"); err != nil {
			s.printf("refused: %v\n", err)
		}
	case "redeliver-below":
		e.RedeliverBelow(number(0))
	case "skip-to":
		e.SkipTo(number(0))
	case "consume", "get":
		c := &Consumer{
			Tag: args[0], NoAck: slices.Contains(args, "noack"), Prefetch: uint32(option("prefetch", 0)),
			Sink: &sink{room: option("room", -1)},
		}
		s.consumers[c.Tag] = c
		if command == "get" {
			e.Get(c)
		} else {
			e.AddConsumer(c)
		}
	case "cancel":
		if !e.RemoveConsumer(s.consumers[args[0]]) {
			s.printf("no consumer\n")
		}
	case "forget":
		e.ForgetGet(s.consumers[args[0]])
	case "take-gets":
		for _, c := range e.TakeGets() {
			s.printf("took %s\n", c.Tag)
		}
	case "room":
		s.consumers[args[0]].Sink.(*sink).room = int(number(1))
	case "settle":
		numbers := parseNumbers(args[1])
		if err := e.Settle(numbers, &s.fx); err != nil {
			s.printf("error: %v\n", err)
			break
		}
		e.Credit(s.consumers[args[0]], uint32(len(numbers)))
	case "return":
		numbers := parseNumbers(args[1])
		slices.Reverse(numbers) // any order will do
		e.Return(numbers)
		e.Credit(s.consumers[args[0]], uint32(len(numbers)))
	case "purge":
		s.printf("purged %d\n", e.Purge(&s.fx))
	case "loaded":
		count := len(s.loads)
		if len(args) > 0 {
			count = int(number(0))
		}
		for _, r := range s.loads[:count] {
			e.Loaded(r, newPage(r.First, int(r.Count), int(r.Bytes)/int(r.Count)))
		}
		s.loads = slices.Clone(s.loads[count:])
	case "trim":
		e.Trim(number(0), func(r *Run) bool { return r.Stored != nil })
	case "state":
		s.printf("ready=%d unacked=%d bytes=%d resident=%d next=%d\n", e.Ready(), e.Unacked(), e.Bytes(), e.Resident(), e.Next())
		for _, c := range e.Consumers() {
			s.printf("%s holds %d\n", c.Tag, c.Unacked())
		}
	case "delivered":
		s.printf("delivered up to %d\n", e.DeliveredUpTo())
	case "runs":
		e.Runs(func(r *Run) {
			where := "on disk"
			if r.Page != nil {
				where = "in memory"
			}
			s.printf("%s %s\n", name(r), where)
		})
	default:
		return fmt.Errorf("no such command")
	}
	return nil
}

// print prints the effects and carries them out.
func (s *script) print() error {
	for i := range s.fx.Deliveries {
		d := &s.fx.Deliveries[i]
		if err := checkDelivery(d); err != nil {
			return err
		}
		if d.Get {
			s.printf("get ")
		} else {
			d.Consumer.Sink.(*sink).took(d.Count)
		}
		s.printf("%s:", d.Consumer.Tag)
		for i := range d.Count {
			s.printf(" %d", d.Number(i))
			if d.Redelivered {
				s.printf("*")
			}
		}
		if d.Get {
			s.printf(" left=%d", d.Remaining)
		}
		s.printf("\n")
	}
	for _, c := range s.fx.Empty {
		s.printf("get %s: empty\n", c.Tag)
	}
	for _, r := range s.fx.Marked {
		settled := r.Settled()
		s.printf("mark %s:", name(r))
		for i := settled.NextSet(0, r.Count); i < r.Count; i = settled.NextSet(i+1, r.Count) {
			s.printf(" %d", r.First+uint64(i))
		}
		s.printf("\n")
	}
	for _, r := range s.fx.Done {
		s.printf("done %s\n", name(r))
	}
	for _, r := range s.fx.Loads {
		s.printf("load %s\n", name(r))
	}
	s.loads = append(s.loads, s.fx.Loads...)
	return nil
}

func (s *script) printf(format string, args ...any) { fmt.Fprintf(&s.out, format, args...) }

func name(r *Run) string { return fmt.Sprintf("%d..%d", r.First, r.end()-1) }

func numbersOption(args []string) []uint64 {
	for _, a := range args {
		if value, ok := strings.CutPrefix(a, "settled="); ok {
			return parseNumbers(value)
		}
	}
	return nil
}

func parseNumbers(list string) (numbers []uint64) {
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 64)
		last, err2 := strconv.ParseUint(to, 10, 64)
		if err1 != nil || err2 != nil {
			panic("bad number list " + list)
		}
		for n := first; n <= last; n++ {
			numbers = append(numbers, n)
		}
	}
	return numbers
}
