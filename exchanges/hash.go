// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

// What the hashing exchange types share. A hash decides which queue a message
// goes to, also after a restart and in later versions: none of this may change.

// offset and prime of FNV-1a with 64 bits.
const (
	hashOffset = 14695981039346656037
	hashPrime  = 1099511628211
)

// hashBytes goes on from h, first hashOffset, with FNV-1a.
func hashBytes[S []byte | string](h uint64, s S) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * hashPrime
	}
	return h
}

// mix spreads what differs between two numbers over all bits (the finalizer of
// SplitMix64); FNV alone leaves its upper bits almost alone for short keys.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// hashDestination is a number for the destination of a binding that depends on
// its kind and name only.
func (b *binding[Q]) hashDestination() uint64 {
	kind := "queue/"
	if b.exchange != nil {
		kind = "exchange/"
	}
	return mix(hashBytes(hashBytes(hashOffset, kind), b.destination()))
}
