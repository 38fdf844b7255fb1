// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// The reasons for alarms, in the words that clients get with connection.blocked.
const (
	// AlarmDisk is RabbitMQ's text when the disk is nearly full (RabbitMQ 4.3,
	// alarms).
	AlarmDisk = "low on disk"
	// AlarmStore says that nothing can be stored until the store is back.
	AlarmStore = "store out of service"
)

// Alarms are the reasons why the broker takes no messages at the moment. While
// there is one, whoever publishes is held back until there is none (RabbitMQ 4.3,
// alarms): consumers, and with them what makes room again, go on.
//
// The zero value has no alarm. Its methods may be called by anybody, under any
// lock; they do not block.
type Alarms struct {
	raised atomic.Bool // some alarm is

	mu      sync.Mutex // a leaf
	reasons []string   // sorted
	changed chan struct{}
}

// Raise adds an alarm, unless it is raised already.
func (a *Alarms) Raise(reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i, found := slices.BinarySearch(a.reasons, reason); !found {
		a.reasons = slices.Insert(a.reasons, i, reason)
		a.announceLocked()
	}
}

// Clear takes an alarm away, if it is raised.
func (a *Alarms) Clear(reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i, found := slices.BinarySearch(a.reasons, reason); found {
		a.reasons = slices.Delete(a.reasons, i, i+1)
		a.announceLocked()
	}
}

func (a *Alarms) announceLocked() {
	a.raised.Store(len(a.reasons) > 0)
	if a.changed != nil {
		close(a.changed)
		a.changed = nil
	}
}

// Raised says whether there is an alarm, for less than Current.
func (a *Alarms) Raised() bool { return a.raised.Load() }

// Reasons lists the reasons of all alarms, sorted.
func (a *Alarms) Reasons() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.reasons)
}

// Current returns the reasons of all alarms as one text, empty if there is none,
// and a channel that is closed when that changes.
func (a *Alarms) Current() (reason string, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	return strings.Join(a.reasons, " & "), a.changed
}
