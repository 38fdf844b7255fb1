// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"math"
	"time"
)

// maxArrears bounds how much a pacer that was held up may catch up on: after a
// longer stall the load goes on at its rate instead of arriving all at once.
const maxArrears = time.Second

// unlimited is how many messages a pacer without a rate allows at once.
const unlimited = math.MaxInt

// pacer spreads messages evenly at a constant rate. Its owner tells it the time.
// A nil pacer does not limit.
type pacer struct {
	perSecond float64
	from      time.Time // when the count in taken began
	taken     float64
}

// newPacer returns a pacer whose first message is due at now, or nil when
// perSecond is 0.
func newPacer(perSecond float64, now time.Time) *pacer {
	if perSecond <= 0 {
		return nil
	}
	return &pacer{perSecond: perSecond, from: now}
}

// due returns how many messages may pass at now. The caller reports with take
// how many did.
func (p *pacer) due(now time.Time) int {
	if p == nil {
		return unlimited
	}
	most := 1 + p.perSecond*maxArrears.Seconds()
	earned := p.earned(now)
	if arrears := earned - p.taken; arrears > most {
		p.taken = earned - most
	}
	return int(math.Max(0, math.Floor(earned-p.taken)))
}

// take counts n messages as passed.
func (p *pacer) take(n int) {
	if p != nil {
		p.taken += float64(n)
	}
}

// wait returns how long after now the next message is due.
func (p *pacer) wait(now time.Time) time.Duration {
	if p == nil {
		return 0
	}
	missing := p.taken + 1 - p.earned(now)
	return time.Duration(math.Max(0, math.Ceil(missing/p.perSecond*float64(time.Second))))
}

// earned returns how many messages were due from the start up to now.
func (p *pacer) earned(now time.Time) float64 {
	return 1 + now.Sub(p.from).Seconds()*p.perSecond
}
