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
// blocks of commands, one a line. After each what was delayed until now is back, and the
// queue is dispatched as the shell does it: what is due expires before and after, and
// what is beyond the limits leaves. What all of this had for effect is printed:
//
//	append COUNT [level=N] [size=BYTES,...] [due=MS,...] [stored|late] [held] [times=N] [trim=BYTES]
//	                                         sizes and due times are those of the messages in
//	                                         turn; a due time is told from now, - is never.
//	                                         stored runs can be trimmed and loaded, late ones
//	                                         from the next committed on
//	admit NUMBERS | refuse NUMBERS [dead]    messages that were held
//	restore FIRST COUNT [settled=NUMBERS] [due=MS,...] [counts=NUMBER=ACQUIRED/FAILED,...]
//	        [waits=NUMBER/COUNT/REASON/PLACE,...]
//	departures                               what is restored and waits to leave
//	redeliver-below NUMBER | skip-to NUMBER
//	single stays|gives-way                   before the first consumer
//	consume NAME [priority=N] [prefetch=N] [noack] [room=N]
//	cancel NAME | time-out NAME NUMBERS      the latter gives back what it holds
//	room NAME N                              the sink takes N more messages
//	settle NAME NUMBERS
//	return NAME NUMBERS [failed|unharmed] [limit=N]
//	                                         counted if it is said how they come back
//	delay NAME NUMBERS MS [failed|unharmed] [limit=N]
//	                                         the same, but not for MS from now
//	get NAME [noack] | forget NAME | take-gets
//	purge | purge-runs N
//	expel NAME NUMBERS REASON                unacked messages of that consumer
//	expel-ready NUMBERS REASON | expel-head N REASON | expel-below NUMBER REASON
//	settle-leaving NUMBERS | return-leaving NUMBERS | load-leaving
//	wait NUMBERS REASON [refused] [took=ID,...]
//	ttl MS|none | pass MS                    the clock stands still otherwise
//	limit [messages=N] [bytes=N]             none if neither is given
//	loaded [COUNT] | stamped [COUNT]         feeds back the oldest (all) loads, or stamps
//	stamps-failed                            none of them could be read
//	trim BYTES | rest
//	spilled | committed                      the store has what was asked for, or is late
//	tune [segment=RUNS] [hot=RUNS] [ahead=RUNS] [small=RUNS] [messages=N] [spill=BYTES] [thin=BYTES]
//	scattered [unread|idle] | gather [late] | scatter
//	thin | replace
//	state | delivered | runs | cold | waits | next-due | oldest
//
// NUMBERS is a list such as 1,3-5,2:7-9, which ends with numbers of level 2. A star
// marks redelivered messages, and ACQUIRED/FAILED what was counted of them,
// with +MS if they are delayed for so long. Of messages that wait to leave the departure
// is printed, with #PLACE.
func TestScripts(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		t.Parallel()
		s := &script{now: scriptStart, most: -1, mostBytes: -1, consumers: map[string]*Consumer{}, messages: messages{}}
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

// scriptStart is the time at which scripts start, in milliseconds since 1970.
const scriptStart = 1_700_000_000_000

type script struct {
	engine          Engine
	fx              Effects
	now             uint64 // milliseconds since 1970
	next            uint64 // what Expire said last
	most, mostBytes int64  // the limits
	consumers       map[string]*Consumer
	messages        messages
	keeper          *keeper
	loads           []*Run
	stamps          []*Run
	spills          []*Run
	late            []*disk // appended late
	group           []*Run  // given out by Scattered
	thin            []*Run  // given out by Thin
	dead            []*Run  // with messages that are leaving
	out             strings.Builder
}

func (s *script) step(command string, args arguments) error {
	if err := s.run(command, args); err != nil {
		return err
	}
	if next := s.engine.Resume(s.now, 1<<20, &s.fx); next != 0 && next <= s.now {
		return fmt.Errorf("there is more to resume at %d", s.now)
	}
	if err := s.handOut(); err != nil {
		return err
	}
	for s.most >= 0 || s.mostBytes >= 0 {
		s.engine.ExpelOver(s.most, s.mostBytes, 1<<20, &s.fx)
		if len(s.fx.Dead)+len(s.fx.Loads) == 0 {
			break
		}
		if err := s.handOut(); err != nil {
			return err
		}
	}
	return s.check()
}

// handOut is what the shell does after each step: whoever may have messages gets them,
// and what is due does not go to anybody.
func (s *script) handOut() error {
	s.next = s.engine.Expire(s.now-1, Expired, 1<<20, &s.fx)
	if s.engine.Timed() && len(s.fx.Dead)+len(s.fx.Stamps) > 0 {
		if err := s.print(); err != nil {
			return err
		}
	}
	if err := s.dispatch(); err != nil {
		return err
	}
	s.next = s.engine.Expire(s.now, Expired, 1<<20, &s.fx)
	if len(s.fx.Dead) == 0 {
		return s.print()
	}
	if err := s.print(); err != nil {
		return err
	}
	return s.dispatch()
}

func (s *script) dispatch() error {
	for more := true; more; {
		more = s.engine.Dispatch(&s.fx)
		if err := s.print(); err != nil {
			return err
		}
	}
	return nil
}

// check checks what must hold after each step.
func (s *script) check() error {
	if err := checkDispatched(&s.engine); err != nil {
		return err
	}
	if ready := s.engine.Ready(); s.most >= 0 && ready > uint64(s.most) {
		return fmt.Errorf("%d messages are ready, the limit is %d", ready, s.most)
	}
	if bytes := s.engine.ReadyBytes(); s.mostBytes >= 0 && bytes > uint64(s.mostBytes) && len(s.loads) == 0 {
		return fmt.Errorf("%d bytes are ready, the limit is %d", bytes, s.mostBytes)
	}
	return nil
}

// print prints the effects and carries them out.
func (s *script) print() error {
	for i := range s.fx.Deliveries {
		if err := s.printDelivery(&s.fx.Deliveries[i]); err != nil {
			return err
		}
	}
	for _, c := range s.fx.Empty {
		s.printf("get %s: empty\n", c.Tag)
	}
	for _, d := range s.fx.Dead {
		s.printf("%s:", d.Reason)
		for n := range d.Numbers().each() {
			s.printf(" %s", NumberText(n))
			if end := s.end(n); d.Reason == Expired && end > s.now && s.engine.Timed() && s.next != 0 {
				return fmt.Errorf("message %s expires at %d, now is %d", NumberText(n), end, s.now)
			}
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
	for _, r := range s.fx.Counted {
		if err := s.printCounts(r); err != nil {
			return err
		}
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
	for _, r := range s.fx.Stamps {
		s.printf("stamps %s\n", name(r))
	}
	s.stamps = append(s.stamps, s.fx.Stamps...)
	for _, r := range s.fx.Loads {
		s.printf("load %s\n", name(r))
	}
	s.loads = append(s.loads, s.fx.Loads...)
	s.fx.Reset()
	s.engine.ReleasePages()
	return nil
}

func (s *script) printDelivery(d *Delivery) error {
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
		if end := s.end(d.Number(i)); end < s.now {
			return fmt.Errorf("message %d is handed out, but was due %d ms ago", d.Number(i), s.now-end)
		}
		s.printf(" %s", NumberText(d.Number(i)))
		if d.Redelivered {
			s.printf("*")
		}
		if t := d.Tally(i); t != (Tally{}) {
			s.printf("%d/%d", t.Acquired, t.Failed)
		}
	}
	if d.Get {
		s.printf(" left=%d", d.Remaining)
	}
	s.printf("\n")
	return nil
}

// printCounts prints what would be stored of a run's counts.
func (s *script) printCounts(r *Run) error {
	stored := Run{Count: r.Count, settled: r.settled}
	var err error
	if stored.aside, err = parseTallies(r.AppendTallies(nil), &stored); err != nil {
		return err
	}
	s.printf("count %s:", name(r))
	for i := range stored.Count {
		if t := stored.tally(i); t != (Tally{}) {
			s.printf(" %s=%d/%d", NumberText(r.First+uint64(i)), t.Acquired, t.Failed)
		}
		if d := stored.waitsAt(i); d != nil {
			s.printf(" %s %s#%d", NumberText(r.First+uint64(i)), describeDeparture(&d.Departure), d.place)
		} else if stored.isAway(i) {
			s.printf("+%d", stored.aside.delays[stored.aside.position(i)].at-s.now)
		}
	}
	s.printf("\n")
	return nil
}

func describeDeparture(d *Departure) string {
	text := d.Reason.String()
	if d.Refused {
		text += " refused"
	}
	if len(d.Took) > 0 {
		text += fmt.Sprint(" took ", d.Took)
	}
	return text
}

func (s *script) printf(format string, args ...any) { fmt.Fprintf(&s.out, format, args...) }

// end is when a message is due, by the queue's time to live and its own.
func (s *script) end(number uint64) uint64 {
	stamp := s.messages.of(number).stamp
	end := stamp.Due
	if c := s.engine.calendar; c != nil && c.ttl != noTTL && stamp.Arrived != 0 {
		end = earlier(end, stamp.Arrived+c.ttl)
	}
	if end == 0 {
		return ^uint64(0)
	}
	return end
}

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

// arguments are the words after a command.
type arguments []string

func (a arguments) has(word string) bool { return slices.Contains(a, word) }

// number is the i-th argument.
func (a arguments) number(i int) uint64 { return parseNumber(a[i]) }

// list is the items of the option name.
func (a arguments) list(name string) []string {
	for _, word := range a {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return strings.Split(value, ",")
		}
	}
	return nil
}

// option is the value of the option name, unset if it is not given.
func (a arguments) option(name string, unset int) int {
	if list := a.list(name); list != nil {
		return integer(list[0])
	}
	return unset
}

func integer(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
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
