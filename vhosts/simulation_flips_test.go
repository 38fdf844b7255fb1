// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What a store notices of damage done while it was stopped. Pebble takes damage
// near the end of its log, or of the list of its tables, for a write that was cut
// short by a crash, and drops what comes after.
const (
	logFlipsAreNoticed      = true // after an orderly stop
	manifestFlipsAreNoticed = true
)

// flipsAreNoticed says whether flips in a file have to be noticed.
func flipsAreNoticed(name string, orderly bool) bool {
	switch {
	case strings.HasSuffix(name, ".log"):
		return orderly && logFlipsAreNoticed
	case strings.Contains(name, "MANIFEST"):
		return manifestFlipsAreNoticed
	}
	return true
}

// damageMayEndProcess says whether Pebble may panic when a compaction meets
// damage, which it does for some kinds of keys. That is noticed, at least.
const damageMayEndProcess = false

// flipOutcome is what came of a bit that changed on disk.
type flipOutcome string

const (
	flipRefused  flipOutcome = "start refused"
	flipReported flipOutcome = "queue out of service"
	flipHarmless flipOutcome = "harmless"
	flipMissed   flipOutcome = "not noticed"
)

// TestBitFlips changes one bit anywhere on the disk of a broker that was stopped
// orderly, or had crashed, and starts it again: either that is noticed, or
// everything is there and right. The log is left out after a crash, as its end
// looks like what was being written then. Each history has a
// process of its own, because stores that refuse to start leave goroutines
// behind, and to survive panics.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	if text := os.Getenv(ownProcess); text != "" {
		var seed uint64
		var orderly bool
		var skip int
		if _, err := fmt.Sscan(text, &seed, &orderly, &skip); err != nil {
			t.Fatal(err)
		}
		flips(t, seed, orderly, skip)
		return
	}
	for seed := range seeds() {
		for _, orderly := range []bool{true, false} {
			t.Run(fmt.Sprintf("seed%d orderly %t", seed, orderly), func(t *testing.T) {
				t.Parallel()
				runFlips(t, seed, orderly)
			})
		}
	}
}

// runFlips makes a history and flips bits in a process of its own, and in a new
// one for those that are left if the process ends before.
func runFlips(t *testing.T, seed uint64, orderly bool) {
	for skip := 0; ; {
		output, err := runProcess(t, fmt.Sprint(seed, orderly, skip))
		if err == nil {
			return
		}
		panicked := regexp.MustCompile(`(?m)^panic: pebble: .*checksum mismatch`).FindString(output)
		begun := regexp.MustCompile(`(?m)^flip (\d+)$`).FindAllStringSubmatch(output, -1)
		if !damageMayEndProcess || panicked == "" || len(begun) == 0 {
			t.Errorf("%v:\n%s", err, output)
			return
		}
		t.Log(panicked)
		last, _ := strconv.Atoi(begun[len(begun)-1][1])
		skip = last + 1
	}
}

// flips makes a history and then flips bits of what it leaves, one at a time,
// the first ones left out.
func flips(t *testing.T, seed uint64, orderly bool, skip int) {
	rng := rand.New(rand.NewPCG(seed, 5))
	setup := randomSetup(rng)
	setup.memTableSize = 1 << 20
	s := newSimulation(seed, setup, 1)
	if seed%2 == 0 {
		s.largeBody = 60 << 10 // so that there are tables before the stop, too
	}
	s.run(60, 0)
	s.restart()
	s.run(60, 0)
	left := s.leave(orderly, rng)
	if s.verify(left.fs.CrashClone(vfs.CrashCloneCfg{}), left.windows, orderly); s.report() != "" {
		t.Fatal(s.report())
	}
	outcomes := map[flipOutcome]int{}
	number := 0
	for _, name := range filesIn(t, left.fs, "") {
		if !flipsAreNoticed(name, orderly) {
			continue
		}
		for range flipsPerFile {
			fs := left.fs.CrashClone(vfs.CrashCloneCfg{})
			data, err := fs.UnsafeGetFileDataBuffer(name)
			if err != nil {
				t.Fatal(err)
			}
			if len(data) == 0 {
				break
			}
			at, bit := rng.IntN(len(data)), rng.IntN(8)
			data[at] ^= 1 << bit
			if number++; number <= skip {
				continue
			}
			fmt.Println("flip", number-1) // for runFlips, should the process end here
			outcome, why := s.afterFlip(fs, left.windows, orderly)
			outcomes[outcome]++
			if outcome == flipMissed {
				t.Errorf("bit %d of byte %d of %d of %s is not noticed: %s", bit, at, len(data), name, why)
			}
		}
	}
	t.Log(outcomes)
}

// flipsPerFile is how many bits are flipped in each file, one at a time.
const flipsPerFile = 6

// leave stops orderly, or crashes when everything so far is on disk.
func (s *simulation) leave(orderly bool, rng *rand.Rand) simCrash {
	if orderly {
		left, _ := s.end()
		return left
	}
	for _, c := range s.clients {
		c.barrier()
	}
	left := s.cut(rng)
	s.stop()
	return left
}

// afterFlip starts a broker on a disk with a flipped bit and reads all it has.
func (s *simulation) afterFlip(fs *vfs.MemFS, windows []simWindow, orderly bool) (outcome flipOutcome, why string) {
	b, log, err := s.simSetup.open(fs, false)
	if err != nil {
		return flipRefused, ""
	}
	defer b.close()
	found, err := readContents(b, log)
	if errors.Is(err, errDamaged) {
		return flipReported, ""
	}
	if err != nil {
		return flipMissed, err.Error()
	}
	var problems []string
	for i, c := range s.clients {
		_, wrong := c.match(found.part(c.prefix), windows[i], orderly)
		problems = append(problems, wrong...)
	}
	problems = slices.Concat(problems, found.lines)
	if len(problems) > 0 {
		return flipMissed, strings.Join(problems, "\n  ")
	}
	return flipHarmless, ""
}
