// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "testing"

// TestMalformedMessagePath cuts and extends the arguments of each method of
// the message path: no length but the right one is accepted.
func TestMalformedMessagePath(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		method Method
		parse  func(args []byte) *Error
	}{
		{&BasicPublish{Exchange: "ex", RoutingKey: "key"}, func(args []byte) *Error { _, err := ParsePublish(args); return err }},
		{&BasicAck{DeliveryTag: 1}, func(args []byte) *Error { _, _, err := ParseAck(args); return err }},
		{&BasicNack{DeliveryTag: 1}, func(args []byte) *Error { _, _, _, err := ParseNack(args); return err }},
		{&BasicReject{DeliveryTag: 1}, func(args []byte) *Error { _, _, err := ParseReject(args); return err }},
	} {
		t.Run(tc.method.ID().String(), func(t *testing.T) {
			t.Parallel()
			args := tc.method.append(nil)
			if err := tc.parse(args); err != nil {
				t.Fatalf("% x: %v", args, err)
			}
			long := append(args[:len(args):len(args)], 0)
			for n := range len(long) + 1 {
				if n == len(args) {
					continue
				}
				want := cannotDecode(tc.method.ID(), long[:n])
				if err := tc.parse(long[:n]); err == nil || *err != *want {
					t.Errorf("% x: %v, want %v", long[:n], err, want)
				}
			}
		})
	}
}

// TestSendersOfAdditions covers the methods that the specification test
// cannot.
func TestSendersOfAdditions(t *testing.T) {
	t.Parallel()
	for id, client := range map[MethodID]bool{
		IDConnectionBlocked: false, IDConnectionUnblocked: false,
		IDConnectionUpdateSecret: true, IDConnectionUpdateSecretOk: false,
		IDAccessRequest: true, IDAccessRequestOk: false, 0: false,
	} {
		if FromClient(id) != client || id.HasContent() {
			t.Errorf("%v: FromClient() = %t, HasContent() = %t", id, FromClient(id), id.HasContent())
		}
	}
}
