// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts_test

import (
	"testing"

	"github.com/lagomq/lagomq/vhosts"
)

func TestAlarms(t *testing.T) {
	t.Parallel()
	var alarms vhosts.Alarms
	const disk, store = vhosts.AlarmDisk, vhosts.AlarmStore
	for i, step := range []struct {
		do      func(reason string)
		reason  string
		want    string
		changes bool
	}{
		{alarms.Clear, disk, "", false},
		{alarms.Raise, store, "store out of service", true},
		{alarms.Raise, store, "store out of service", false},
		{alarms.Raise, disk, "low on disk & store out of service", true},
		{alarms.Clear, store, "low on disk", true},
		{alarms.Clear, store, "low on disk", false},
		{alarms.Clear, disk, "", true},
	} {
		_, changed := alarms.Current()
		step.do(step.reason)
		got, _ := alarms.Current()
		if got != step.want || alarms.Raised() != (step.want != "") {
			t.Errorf("step %d: alarms are %q, raised %v; want %q", i, got, alarms.Raised(), step.want)
		}
		told := false
		select {
		case <-changed:
			told = true
		default:
		}
		if told != step.changes {
			t.Errorf("step %d: told of a change: %v, want %v", i, told, step.changes)
		}
	}
}
