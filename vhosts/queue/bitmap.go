// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import "math/bits"

// Bitmap has one bit for every message of a run, the run's first message in the
// lowest bit of word 0.
type Bitmap [MaxRunMessages / 64]uint64

// Has reports bit i.
func (b *Bitmap) Has(i uint32) bool { return b[i>>6]&(1<<(i&63)) != 0 }

// Set sets bit i.
func (b *Bitmap) Set(i uint32) { b[i>>6] |= 1 << (i & 63) }

// Clear clears bit i.
func (b *Bitmap) Clear(i uint32) { b[i>>6] &^= 1 << (i & 63) }

// SetRange sets the bits from..to-1.
func (b *Bitmap) SetRange(from, to uint32) {
	for w := from >> 6; from < to; w++ {
		end := min(to, (w+1)<<6)
		b[w] |= ^uint64(0) >> (64 - (end - from)) << (from & 63)
		from = end
	}
}

// SetAll sets the bits that are set in other.
func (b *Bitmap) SetAll(other *Bitmap) {
	for w := range b {
		b[w] |= other[w]
	}
}

// ClearAll clears the bits that are set in other.
func (b *Bitmap) ClearAll(other *Bitmap) {
	for w := range b {
		b[w] &^= other[w]
	}
}

// Count is the number of set bits.
func (b *Bitmap) Count() uint32 {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return uint32(n)
}

// NextClear is the first clear bit at or after i, or limit if there is none
// before it.
func (b *Bitmap) NextClear(i, limit uint32) uint32 {
	for i < limit {
		if w := ^b[i>>6] >> (i & 63); w != 0 {
			return min(limit, i+uint32(bits.TrailingZeros64(w)))
		}
		i = (i>>6 + 1) << 6
	}
	return limit
}

// NextSet is the first set bit at or after i, or limit if there is none before
// it.
func (b *Bitmap) NextSet(i, limit uint32) uint32 {
	for i < limit {
		if w := b[i>>6] >> (i & 63); w != 0 {
			return min(limit, i+uint32(bits.TrailingZeros64(w)))
		}
		i = (i>>6 + 1) << 6
	}
	return limit
}
