// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"slices"
	"strconv"
)

// A queue that orders by priority has a log of its own for each level that was
// ever used; all others have one. The highest level with ready messages is served
// first, each level in the order of its numbers.
//
// The level is the highest byte of a message's number, so a number tells where its
// message is, the runs of one level are neighbours in the store, and the store
// need not know of levels.

// levelShift is where in a message number its level is.
const levelShift = 56

// Level is the level of the message with that number.
func Level(number uint64) uint8 { return uint8(number >> levelShift) }

// NumberText writes a message's number for people: as LEVEL:NUMBER, or NUMBER alone in
// level 0.
func NumberText(number uint64) string {
	sequence := strconv.FormatUint(number&(1<<levelShift-1), 10)
	if level := Level(number); level > 0 {
		return strconv.Itoa(int(level)) + ":" + sequence
	}
	return sequence
}

// find returns the log of a level, nil if it was never used.
func (e *Engine) find(level uint8) *log {
	if len(e.levels) == 1 && e.plain.level == level {
		return &e.plain
	}
	if i, found := e.search(level); found {
		return e.levels[i]
	}
	return nil
}

// search returns the position of a level, or where it would be.
func (e *Engine) search(level uint8) (int, bool) {
	return slices.BinarySearchFunc(e.levels, level, func(l *log, level uint8) int { return int(level) - int(l.level) })
}

// level returns the log of a level, a new one if it was never used.
func (e *Engine) level(level uint8) *log {
	if l := e.find(level); l != nil {
		return l
	}
	l := &e.plain
	if len(e.levels) > 0 {
		l = new(log)
	} else {
		e.levels = e.room[:0]
	}
	*l = log{q: e, level: level, next: uint64(level) << levelShift}
	i, _ := e.search(level)
	e.levels = slices.Insert(e.levels, i, l)
	return l
}

// ReadyOf is the number of ready messages of a level.
func (e *Engine) ReadyOf(level uint8) uint64 {
	if l := e.find(level); l != nil {
		return l.ready
	}
	return 0
}

// Levels is how many levels were ever used.
func (e *Engine) Levels() int { return len(e.levels) }

// readiest returns the highest level with ready messages, nil if there is none.
func (e *Engine) readiest() *log {
	for _, l := range e.levels {
		if l.ready > 0 {
			return l
		}
	}
	return nil
}
