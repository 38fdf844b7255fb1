// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

// Wait is why a consumer gets no message now. Its text is for operators.
type Wait string

// The reasons to wait, the consumer's own first.
const (
	WaitNot        Wait = ""                       // it is about to get some
	WaitPassive    Wait = "waiting"                // another one is the single active consumer
	WaitYielding   Wait = "giving way"             // it gives way to a consumer of a higher priority
	WaitPrefetch   Wait = "prefetch full"          // it holds as many messages as it may
	WaitChannel    Wait = "channel prefetch full"  // its channel does
	WaitConnection Wait = "connection buffer full" // what it got already was not written yet
	WaitPriority   Wait = "lower priority"         // consumers of a higher priority take all there is
	WaitMessages   Wait = "no ready messages"
	WaitPage       Wait = "page loading" // the next message is read from disk
)

// Waits says why c gets no message now.
func (e *Engine) Waits(c *Consumer) Wait {
	if e.Single != AllActive && c != e.active {
		return WaitPassive
	}
	if e.yielding {
		return WaitYielding
	}
	if w := c.held(); w != WaitNot {
		return w
	}
	for i := range e.ranks {
		r := &e.ranks[i]
		if r.priority <= c.Priority {
			break
		}
		for _, higher := range r.consumers {
			if higher.held() == WaitNot {
				return WaitPriority
			}
		}
	}
	l := e.readiest()
	if l == nil {
		return WaitMessages
	}
	if l.nextReady().run.Page == nil {
		return WaitPage
	}
	return WaitNot
}

// held says what of its own keeps the consumer from getting a message.
func (c *Consumer) held() Wait {
	if c.credit(1) == 0 {
		return WaitPrefetch
	}
	return c.Sink.Waits()
}
