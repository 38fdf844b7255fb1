// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The commands of scripts, as TestScripts lists them.

func (s *script) run(command string, args arguments) error {
	for _, commands := range []map[string]func(arguments){
		s.publishing(), s.consuming(), s.leaving(), s.timing(), s.storing(), s.showing(),
	} {
		if do, ok := commands[command]; ok {
			do(args)
			return nil
		}
	}
	return fmt.Errorf("no such command")
}

// report prints an error that a script may provoke.
func (s *script) report(err error) bool {
	if err != nil {
		s.printf("error: %v\n", err)
	}
	return err != nil
}

// describe says what messages from first on are like.
func (s *script) describe(first uint64, count int, args arguments) {
	sizes, dues := args.list("size"), args.list("due")
	for i := range count {
		m := testMessage{size: 10, stamp: Stamp{Arrived: s.now}}
		if len(sizes) > 0 {
			m.size = integer(sizes[i%len(sizes)])
		}
		if len(dues) > 0 && dues[i%len(dues)] != "-" {
			m.stamp.Due = s.now + uint64(integer(dues[i%len(dues)]))
		}
		s.messages[first+uint64(i)] = m
	}
}

// heldRun is the run of a message that was held.
func (s *script) heldRun(number uint64) (*Run, uint32) {
	r := s.engine.find(Level(number)).locate(number)
	return r, uint32(number - r.First)
}

func (s *script) publishing() map[string]func(arguments) {
	e := &s.engine
	return map[string]func(arguments){
		"append": func(args arguments) {
			level, count := uint8(args.option("level", 0)), int(args.number(0))
			for range args.option("times", 1) {
				first := e.Next(level)
				s.describe(first, count, args)
				var stored any
				switch d := s.keeper.put(first, count); {
				case args.has("stored"):
					stored = d
				case args.has("late"):
					d.late, stored = true, d
					s.late = append(s.late, d)
				}
				if args.has("held") {
					e.AppendHeld(level, s.messages.page(first, count), stored)
				} else {
					e.Append(level, s.messages.page(first, count), stored)
				}
				if limit := args.option("trim", -1); limit >= 0 {
					e.Trim(uint64(limit), uint64(limit), &s.fx)
				}
			}
		},
		"admit": func(args arguments) {
			for _, n := range parseNumbers(args[0]) {
				r, offset := s.heldRun(n)
				e.Admit(r, offset, 1)
			}
		},
		"refuse": func(args arguments) {
			for _, n := range parseNumbers(args[0]) {
				r, offset := s.heldRun(n)
				e.Refuse(r, offset, 1, args.has("dead"), &s.fx)
			}
		},
		"restore": func(args arguments) {
			first, count := args.number(0), int(args.number(1))
			var settled Bitmap
			for _, list := range args.list("settled") {
				for _, n := range parseNumbers(list) {
					settled.Set(uint32(n - first))
				}
			}
			aside := &aside{tallies: make([]Tally, count)}
			for _, item := range args.list("counts") {
				number, counts, _ := strings.Cut(item, "=")
				acquired, failed, _ := strings.Cut(counts, "/")
				aside.tallies[parseNumber(number)-first] = Tally{uint16(integer(acquired)), uint16(integer(failed))}
			}
			for _, item := range args.list("waits") {
				part := strings.Split(item, "/")
				aside.departures = appendDeparture(aside.departures, departure{
					Departure{Reason: reasonOf(part[2])}, uint64(integer(part[3])), uint32(parseNumber(part[0]) - first), uint32(integer(part[1])),
				})
			}
			cold, known := maps.Clone(s.keeper.cold), maps.Clone(s.messages)
			var times Times
			if args.list("due") != nil {
				s.describe(first, count, args)
				times = s.messages.page(first, count).Times()
			}
			counts := (&Run{Count: uint32(count), aside: aside}).AppendTallies(nil)
			if err := e.Restore(first, uint32(count), 10*uint64(count), settled, s.keeper.restore(first, count), times, counts); err != nil {
				s.keeper.cold, s.messages = cold, known
				s.printf("refused: %v\n", err)
			}
		},
		"departures": func(arguments) {
			e.Departures(func(dead Dead, d Departure) {
				numbers := dead.Numbers()
				s.printf("waits %s: %s\n", stretchOf(numbers.First, numbers.End), describeDeparture(&d))
				s.dead = append(s.dead, dead.Run)
			})
		},
		"redeliver-below": func(args arguments) { e.RedeliverBelow(args.number(0)) },
		"skip-to":         func(args arguments) { e.SkipTo(args.number(0)) },
		"purge-runs": func(args arguments) {
			if purged, some := e.PurgeRuns(int(args.number(0)), &s.fx); some {
				s.printf("purged %d\n", purged)
			} else {
				s.printf("few runs\n")
			}
		},
		"purge": func(arguments) { s.printf("purged %d\n", e.Purge(&s.fx)) },
	}
}

func (s *script) newConsumer(args arguments) *Consumer {
	c := &Consumer{
		Tag: args[0], NoAck: args.has("noack"), Prefetch: uint32(args.option("prefetch", 0)),
		Priority: int64(args.option("priority", 0)), Sink: &sink{room: args.option("room", -1)},
	}
	s.consumers[c.Tag] = c
	return c
}

// comeBack counts messages that come back, if the script says how, and has those leave
// that came back too often. It returns the others.
func (s *script) comeBack(args arguments) []uint64 {
	numbers := parseNumbers(args[1])
	if !args.has("failed") && !args.has("unharmed") {
		return numbers
	}
	within := s.engine.Count(numbers, args.has("failed"), int64(args.option("limit", -1)), &s.fx)
	s.report(s.engine.Expel(numbers[within:], DeliveryLimit, &s.fx))
	return numbers[:within]
}

func (s *script) consuming() map[string]func(arguments) {
	e := &s.engine
	credit := func(args arguments) { e.Credit(s.consumers[args[0]], uint32(len(parseNumbers(args[1])))) }
	giveBack := func(args arguments) {
		numbers := s.comeBack(args)
		slices.Reverse(numbers) // any order will do
		e.Return(numbers)
		credit(args)
	}
	cancel := func(args arguments) {
		if !e.RemoveConsumer(s.consumers[args[0]]) {
			s.printf("no consumer\n")
		}
	}
	return map[string]func(arguments){
		"single": func(args arguments) {
			e.Single = map[string]SingleActive{"stays": Stays, "gives-way": GivesWay}[args[0]]
		},
		"consume":  func(args arguments) { e.AddConsumer(s.newConsumer(args)) },
		"cancel":   cancel,
		"time-out": func(args arguments) { cancel(args); giveBack(args) },
		"room":     func(args arguments) { s.consumers[args[0]].Sink.(*sink).room = int(args.number(1)) },
		"settle": func(args arguments) {
			if !s.report(e.Settle(parseNumbers(args[1]), &s.fx)) {
				credit(args)
			}
		},
		"return": giveBack,
		"delay": func(args arguments) {
			s.report(e.Delay(s.comeBack(args), s.now+args.number(2)))
			credit(args)
		},
		"get":    func(args arguments) { e.Get(s.newConsumer(args)) },
		"forget": func(args arguments) { e.ForgetGet(s.consumers[args[0]]) },
		"take-gets": func(arguments) {
			for _, c := range e.TakeGets() {
				s.printf("took %s\n", c.Tag)
			}
		},
		"expel": func(args arguments) {
			if !s.report(e.Expel(parseNumbers(args[1]), reasonOf(args[2]), &s.fx)) {
				credit(args)
			}
		},
	}
}

func (s *script) leaving() map[string]func(arguments) {
	e := &s.engine
	return map[string]func(arguments){
		"expel-ready": func(args arguments) {
			s.printf("expelled %d\n", e.ExpelReady(parseNumbers(args[0]), reasonOf(args[1]), &s.fx))
		},
		"expel-head": func(args arguments) { e.ExpelHead(args.number(0), reasonOf(args[1]), &s.fx) },
		"expel-below": func(args arguments) {
			s.printf("expelled %d\n", e.ExpelBelow(args.number(0), reasonOf(args[1]), &s.fx))
		},
		"settle-leaving": func(args arguments) { s.report(e.SettleLeaving(intervals(parseNumbers(args[0])), &s.fx)) },
		"return-leaving": func(args arguments) { s.report(e.ReturnLeaving(intervals(parseNumbers(args[0])))) },
		"wait": func(args arguments) {
			d := Departure{Reason: reasonOf(args[1]), Refused: args.has("refused")}
			for _, id := range args.list("took") {
				d.Took = append(d.Took, parseNumber(id))
			}
			for _, i := range intervals(parseNumbers(args[0])) {
				s.report(e.Wait(i, d, &s.fx))
			}
		},
		"load-leaving": func(arguments) {
			for _, r := range s.dead {
				e.load(r, &s.fx)
			}
			s.dead = nil
		},
		"limit": func(args arguments) {
			s.most, s.mostBytes = int64(args.option("messages", -1)), int64(args.option("bytes", -1))
			e.Weigh(s.mostBytes >= 0)
		},
	}
}

func (s *script) timing() map[string]func(arguments) {
	e := &s.engine
	return map[string]func(arguments){
		"ttl": func(args arguments) {
			if args[0] == "none" {
				e.SetTTL(-1)
			} else {
				e.SetTTL(int64(args.number(0)))
			}
		},
		"pass": func(args arguments) { s.now += args.number(0) },
		"stamped": func(args arguments) {
			for _, r := range s.take(&s.stamps, args) {
				e.Stamped(r, func(i int) Stamp { return s.messages.of(r.First + uint64(i)).stamp })
			}
		},
		"stamps-failed": func(args arguments) {
			for _, r := range s.take(&s.stamps, args) {
				e.StampsFailed(r)
			}
		},
	}
}

// take takes the oldest runs of a list, as many as the first argument says or all.
func (s *script) take(list *[]*Run, args arguments) (taken []*Run) {
	count := len(*list)
	if len(args) > 0 {
		count = int(args.number(0))
	}
	taken, *list = (*list)[:count], slices.Clone((*list)[count:])
	return taken
}

func (s *script) storing() map[string]func(arguments) {
	e := &s.engine
	return map[string]func(arguments){
		"loaded": func(args arguments) {
			for _, r := range s.take(&s.loads, args) {
				e.Loaded(r, s.messages.page(r.First, int(r.Count)))
			}
		},
		"trim": func(args arguments) { e.Trim(args.number(0), args.number(0), &s.fx) },
		"rest": func(arguments) { e.Rest() },
		"tune": func(args arguments) {
			l := standard
			l.segmentRuns = args.option("segment", l.segmentRuns)
			l.hotRuns = args.option("hot", l.segmentRuns)
			l.aheadRuns = args.option("ahead", l.aheadRuns)
			l.smallRuns = args.option("small", l.smallRuns)
			l.runMessages = uint32(args.option("messages", int(l.runMessages)))
			l.spillBytes = uint64(args.option("spill", int(l.spillBytes)))
			l.thinBytes = uint64(args.option("thin", int(l.thinBytes)))
			e.tuned = &l
		},
		"committed": func(arguments) {
			for _, d := range s.late {
				d.late = false
			}
			s.late = nil
		},
		"spilled": func(args arguments) {
			for _, r := range s.take(&s.spills, args) {
				if d := s.keeper.put(r.First, int(r.Count)); !e.Spilled(r, d) {
					s.printf("%s is not wanted\n", name(r))
				}
			}
		},
		"scattered": func(args arguments) {
			zeal := Busy
			for i, name := range []string{"unread", "idle"} {
				if args.has(name) {
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
		},
		"gather": s.gather,
		"scatter": func(arguments) {
			if s.group == nil {
				s.printf("no group\n")
				return
			}
			e.Scatter(s.group)
			s.group = nil
		},
		"thin": func(arguments) {
			s.thin = e.Thin(10)
			for _, r := range s.thin {
				s.printf("thin %s\n", name(r))
			}
		},
		"replace": func(arguments) {
			for _, r := range s.thin {
				page := s.messages.pageWithout(r.First, int(r.Count), r.Settled())
				s.printf("replaced %s: %t\n", name(r), e.Replace(r, page, s.keeper.put(r.First, int(r.Count))))
			}
		},
	}
}

func (s *script) gather(args arguments) {
	if s.group == nil {
		s.printf("no group\n")
		return
	}
	first, count := s.group[0].First, int(s.group[len(s.group)-1].end()-s.group[0].First)
	d := s.keeper.put(first, count)
	if d.late = args.has("late"); d.late {
		s.late = append(s.late, d)
	}
	if r, ok := s.engine.Gather(s.group, s.messages.page(first, count), d); ok {
		s.printf("gathered %s\n", name(r))
	} else {
		s.printf("changed\n")
	}
	s.group = nil
}

func (s *script) showing() map[string]func(arguments) {
	e := &s.engine
	return map[string]func(arguments){
		"waits": func(arguments) {
			for _, c := range e.Consumers() {
				s.printf("%s: %s\n", c.Tag, e.Waits(c))
			}
		},
		"state": func(args arguments) {
			s.printf("ready=%d unacked=%d bytes=%d resident=%d next=%s\n",
				e.Ready(), e.Unacked(), e.Bytes(), e.Resident(), NumberText(e.Next(uint8(args.option("level", 0)))))
			if e.Leaving() > 0 {
				s.printf("leaving=%d\n", e.Leaving())
			}
			if e.Delayed() > 0 {
				s.printf("delayed=%d\n", e.Delayed())
			}
			for _, c := range e.Consumers() {
				s.printf("%s holds %d\n", c.Tag, c.Unacked())
			}
		},
		"delivered": func(arguments) {
			for _, upTo := range e.Delivered() {
				s.printf("delivered up to %s\n", NumberText(upTo))
			}
		},
		"runs": func(arguments) {
			e.Runs(func(r *Run) {
				where := "on disk"
				if r.Page != nil {
					where = "in memory"
				}
				s.printf("%s %s\n", name(r), where)
			})
		},
		"cold": func(arguments) {
			for _, l := range e.levels {
				for _, g := range l.dir.cold {
					s.printf("%s: %d packed, %d warm\n", stretchOf(g.first, g.end), g.count, g.warm.len())
				}
			}
			e.Cold(func(first, end uint64) { s.printf("cold %s\n", stretchOf(first, end)) })
			s.printf("%d runs\n", e.RunCount())
		},
		"next-due": func(arguments) {
			if next := e.Expire(s.now, Expired, 0, &s.fx); next == 0 {
				s.printf("nothing is due\n")
			} else {
				s.printf("to be looked at in %d ms\n", next-s.now)
			}
		},
		"oldest": func(arguments) {
			if at := e.Oldest(); at == 0 {
				s.printf("oldest is not known\n")
			} else {
				s.printf("oldest is %d ms old\n", s.now-at)
			}
		},
	}
}
