// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, never negative when it was parsed.
type Size int64

// The units a Size is written in.
const (
	Byte Size = 1
	KiB       = 1024 * Byte
	MiB       = 1024 * KiB
	GiB       = 1024 * MiB
)

// sizeUnits goes from the largest to the smallest, so that String finds the
// largest that divides and ParseSize tries "KiB" before its ending "B".
var sizeUnits = []struct {
	name string
	size Size
}{
	{"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"B", Byte},
}

var errSize = errors.New("not a size such as 65536, 512KiB or 64MiB")

// ParseSize reads a whole number of bytes, KiB, MiB or GiB: "65536", "64MiB",
// "64 MiB". Decimal units (MB) are refused rather than guessed at.
func ParseSize(text string) (Size, error) {
	digits, unit := strings.TrimSpace(text), Byte
	for _, u := range sizeUnits {
		if rest, found := strings.CutSuffix(digits, u.name); found {
			digits, unit = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || Size(n) > math.MaxInt64/unit {
		return 0, errSize
	}
	return Size(n) * unit, nil
}

// String writes s in the largest unit that divides it, as ParseSize reads it.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && s%u.size == 0 && u.size > Byte {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
