// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"testing"

	"github.com/lagomq/lagomq/amqp/wire"
)

// plainSettings are those of a classic queue without arguments.
func plainSettings() settings {
	return settings{messageTTL: unset, maxLength: unset, maxBytes: unset, deliveryLimit: unset}
}

func TestSettingsOfArguments(t *testing.T) {
	t.Parallel()
	quorum := plainSettings()
	quorum.deliveryLimit, quorum.consumerTimeout, quorum.priorities = 20, 1_800_000, 31
	for _, test := range []struct {
		name      string
		arguments wire.Table
		change    func(*settings)
	}{
		{"none", nil, func(*settings) {}},
		{"numbers of any width", wire.Table{
			{Name: "x-message-ttl", Value: int8(0)}, {Name: "x-expires", Value: uint16(5)},
			{Name: "x-max-length", Value: int32(7)}, {Name: "x-max-length-bytes", Value: int64(8)},
		}, func(s *settings) { s.messageTTL, s.expires, s.maxLength, s.maxBytes = 0, 5, 7, 8 }},
		{"words", wire.Table{
			{Name: "x-overflow", Value: "reject-publish-dlx"}, {Name: "x-single-active-consumer", Value: true},
			{Name: "x-dead-letter-exchange", Value: ""}, {Name: "x-dead-letter-routing-key", Value: "k"},
		}, func(s *settings) {
			s.overflow, s.singleActive = rejectPublishDLX, true
			s.deadLetters = &deadLetterTarget{key: "k", rekeyed: true}
		}},
		{"no priorities act as one", wire.Table{{Name: "x-max-priority", Value: 0}}, func(s *settings) { s.priorities = 1 }},
		{"quorum", wire.Table{{Name: "x-queue-type", Value: "quorum"}}, func(s *settings) { *s = quorum }},
		{"quorum, unlimited", wire.Table{
			{Name: "x-queue-type", Value: "quorum"}, {Name: "x-delivery-limit", Value: -7},
			{Name: "x-consumer-timeout", Value: 10}, {Name: "x-delayed-retry-type", Value: "failed"},
			{Name: "x-delayed-retry-min", Value: 1}, {Name: "x-delayed-retry-max", Value: 2},
			{Name: "x-dead-letter-strategy", Value: "at-least-once"},
		}, func(s *settings) {
			*s = quorum
			s.deliveryLimit, s.consumerTimeout, s.deadLetterStrategy = unset, 10, atLeastOnce
			s.retry = retrySettings{retryFailed, 1, 2}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			want, got := plainSettings(), *settingsOf(test.arguments, AppliedPolicies{})
			test.change(&want)
			if want.deadLetters != nil && got.deadLetters != nil {
				if *want.deadLetters != *got.deadLetters {
					t.Errorf("dead letters go to %+v, want %+v", *got.deadLetters, *want.deadLetters)
				}
				want.deadLetters = got.deadLetters
			}
			if got != want {
				t.Errorf("settings are %+v, want %+v", got, want)
			}
		})
	}
}
