// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"maps"
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
//	append COUNT [level=N] [size=BYTES] [stored|late] [times=N] [trim=BYTES]
//	                                         stored runs can be trimmed and loaded, late
//	                                         ones from the next committed on
//	restore FIRST COUNT [settled=NUMBERS]    all of 10 bytes a message
//	redeliver-below NUMBER | skip-to NUMBER
//	single stays|gives-way                   before the first consumer
//	consume NAME [priority=N] [prefetch=N] [noack] [room=N]
//	cancel NAME
//	room NAME N                              the sink takes N more messages
//	settle NAME NUMBERS | return NAME NUMBERS
//	get NAME [noack] | forget NAME | take-gets
//	purge
//	expel NAME NUMBERS REASON                unacked messages of that consumer
//	expel-ready NUMBERS REASON | expel-head N REASON | expel-below NUMBER REASON
//	settle-leaving NUMBERS | return-leaving NUMBERS | load-leaving
//	loaded [COUNT]                           feeds back the oldest (all) loads
//	trim BYTES
//	spilled | committed                      the store has what was asked for, or is late
//	tune [segment=RUNS] [hot=RUNS] [ahead=RUNS] [small=RUNS] [messages=N] [spill=BYTES] [thin=BYTES]
//	scattered [unread|idle] | gather [late] | scatter
//	thin | replace
//	state | delivered | runs | cold | waits
//
// NUMBERS is a list such as 1,3-5,2:7-9, which ends with numbers of level 2. A star
// marks redelivered messages.
func TestScripts(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		t.Parallel()
		s := &script{consumers: map[string]*Consumer{}}
		s.keeper = newKeeper(&s.engine)
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
	keeper    *keeper
	loads     []*Run
	spills    []*Run
	late      []*disk // appended late
	group     []*Run  // given out by Scattered
	thin      []*Run  // given out by Thin
	dead      []*Run  // with messages that are leaving
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
	number := func(i int) uint64 { return parseNumber(args[i]) }
	level := uint8(option("level", 0))
	switch command {
	case "append":
		var stored any
		switch d := s.keeper.put(e.Next(level), int(number(0))); {
		case slices.Contains(args, "stored"):
			stored = d
		case slices.Contains(args, "late"):
			d.late, stored = true, d
			s.late = append(s.late, d)
		}
		for i := range option("times", 1) {
			if d, ok := stored.(*disk); ok && i > 0 {
				stored = s.keeper.put(e.Next(level), int(d.count))
			}
			e.Append(level, newPage(e.Next(level), int(number(0)), option("size", 10)), stored)
			if limit := option("trim", -1); limit >= 0 {
				e.Trim(uint64(limit), uint64(limit), &s.fx)
			}
		}
	case "restore":
		var settled Bitmap
		for _, n := range numbersOption(args) {
			settled.Set(uint32(n - number(0)))
		}
		before := maps.Clone(s.keeper.cold)
		if err := e.Restore(number(0), uint32(number(1)), 10*number(1), settled, s.keeper.restore(number(0), int(number(1))), Times{}, nil); err != nil {
			s.keeper.cold = before
			s.printf("refused: %v\n", err)
		}
	case "redeliver-below":
		e.RedeliverBelow(number(0))
	case "skip-to":
		e.SkipTo(number(0))
	case "consume", "get":
		c := &Consumer{
			Tag: args[0], NoAck: slices.Contains(args, "noack"), Prefetch: uint32(option("prefetch", 0)),
			Priority: int64(option("priority", 0)), Sink: &sink{room: option("room", -1)},
		}
		s.consumers[c.Tag] = c
		if command == "get" {
			e.Get(c)
		} else {
			e.AddConsumer(c)
		}
	case "single":
		e.Single = map[string]SingleActive{"stays": Stays, "gives-way": GivesWay}[args[0]]
	case "waits":
		for _, c := range e.Consumers() {
			s.printf("%s: %s\n", c.Tag, e.Waits(c))
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
	case "expel":
		numbers := parseNumbers(args[1])
		if err := e.Expel(numbers, reasonOf(args[2]), &s.fx); err != nil {
			s.printf("error: %v\n", err)
			break
		}
		e.Credit(s.consumers[args[0]], uint32(len(numbers)))
	case "expel-ready":
		s.printf("expelled %d\n", e.ExpelReady(parseNumbers(args[0]), reasonOf(args[1]), &s.fx))
	case "expel-head":
		e.ExpelHead(number(0), reasonOf(args[1]), &s.fx)
	case "expel-below":
		s.printf("expelled %d\n", e.ExpelBelow(number(0), reasonOf(args[1]), &s.fx))
	case "settle-leaving":
		if err := e.SettleLeaving(parseNumbers(args[0]), &s.fx); err != nil {
			s.printf("error: %v\n", err)
		}
	case "return-leaving":
		if err := e.ReturnLeaving(parseNumbers(args[0])); err != nil {
			s.printf("error: %v\n", err)
		}
	case "load-leaving":
		for _, r := range s.dead {
			e.Load(r, &s.fx)
		}
		s.dead = nil
	case "purge":
		s.printf("purged %d\n", e.Purge(&s.fx))
	case "loaded":
		count := len(s.loads)
		if len(args) > 0 {
			count = int(number(0))
		}
		for _, r := range s.loads[:count] {
			e.Loaded(r, content(r))
		}
		s.loads = slices.Clone(s.loads[count:])
	case "trim":
		e.Trim(number(0), number(0), &s.fx)
	case "tune":
		l := standard
		l.segmentRuns = option("segment", l.segmentRuns)
		l.hotRuns = option("hot", l.segmentRuns)
		l.aheadRuns = option("ahead", l.aheadRuns)
		l.smallRuns = option("small", l.smallRuns)
		l.runMessages = uint32(option("messages", int(l.runMessages)))
		l.spillBytes = uint64(option("spill", int(l.spillBytes)))
		l.thinBytes = uint64(option("thin", int(l.thinBytes)))
		e.tuned = &l
	case "committed":
		for _, d := range s.late {
			d.late = false
		}
		s.late = nil
	case "spilled":
		for _, r := range s.spills {
			if d := s.keeper.put(r.First, int(r.Count)); !e.Spilled(r, d) {
				s.printf("%s is not wanted\n", name(r))
			}
		}
		s.spills = nil
	case "scattered":
		zeal := Busy
		for i, name := range []string{"unread", "idle"} {
			if slices.Contains(args, name) {
				zeal = Unread + Zeal(i)
			}
		}
		group := e.Scattered(zeal)
		for _, r := range group {
			s.printf("scattered %s\n", name(r))
		}
		if len(group) > 0 {
			s.group = group
		}
	case "gather":
		if s.group == nil {
			s.printf("no group\n")
			break
		}
		first, count := s.group[0].First, int(s.group[len(s.group)-1].end()-s.group[0].First)
		d := s.keeper.put(first, count)
		if d.late = slices.Contains(args, "late"); d.late {
			s.late = append(s.late, d)
		}
		if r, ok := e.Gather(s.group, newPage(first, count, 10), d); ok {
			s.printf("gathered %s\n", name(r))
		} else {
			s.printf("changed\n")
		}
		s.group = nil
	case "scatter":
		if s.group == nil {
			s.printf("no group\n")
			break
		}
		e.Scatter(s.group)
		s.group = nil
	case "thin":
		s.thin = e.Thin(10)
		for _, r := range s.thin {
			s.printf("thin %s\n", name(r))
		}
	case "replace":
		for _, r := range s.thin {
			s.printf("replaced %s: %t\n", name(r), e.Replace(r, thinned(r), s.keeper.put(r.First, int(r.Count))))
		}
	case "state":
		s.printf("ready=%d unacked=%d bytes=%d resident=%d next=%s\n", e.Ready(), e.Unacked(), e.Bytes(), e.Resident(), NumberText(e.Next(level)))
		if e.Leaving() > 0 {
			s.printf("leaving=%d\n", e.Leaving())
		}
		for _, c := range e.Consumers() {
			s.printf("%s holds %d\n", c.Tag, c.Unacked())
		}
	case "delivered":
		for _, upTo := range e.Delivered() {
			s.printf("delivered up to %s\n", NumberText(upTo))
		}
	case "runs":
		e.Runs(func(r *Run) {
			where := "on disk"
			if r.Page != nil {
				where = "in memory"
			}
			s.printf("%s %s\n", name(r), where)
		})
	case "cold":
		for _, l := range e.levels {
			for _, g := range l.dir.cold {
				s.printf("%s: %d packed, %d warm\n", stretchOf(g.first, g.end), g.count, g.warm.len())
			}
		}
		e.Cold(func(first, end uint64) { s.printf("cold %s\n", stretchOf(first, end)) })
		s.printf("%d runs\n", e.RunCount())
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
			s.printf(" %s", NumberText(d.Number(i)))
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
	for _, d := range s.fx.Dead {
		s.printf("%s:", d.Reason)
		for _, n := range d.AppendNumbers(nil) {
			s.printf(" %s", NumberText(n))
		}
		s.printf("\n")
		s.dead = append(s.dead, d.Run)
	}
	for _, r := range s.fx.Marked {
		settled := r.Settled()
		s.printf("mark %s:", name(r))
		for i := settled.NextSet(0, r.Count); i < r.Count; i = settled.NextSet(i+1, r.Count) {
			s.printf(" %s", NumberText(r.First+uint64(i)))
		}
		s.printf("\n")
	}
	for _, r := range s.fx.Done {
		s.printf("done %s\n", name(r))
	}
	for _, i := range s.fx.Forgotten {
		s.printf("forgotten %s\n", stretchOf(i.First, i.End))
	}
	for _, r := range s.fx.Spills {
		s.printf("spill %s\n", name(r))
	}
	s.spills = append(s.spills, s.fx.Spills...)
	for _, r := range s.fx.Loads {
		s.printf("load %s\n", name(r))
	}
	s.loads = append(s.loads, s.fx.Loads...)
	return nil
}

func (s *script) printf(format string, args ...any) { fmt.Fprintf(&s.out, format, args...) }

func name(r *Run) string { return stretchOf(r.First, r.end()) }

// stretchOf writes the numbers first..end-1.
func stretchOf(first, end uint64) string { return NumberText(first) + ".." + NumberText(end-1) }

func reasonOf(name string) Reason {
	for r := range Reason(Reasons) {
		if r.String() == name {
			return r
		}
	}
	panic("bad reason " + name)
}

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
		first := parseNumber(from)
		last := first
		if isRange {
			last = first&^(1<<levelShift-1) | parseNumber(to)
		}
		for n := first; n <= last; n++ {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// parseNumber reads what NumberText writes.
func parseNumber(text string) uint64 {
	level, number, isPair := strings.Cut(text, ":")
	if !isPair {
		level, number = "0", text
	}
	l, err1 := strconv.ParseUint(level, 10, 8)
	n, err2 := strconv.ParseUint(number, 10, levelShift)
	if err1 != nil || err2 != nil {
		panic("bad number " + text)
	}
	return l<<levelShift | n
}
